//! Mail servers to talk to: one that does what the recipient's name says, and a real Mailpit.

use std::{
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use crate::{
    Failure,
    env::{eventually, free_port, get},
};

/// Names a Mailpit to run, where it stands on no path.
const NAMED: &str = "SALDO_TEST_MAILPIT";

/// A mail server of moods: `refused@` is turned away for good, `later@` for now, after `silent@` the line is dropped
/// behind the whole message; everybody else's mail is taken.
pub struct Moody {
    /// Where it listens.
    pub address: SocketAddr,
    /// Recipient and bytes of every message that came in whole, taken or not.
    heard: Arc<Received>,
}

/// Recipients and bytes.
type Received = Mutex<Vec<(String, Vec<u8>)>>;

impl Moody {
    /// Starts it, on a port of its own or on one it had before.
    pub async fn start(port: u16) -> Result<Self, Failure> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let heard = Arc::new(Mutex::new(Vec::new()));
        let all = heard.clone();
        tokio::spawn(async move {
            while let Ok((line, _)) = listener.accept().await {
                let heard = all.clone();
                tokio::spawn(async move {
                    // A line that breaks is the client's to notice.
                    let _ = converse(line, &heard).await;
                });
            }
        });
        Ok(Self { address, heard })
    }

    /// Recipients of every message that came in whole.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().expect("lock").iter().map(|(to, _)| to.clone()).collect()
    }

    /// Recipients and bytes of every message that came in whole.
    pub fn messages(&self) -> Vec<(String, Vec<u8>)> {
        self.heard.lock().expect("lock").clone()
    }

    /// The messages to one recipient, byte for byte.
    pub fn messages_to(&self, recipient: &str) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().expect("lock");
        heard.iter().filter(|(to, _)| to == recipient).map(|(_, bytes)| bytes.clone()).collect()
    }

    /// As `--smtp` wants it.
    pub fn url(&self) -> String {
        format!("smtp://{}?tls=none", self.address)
    }
}

async fn converse(line: TcpStream, heard: &Received) -> std::io::Result<()> {
    let (reader, mut writer) = line.into_split();
    let mut reader = BufReader::new(reader);
    writer.write_all(b"220 moody\r\n").await?;
    let mut to = String::new();
    loop {
        let mut command = String::new();
        if reader.read_line(&mut command).await? == 0 {
            return Ok(());
        }
        let word = command.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply: &[u8] = match word.as_str() {
            "EHLO" => b"250-moody\r\n250 8BITMIME\r\n",
            "RCPT" => {
                to = command.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
                match to.split('@').next() {
                    Some("refused") => b"550 5.1.1 no such user\r\n",
                    Some("later") => b"451 4.3.0 come back\r\n",
                    _ => b"250 ok\r\n",
                }
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await?;
                let mut message = Vec::new();
                while !message.ends_with(b"\r\n.\r\n") {
                    if reader.read_until(b'\n', &mut message).await? == 0 {
                        return Ok(());
                    }
                }
                message.truncate(message.len() - 3);
                heard.lock().expect("lock").push((to.clone(), message));
                if to.starts_with("silent@") {
                    return Ok(());
                }
                b"250 taken\r\n"
            }
            "QUIT" => {
                writer.write_all(b"221 bye\r\n").await?;
                return Ok(());
            }
            _ => b"250 ok\r\n",
        };
        writer.write_all(reply).await?;
    }
}

/// A running Mailpit.
pub struct Mailpit {
    child: Child,
    web: u16,
    smtp: u16,
}

fn binary() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join("go/bin/mailpit"));
    let named = std::env::var_os(NAMED).map(PathBuf::from);
    let on_path = std::env::var_os("PATH")
        .and_then(|path| std::env::split_paths(&path).map(|dir| dir.join("mailpit")).find(|file| file.exists()));
    named.or(on_path).or(home.filter(|file| file.exists()))
}

/// Why there is no Mailpit here.
pub fn missing() -> Option<String> {
    binary().is_none().then(|| {
        format!("needs Mailpit: `go install github.com/axllent/mailpit@v1.28.0`, or name its binary in {NAMED}")
    })
}

impl Mailpit {
    /// Starts it and waits until it answers.
    pub async fn start() -> Result<Self, Failure> {
        Self::start_at(free_port()?, free_port()?).await
    }

    /// Starts it on these ports and waits until it answers.
    pub async fn start_at(web: u16, smtp: u16) -> Result<Self, Failure> {
        let child = Command::new(binary().ok_or("no Mailpit")?)
            .args(["--listen", &format!("127.0.0.1:{web}"), "--smtp", &format!("127.0.0.1:{smtp}")])
            .args(["--disable-version-check", "--quiet"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mailpit = Self { child, web, smtp };
        eventually("Mailpit answers", || async { mailpit.get("/livez").await.is_ok() }).await?;
        Ok(mailpit)
    }

    /// As `--smtp` wants it.
    pub fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}?tls=none", self.smtp)
    }

    /// The answer of its API.
    pub async fn get(&self, path: &str) -> Result<String, Failure> {
        get(self.web, path).await
    }
}

impl Drop for Mailpit {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
