//! The mails in a browser. Everything in a mail comes from outside: it is escaped, and its HTML stands in a frame of its own
//! that may do nothing. The pages themselves need no script.

use std::{io, sync::Arc};

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderValue, StatusCode, header, uri::Authority},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use jiff::{Timestamp, tz::TimeZone};
use minijinja::{Environment, UndefinedBehavior, Value, value::Serde};
use serde::Serialize;
use tokio::task::spawn_blocking;

use crate::{is_this_machine, received::Received, store::Store};

/// Most mails on the page, the newest: more is not looked through by eye. `/api/messages` gives all.
const LISTED: usize = 200;

/// For our own pages: our style sheet, and frames from here.
const PAGE_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);
/// The policy for a mail's HTML: its own styles and nothing else. A script, a form or a picture could tell that the mail was
/// read.
const MAIL_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'; sandbox",
);

const LIST: &str = "list.html";
const MESSAGE: &str = "message.html";

struct Pages {
    store: Arc<Store>,
    templates: Environment<'static>,
    for_this_machine: bool,
}

/// A mail in the list.
#[derive(Serialize)]
struct Row {
    number: u64,
    received_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    shown_at: Option<String>,
    envelope_from: String,
    envelope_to: Vec<String>,
    from: Vec<String>,
    to: Vec<String>,
    subject: Option<String>,
    date: Option<Timestamp>,
    message_id: Option<String>,
    bytes: usize,
}

/// The list, newest first.
#[derive(Serialize)]
struct List {
    taken: u64,
    messages: Vec<Row>,
}

/// A mail by itself.
#[derive(Serialize)]
struct Shown<'m> {
    #[serde(flatten)]
    row: Row,
    older: Option<u64>,
    newer: Option<u64>,
    text: Option<&'m str>,
    html: bool,
    headers: &'m [(String, String)],
}

/// The pages. Those `for_this_machine` are shown under its own names only: a foreign page whose name was made to point here
/// must not read them.
pub(crate) fn pages(store: Arc<Store>, for_this_machine: bool) -> io::Result<Router> {
    let mut templates = Environment::new();
    templates.set_undefined_behavior(UndefinedBehavior::Strict);
    // MiniJinja escapes by the name's ending.
    templates.add_template(LIST, include_str!("web/list.html")).map_err(io::Error::other)?;
    templates.add_template(MESSAGE, include_str!("web/message.html")).map_err(io::Error::other)?;
    let pages = Arc::new(Pages { store, templates, for_this_machine });
    let router = Router::new()
        .route("/", get(list))
        .route("/message/{number}", get(message))
        .route("/message/{number}/html", get(html))
        .route("/message/{number}/raw", get(raw))
        .route("/api/messages", get(api))
        .route("/style.css", get(style))
        .layer(middleware::from_fn_with_state(pages.clone(), guard))
        .with_state(pages);
    Ok(router)
}

/// Checks the origin of a request, and tells the browser what it may do with the answer.
async fn guard(State(pages): State<Arc<Pages>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.and_then(|host| host.parse::<Authority>().ok());
    if pages.for_this_machine && !host.is_some_and(|host| is_this_machine(host.host())) {
        return (StatusCode::MISDIRECTED_REQUEST, "these pages are this machine's; ask for localhost\n")
            .into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(PAGE_POLICY);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn list(State(pages): State<Arc<Pages>>) -> Response {
    let newest = pages.store.newest(LISTED);
    let messages = newest.iter().rev().map(|mail| Row::of(mail).shown()).collect();
    pages.render(LIST, &List { taken: pages.store.taken(), messages })
}

async fn message(State(pages): State<Arc<Pages>>, Path(number): Path<u64>) -> Response {
    let Some(mail) = pages.store.find(number) else { return gone(number) };
    let parsed = mail.parsed();
    let other = |number: Option<u64>| number.filter(|number| pages.store.find(*number).is_some());
    let shown = Shown {
        row: Row::of(&mail).shown(),
        older: other(number.checked_sub(1)),
        newer: other(number.checked_add(1)),
        text: parsed.text.as_deref(),
        html: parsed.html.is_some(),
        headers: &parsed.headers,
    };
    pages.render(MESSAGE, &shown)
}

async fn html(State(pages): State<Arc<Pages>>, Path(number): Path<u64>) -> Response {
    let Some(mail) = pages.store.find(number) else { return gone(number) };
    match mail.parsed().html.clone() {
        Some(html) => ([(header::CONTENT_SECURITY_POLICY, MAIL_POLICY)], Html(html)).into_response(),
        None => (StatusCode::NOT_FOUND, format!("mail {number} has no HTML\n")).into_response(),
    }
}

async fn raw(State(pages): State<Arc<Pages>>, Path(number): Path<u64>) -> Response {
    let Some(mail) = pages.store.find(number) else { return gone(number) };
    ([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], mail.raw.clone()).into_response()
}

async fn api(State(pages): State<Arc<Pages>>) -> Response {
    // Thousands of mails may be read here for the first time.
    let written = spawn_blocking(move || {
        let newest = pages.store.newest(usize::MAX);
        let messages = newest.iter().rev().map(|mail| Row::of(mail)).collect();
        serde_json::to_vec(&List { taken: pages.store.taken(), messages })
    });
    match written.await {
        Ok(Ok(json)) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Ok(Err(error)) => failed(&error),
        Err(error) => failed(&error),
    }
}

async fn style() -> Response {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], include_str!("web/style.css")).into_response()
}

fn gone(number: u64) -> Response {
    (StatusCode::NOT_FOUND, format!("mail {number} is not here: not yet, or no longer\n")).into_response()
}

fn failed(error: &dyn std::error::Error) -> Response {
    tracing::error!(%error, "a page of the mail sink could not be written");
    (StatusCode::INTERNAL_SERVER_ERROR, "the page could not be written; the log says why\n").into_response()
}

impl Pages {
    fn render(&self, template: &str, page: &impl Serialize) -> Response {
        let template = self.templates.get_template(template);
        match template.and_then(|template| template.render(Value::from(Serde(page)))) {
            Ok(page) => Html(page).into_response(),
            Err(error) => failed(&error),
        }
    }
}

impl Row {
    fn of(mail: &Received) -> Self {
        let parsed = mail.parsed();
        Self {
            number: mail.number,
            received_at: mail.received_at,
            shown_at: None,
            envelope_from: mail.envelope_from.clone(),
            envelope_to: mail.envelope_to.clone(),
            from: parsed.from.clone(),
            to: parsed.to.clone(),
            subject: parsed.subject.clone(),
            date: parsed.date,
            message_id: parsed.message_id.clone(),
            bytes: mail.raw.len(),
        }
    }

    /// With the instant as people here read it.
    fn shown(mut self) -> Self {
        let zoned = self.received_at.to_zoned(TimeZone::system());
        self.shown_at = Some(zoned.strftime("%Y-%m-%d %H:%M:%S").to_string());
        self
    }
}
