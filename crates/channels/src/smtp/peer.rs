//! A mail server that follows a script, for tests.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, split},
    net::TcpListener,
    sync::watch,
};

use tokio_rustls::TlsAcceptor;

use super::Server;

/// What the peer does at a moment instead of agreeing.
#[derive(Clone, Copy)]
pub(super) enum Trouble {
    /// Says this.
    Says(&'static str),
    /// Says this, and drops the line.
    SaysAndDrops(&'static str),
    /// Drops the line.
    Drops,
    /// Says nothing more.
    Sleeps,
}

/// Where in the conversations.
pub(super) struct Moment<'m> {
    /// Which connection, counted from 1.
    pub(super) connection: usize,
    /// Which mail on it, counted from 1; 0 before the first.
    pub(super) mail: usize,
    /// `greeting`, a command, or `message`.
    pub(super) stage: &'m str,
}

/// What reached the peer.
#[derive(Debug, Default, Clone)]
pub(super) struct Heard {
    /// Each command line with its connection.
    pub(super) commands: Vec<(usize, String)>,
    /// What came after DATA.
    pub(super) messages: String,
    /// How many connections there were.
    pub(super) connections: usize,
    /// How many there are.
    pub(super) open: usize,
    /// How many there were at most at a time.
    pub(super) most_open: usize,
}

pub(super) struct Peer {
    pub(super) server: Server,
    heard: Arc<watch::Sender<Heard>>,
}

type Script = Arc<dyn Fn(Moment<'_>) -> Option<Trouble> + Send + Sync>;

impl Peer {
    /// Answers each command with success, save where the script says otherwise.
    pub(super) async fn start(script: impl Fn(Moment<'_>) -> Option<Trouble> + Send + Sync + 'static) -> Self {
        Self::listen(None, script).await
    }

    /// The same over TLS from the first byte, as `localhost`, which asks who is there.
    pub(super) async fn start_secured(acceptor: TlsAcceptor) -> Self {
        let offers =
            |moment: Moment<'_>| (moment.stage == "EHLO").then_some(Trouble::Says("250-peer\r\n250 AUTH PLAIN"));
        Self::listen(Some(acceptor), offers).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        script: impl Fn(Moment<'_>) -> Option<Trouble> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let heard = Arc::new(watch::Sender::new(Heard::default()));
        let (hearing, script): (_, Script) = (heard.clone(), Arc::new(script));
        let url = match tls {
            None => format!("smtp://127.0.0.1:{port}?tls=none"),
            Some(_) => format!("smtps://ana:s%3Acret@localhost:{port}"),
        };
        tokio::spawn(async move {
            for connection in 1.. {
                let (stream, _) = listener.accept().await.expect("a client");
                hearing.send_modify(|heard| {
                    heard.connections = connection;
                    heard.open += 1;
                    heard.most_open = heard.most_open.max(heard.open);
                });
                let (hearing, script, tls) = (hearing.clone(), script.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(connection, stream, &script, &hearing).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(connection, stream, &script, &hearing).await;
                            }
                        }
                    }
                    hearing.send_modify(|heard| heard.open -= 1);
                });
            }
        });
        let mut server: Server = url.parse().expect("a server");
        server.patience = Duration::from_millis(500);
        Self { server, heard }
    }

    /// What it has heard until now.
    pub(super) fn heard(&self) -> Heard {
        self.heard.borrow().clone()
    }

    /// Waits for it to have heard something.
    pub(super) async fn until(&self, what: impl Fn(&Heard) -> bool) -> Heard {
        let mut heard = self.heard.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(20), heard.wait_for(|heard| what(heard))).await;
        found.expect("it is heard in time").expect("the peer lives").clone()
    }
}

async fn converse(
    connection: usize,
    stream: impl AsyncRead + AsyncWrite,
    script: &Script,
    heard: &watch::Sender<Heard>,
) {
    let (read, mut write) = split(stream);
    let mut lines = BufReader::new(read).lines();
    let (mut stage, mut mail) = ("greeting".to_owned(), 0);
    loop {
        let usual = match stage.as_str() {
            "greeting" => "220 peer ready",
            "EHLO" => "250-peer\r\n250 8BITMIME",
            "DATA" => "354 go ahead",
            "message" => "250 2.0.0 queued as 42",
            "QUIT" => "221 bye",
            _ => "250 ok",
        };
        let (answer, drops) = match script(Moment { connection, mail, stage: &stage }) {
            None => (usual, stage == "QUIT"),
            Some(Trouble::Says(answer)) => (answer, false),
            Some(Trouble::SaysAndDrops(answer)) => (answer, true),
            Some(Trouble::Drops) => return,
            Some(Trouble::Sleeps) => std::future::pending().await,
        };
        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() || drops {
            return;
        }
        if stage == "DATA" && answer.starts_with("354") {
            stage = "message".to_owned();
            loop {
                match lines.next_line().await {
                    Ok(Some(line)) if line == "." => break,
                    Ok(Some(line)) => heard.send_modify(|heard| heard.messages.push_str(&format!("{line}\n"))),
                    _ => return,
                }
            }
            continue;
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        stage = line.split([' ', ':']).next().unwrap_or_default().to_owned();
        mail += usize::from(stage == "MAIL");
        heard.send_modify(|heard| heard.commands.push((connection, line)));
    }
}
