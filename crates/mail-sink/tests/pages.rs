//! The pages, as a browser gets them.

use std::{net::SocketAddr, time::Duration};

use saldo_mail_sink::{MAX_KEPT, MailSink};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

struct Answer {
    status: u16,
    header: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        let found = self.header.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("{name} is missing in:\n{}", self.header))
    }
}

async fn exchange(address: SocketAddr, sent: &str) -> String {
    let (mut read, mut write) = TcpStream::connect(address).await.expect("a connection").into_split();
    let mut answer = String::new();
    // At once: who writes much and reads nothing meanwhile would not be read on either.
    let both = async { tokio::join!(write.write_all(sent.as_bytes()), read.read_to_string(&mut answer)) };
    let (written, read) = timeout(Duration::from_secs(20), both).await.expect("it closes in time");
    written.expect("written");
    read.expect("an answer");
    answer
}

async fn get_as(sink: &MailSink, path: &str, host: &str) -> Answer {
    let web = sink.web_address().expect("pages");
    let answer = exchange(web, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
    let (header, body) = answer.split_once("\r\n\r\n").expect("an answer");
    let status = header.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, header: header.to_owned(), body: body.to_owned() }
}

async fn get(sink: &MailSink, path: &str) -> Answer {
    get_as(sink, path, "localhost:8025").await
}

async fn sink() -> MailSink {
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    MailSink::start(anywhere, Some(anywhere)).await.expect("a sink")
}

/// Sends messages as they stand, in one go.
async fn send(sink: &MailSink, messages: &[&str]) {
    let mut sent = "EHLO x\r\n".to_owned();
    for message in messages {
        sent += "MAIL FROM:<\"<i>&'\"@example.com>\r\nRCPT TO:<\"<u>\"@example.org>\r\nDATA\r\n";
        sent += &format!("{message}\r\n.\r\n");
    }
    let answers = exchange(sink.smtp_address(), &format!("{sent}QUIT\r\n")).await;
    assert_eq!(answers.matches("taken as").count(), messages.len(), "{answers}");
}

const HOSTILE: &str = "Subject: <script>alert(1)</script> \"'&\r\n\
    From: \"<script>f\" <f@example.com>\r\n\
    To: <script>t</script> <t@example.com>\r\n\
    Message-ID: <<script>m</script>@example.com>\r\n\
    X-Hostile: </dd><script>x</script>\r\n\
    MIME-Version: 1.0\r\n\
    Content-Type: multipart/alternative; boundary=b\r\n\r\n\
    --b\r\nContent-Type: text/plain\r\n\r\n</pre><script>text</script>\r\n\
    --b\r\nContent-Type: text/html\r\n\r\n<p onclick=x>html<script>html</script>\r\n--b--";

#[tokio::test]
async fn nothing_in_a_mail_becomes_part_of_a_page() {
    let sink = sink().await;
    send(&sink, &[HOSTILE]).await;
    for path in ["/", "/message/1"] {
        let page = get(&sink, path).await;
        assert_eq!(page.status, 200);
        assert!(!page.body.contains("<script"), "{}", page.body);
        assert!(!page.body.contains("<u>") && !page.body.contains("<i>"), "{}", page.body);
        assert!(page.body.contains("&lt;script&gt;alert(1)&lt;&#x2f;script&gt; &quot;&#x27;&amp;"), "{}", page.body);
        assert!(page.header("content-security-policy").starts_with("default-src 'none'; style-src 'self';"));
    }
    let message = get(&sink, "/message/1").await.body;
    assert!(message.contains("<iframe src=\"/message/1/html\" sandbox=\"\""), "{message}");
    assert!(message.contains("&lt;&#x2f;pre&gt;&lt;script&gt;text"), "{message}");
}

#[tokio::test]
async fn a_mails_html_may_do_nothing() {
    let sink = sink().await;
    send(&sink, &[HOSTILE, "Subject: text\r\n\r\nonly"]).await;
    let html = get(&sink, "/message/1/html").await;
    assert_eq!(html.body.trim_end(), "<p onclick=x>html<script>html</script>");
    let policy = html.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; style-src 'unsafe-inline';") && policy.ends_with("; sandbox"),
        "{policy}"
    );
    assert_eq!(html.header("content-type"), "text/html; charset=utf-8");
    assert_eq!(html.header("x-content-type-options"), "nosniff");
    assert_eq!(get(&sink, "/message/2/html").await.status, 404);
    assert!(!get(&sink, "/message/2").await.body.contains("<iframe"));
}

#[tokio::test]
async fn the_raw_mail_is_text_whatever_it_says() {
    let sink = sink().await;
    let message = "Content-Type: text/html\r\n\r\n<script>alert(1)</script>";
    send(&sink, &[message]).await;
    let raw = get(&sink, "/message/1/raw").await;
    assert_eq!(raw.body, format!("{message}\r\n"));
    assert_eq!(raw.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(raw.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn the_newest_comes_first() {
    let sink = sink().await;
    assert!(get(&sink, "/").await.body.contains("Nothing yet"));
    send(&sink, &["Subject: first\r\n\r\nx", "Subject: second\r\n\r\nx", "\r\nno header"]).await;
    let page = get(&sink, "/").await.body;
    let places = ["(no subject)", "second", "first"].map(|subject| page.find(&format!(">{subject}</a>")));
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{page}");
    let json: serde_json::Value = serde_json::from_str(&get(&sink, "/api/messages").await.body).expect("JSON");
    assert_eq!(json["taken"], 3);
    assert_eq!(json["messages"][1]["subject"], "second");
    assert_eq!(json["messages"][1]["number"], 2);
    assert_eq!(json["messages"][2]["envelope_to"][0], "\"<u>\"@example.org");
}

#[tokio::test]
async fn a_long_list_shows_the_newest() {
    let sink = sink().await;
    send(&sink, &vec!["Subject: one of many\r\n\r\nx"; MAX_KEPT + 1]).await;
    let page = get(&sink, "/").await.body;
    assert!(page.contains("10001 mails taken, none sent on; the newest 200"), "{page}");
    assert_eq!(page.matches("one of many").count(), 200);
    let json: serde_json::Value = serde_json::from_str(&get(&sink, "/api/messages").await.body).expect("JSON");
    assert_eq!(json["messages"].as_array().map(Vec::len), Some(MAX_KEPT));
    assert_eq!(get(&sink, "/message/1").await.status, 404, "it was pushed out");
}

#[tokio::test]
async fn what_is_not_there_is_said_not_to_be() {
    let sink = sink().await;
    for (path, status) in [
        ("/message/1", 404),
        ("/message/1/raw", 404),
        ("/message/1/html", 404),
        ("/message/-1", 400),
        ("/message/x%0d%0ay", 400),
        ("/other", 404),
        ("/style.css", 200),
    ] {
        assert_eq!(get(&sink, path).await.status, status, "{path}");
    }
}

/// A foreign page whose name was made to point to this machine (DNS rebinding) asks under that name.
#[tokio::test]
async fn a_foreign_name_is_not_answered() {
    let sink = sink().await;
    for (host, status) in [
        ("localhost:8025", 200),
        ("127.0.0.1", 200),
        ("[::1]:8025", 200),
        ("evil.example.com", 421),
        ("localhost.example.com", 421),
        ("192.0.2.1", 421),
        ("user@evil.example.com", 421),
    ] {
        assert_eq!(get_as(&sink, "/", host).await.status, status, "{host}");
    }
}

#[tokio::test]
async fn it_stops_though_a_browser_holds_its_connection() {
    let sink = sink().await;
    let mut browser = TcpStream::connect(sink.web_address().expect("pages")).await.expect("a connection");
    browser.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("written");
    let mut first = [0; 12];
    browser.read_exact(&mut first).await.expect("an answer");
    assert_eq!(&first, b"HTTP/1.1 200");
    timeout(Duration::from_secs(20), sink.stop()).await.expect("it stops");
}
