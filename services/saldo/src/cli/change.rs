//! The common part of every command that changes an account: the id of the request, patience, the refusal explained, and the
//! answer printed.

use std::{fmt::Display, process::ExitCode};

use anstream::{eprintln, println};
use clap::Args;
use saldo_api::v1;
use serde_json::{Value, json};
use tonic::{Code, Status};
use uuid::Uuid;

use super::refusal;
use crate::{
    Failure, Outcome,
    client::{ClientRequest, Clients, Target, is_transient},
};

/// Flags of a command that changes an account.
#[derive(Args)]
pub struct Change {
    /// Your id of this request. The same request with the same id has one effect, however often it is sent. Without it
    /// one is made.
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

/// A change, ready to be sent.
pub struct Changing {
    pub clients: Clients,
    request_id: String,
    json: bool,
}

impl Change {
    pub async fn connect(self) -> Result<Changing, Failure> {
        let clients = self.target.connect().await?;
        let request_id = self.request_id.unwrap_or_else(|| Uuid::new_v4().to_string());
        Ok(Changing { clients, request_id, json: self.json })
    }
}

impl Changing {
    pub fn request_id(&self) -> String {
        self.request_id.clone()
    }

    /// Sends the request until it is answered, and waits until queries show what it did.
    pub async fn send<R: ClientRequest<Answer = v1::CommandResponse>>(
        &self,
        request: R,
    ) -> Result<v1::CommandResponse, Failure> {
        self.send_naming(request, &[]).await
    }

    /// The same for a request some of whose fields this command names in its own way: field and flag.
    pub async fn send_naming<R: ClientRequest<Answer = v1::CommandResponse>>(
        &self,
        request: R,
        names: refusal::Names<'_>,
    ) -> Result<v1::CommandResponse, Failure> {
        let answer = self.clients.ask_patiently(request).await.map_err(|status| self.unanswered(&status, names))?;
        self.wait_until_shown(&answer.consistency_token).await;
        Ok(answer)
    }

    /// Why there is no answer. While the outcome is unknown, the same id is the way to ask again.
    fn unanswered(&self, status: &Status, names: refusal::Names<'_>) -> String {
        let explained = refusal::explained_naming(status, names);
        if is_transient(status) {
            format!("{explained}; send the same again with --request-id {}, which is safe", self.request_id)
        } else {
            explained
        }
    }

    /// The change stands, whatever the read models say. A token without the role reader cannot wait, nor can a process that
    /// serves no queries.
    async fn wait_until_shown(&self, token: &str) {
        let request =
            v1::ListRemindersRequest { consistency_token: token.to_owned(), page_size: 1, ..Default::default() };
        match self.clients.ask(request).await {
            Err(status) if !matches!(status.code(), Code::PermissionDenied | Code::Unimplemented) => {
                eprintln!("recorded; queries do not show it yet: {}", status.message());
            }
            _ => {}
        }
    }

    /// Prints what was done: the text for people, or these fields and those of every answer.
    pub fn print(&self, answer: &v1::CommandResponse, fields: Value, text: impl Display) -> Outcome {
        if self.json {
            let mut whole = json!({
                "request_id": self.request_id, "version": answer.version, "events": answer.event_types,
                "replayed": answer.replayed, "consistency_token": answer.consistency_token,
            });
            if let (Some(whole), Value::Object(fields)) = (whole.as_object_mut(), fields) {
                whole.extend(fields);
            }
            println!("{whole}");
        } else {
            println!("{text}");
            if answer.replayed {
                println!("this request was carried out before; nothing was changed now");
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The answer of a query that must succeed.
pub async fn ask<R: ClientRequest>(clients: &Clients, request: R) -> Result<R::Answer, Failure> {
    clients.ask(request).await.map_err(|status| refusal::explained(&status).into())
}
