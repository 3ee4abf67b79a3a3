//! A mail server that follows a script, for tests.

use std::{sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, split},
    net::TcpListener,
    sync::watch,
};

use tokio_rustls::TlsAcceptor;

use super::{Limits, Server};

/// A refusal or failure of the server at one point of the conversation.
#[derive(Clone, Copy)]
pub(super) enum Fault {
    /// Says this.
    Says(&'static str),
    /// Says this, and drops the line.
    SaysAndDrops(&'static str),
    /// Drops the line.
    Drops,
    /// Says nothing more.
    Sleeps,
    /// Says this, after so long.
    SaysLate(&'static str, Duration),
}

/// Where in the conversations.
pub(super) struct Point<'m> {
    /// Which connection, counted from 1.
    pub(super) connection: usize,
    /// Which mail on it, counted from 1; 0 before the first.
    pub(super) mail: usize,
    /// `greeting`, a command, or `message`.
    pub(super) stage: &'m str,
}

/// Everything that has reached the server.
#[derive(Debug, Default, Clone)]
pub(super) struct Transcript {
    /// Each command line with its connection.
    pub(super) commands: Vec<(usize, String)>,
    /// The bytes that came after DATA.
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
    transcript: Arc<watch::Sender<Transcript>>,
}

type Script = Arc<dyn Fn(Point<'_>) -> Option<Fault> + Send + Sync>;

impl Peer {
    /// Answers each command with success, save where the script says otherwise.
    pub(super) async fn start(script: impl Fn(Point<'_>) -> Option<Fault> + Send + Sync + 'static) -> Self {
        Self::listen(None, script).await
    }

    /// The same over TLS from the first byte, as `localhost`, which asks who is there.
    pub(super) async fn start_secured(acceptor: TlsAcceptor) -> Self {
        let offers = |point: Point<'_>| (point.stage == "EHLO").then_some(Fault::Says("250-peer\r\n250 AUTH PLAIN"));
        Self::listen(Some(acceptor), offers).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        script: impl Fn(Point<'_>) -> Option<Fault> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let transcript = Arc::new(watch::Sender::new(Transcript::default()));
        let (recording, script): (_, Script) = (transcript.clone(), Arc::new(script));
        let url = match tls {
            None => format!("smtp://127.0.0.1:{port}?tls=none"),
            Some(_) => format!("smtps://ana:s%3Acret@localhost:{port}"),
        };
        tokio::spawn(async move {
            for connection in 1.. {
                let (stream, _) = listener.accept().await.expect("a client");
                recording.send_modify(|transcript| {
                    transcript.connections = connection;
                    transcript.open += 1;
                    transcript.most_open = transcript.most_open.max(transcript.open);
                });
                let (recording, script, tls) = (recording.clone(), script.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => converse(connection, stream, &script, &recording).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                converse(connection, stream, &script, &recording).await;
                            }
                        }
                    }
                    recording.send_modify(|transcript| transcript.open -= 1);
                });
            }
        });
        let mut server: Server = url.parse().expect("a server");
        server.limits = Limits::all(Duration::from_millis(500));
        Self { server, transcript }
    }

    /// Everything that has reached the server until now.
    pub(super) fn transcript(&self) -> Transcript {
        self.transcript.borrow().clone()
    }

    /// Waits until this has reached the server.
    pub(super) async fn until(&self, what: impl Fn(&Transcript) -> bool) -> Transcript {
        let mut transcript = self.transcript.subscribe();
        let found =
            tokio::time::timeout(Duration::from_secs(20), transcript.wait_for(|transcript| what(transcript))).await;
        found.expect("it happens in time").expect("the server lives").clone()
    }
}

async fn converse(
    connection: usize,
    stream: impl AsyncRead + AsyncWrite,
    script: &Script,
    transcript: &watch::Sender<Transcript>,
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
        let (answer, drops) = match script(Point { connection, mail, stage: &stage }) {
            None => (usual, stage == "QUIT"),
            Some(Fault::Says(answer)) => (answer, false),
            Some(Fault::SaysAndDrops(answer)) => (answer, true),
            Some(Fault::Drops) => return,
            Some(Fault::Sleeps) => std::future::pending().await,
            Some(Fault::SaysLate(answer, late)) => {
                tokio::time::sleep(late).await;
                (answer, false)
            }
        };
        if write.write_all(format!("{answer}\r\n").as_bytes()).await.is_err() || drops {
            return;
        }
        if stage == "DATA" && answer.starts_with("354") {
            stage = "message".to_owned();
            loop {
                match lines.next_line().await {
                    Ok(Some(line)) if line == "." => break,
                    Ok(Some(line)) => {
                        transcript.send_modify(|transcript| transcript.messages.push_str(&format!("{line}\n")))
                    }
                    _ => return,
                }
            }
            continue;
        }
        let Ok(Some(line)) = lines.next_line().await else { return };
        stage = line.split([' ', ':']).next().unwrap_or_default().to_owned();
        mail += usize::from(stage == "MAIL");
        transcript.send_modify(|transcript| transcript.commands.push((connection, line)));
    }
}
