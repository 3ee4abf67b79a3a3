//! Handshakes over files that change.

use std::fs;

use saldo_test_certificates::{Authority, EXPIRED, VALID, Valid};
use tokio::io::duplex;
use tokio_rustls::{TlsAcceptor, TlsConnector, rustls::pki_types::ServerName};

use super::*;

struct Files {
    dir: tempfile::TempDir,
    ca: Authority,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder"), ca: Authority::new("ours") }
    }

    fn identity(&self, serial: u64, valid: Valid) -> Identity {
        let certified = self.ca.certify_as("saldo", &["localhost"], valid, serial);
        let (certificate, key) = certified.write(self.dir.path(), "server").expect("written");
        Identity { certificate, key }
    }

    fn server(&self) -> ServerFiles {
        ServerFiles { identity: self.identity(1, VALID), client_ca: None }
    }

    fn client(&self) -> ClientFiles {
        ClientFiles { ca: Some(self.ca.write(self.dir.path(), "ca").expect("written")), identity: None }
    }
}

/// The last byte of the serial number that a client is shown; or why it refuses.
async fn shown(server: &Newest<ServerConfig>, client: &Newest<ClientConfig>) -> Result<u8, String> {
    let (ours, theirs) = duplex(1 << 16);
    let acceptor = TlsAcceptor::from(server.get());
    tokio::spawn(async move { acceptor.accept(theirs).await.map(|stream| stream.get_ref().1.is_handshaking()) });
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(client.get()).connect(name, ours).await.map_err(|error| error.to_string())?;
    let certificates = stream.get_ref().1.peer_certificates().expect("certificates");
    use x509_cert::der::Decode;
    let certificate = x509_cert::Certificate::from_der(&certificates[0]).expect("a certificate");
    Ok(*certificate.tbs_certificate.serial_number.as_bytes().last().expect("a byte"))
}

/// Lets the files be looked at: the test's clock is moved on while everybody waits.
async fn looked_at() {
    tokio::time::sleep(EVERY * 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_new_pair_is_used_once_it_is_whole() {
    let files = Files::new();
    let (server, client) = (files.server().open().expect("a server"), files.client().open().expect("a client"));
    assert_eq!(shown(&server, &client).await, Ok(1));
    // Half of a new pair, and then rubbish: the old one stays.
    let old_key = fs::read(files.dir.path().join("server-key.pem")).expect("read");
    let identity = files.identity(2, VALID);
    let new_key = fs::read(&identity.key).expect("read");
    let mut waiting = server.clone();
    for key in [&old_key[..], b"-----BEGIN PRIVATE KEY-----\nrubbish"] {
        fs::write(&identity.key, key).expect("written");
        looked_at().await;
        assert_eq!(shown(&server, &client).await, Ok(1));
        assert!(!waiting.is_replaced());
    }
    fs::write(&identity.key, new_key).expect("written");
    looked_at().await;
    assert!(waiting.is_replaced() && !waiting.is_replaced());
    assert_eq!(shown(&server, &client).await, Ok(2));
}

#[tokio::test]
async fn only_who_is_certified_now_and_by_ours_is_a_server() {
    let files = Files::new();
    let client = files.client().open().expect("a client");
    let server = |identity| ServerFiles { identity, client_ca: None }.open().expect("a server");
    let expired = server(files.identity(1, EXPIRED));
    assert!(shown(&expired, &client).await.expect_err("expired").contains("expired"));
    // Another authority, and one that has taken the name of ours.
    for (name, said) in [("foreign", "UnknownIssuer"), ("ours", "BadSignature")] {
        let foreign = Files { ca: Authority::new(name), ..Files::new() };
        let refused = shown(&foreign.server().open().expect("a server"), &client).await.expect_err(name);
        assert!(refused.contains(said), "{name}: {refused}");
    }
    let anybody = ClientFiles::default().open().expect("a client");
    assert!(shown(&server(files.identity(1, VALID)), &anybody).await.is_err(), "browsers do not know ours");
}

#[tokio::test]
async fn what_is_wrong_names_its_file_and_shows_no_key() {
    let files = Files::new();
    let good = files.server();
    let key = fs::read_to_string(&good.identity.key).expect("read");
    let body = key.lines().nth(1).expect("a key").to_owned();
    let other = files.dir.path().join("other.pem");
    for (content, said) in [
        (String::new(), "holds no private key"),
        (format!("-----BEGIN {body}"), "holds no private key"),
        (files.ca.certify(&[], VALID).key, "keys may not be consistent"),
    ] {
        fs::write(&other, content).expect("written");
        let identity = Identity { key: other.clone(), ..good.identity.clone() };
        let error = ServerFiles { identity, client_ca: None }.open().expect_err(said);
        assert_eq!(error.path, other);
        assert!(error.why.contains(said) && !error.why.contains(&body), "{error}");
    }
    fs::write(&other, &body).expect("written");
    let refused = ServerFiles { client_ca: Some(other.clone()), ..good }.open().expect_err("no certificate");
    assert_eq!(refused.path, other);
    let missing = ClientFiles { ca: Some("/no/such.pem".into()), identity: None }.open().expect_err("no file");
    assert!(missing.to_string().starts_with("/no/such.pem: "), "{missing}");
}
