//! TLS against real servers: whom it lets in, whom it turns away, and certificates replaced while everything runs.

use std::{path::Path, sync::Arc, time::Duration};

use saldo::client::{Target, TlsArgs};
use saldo_api::v1;
use saldo_embedded_postgres::EmbeddedPostgres;
use saldo_test_certificates::{Authority, EXPIRED, VALID, Valid};
use saldo_tls::ClientFiles;
use sqlx::{Connection, PgConnection};
use tokio::{io::AsyncReadExt, net::TcpStream};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    Failure, Outcome,
    commands::open,
    env::{Env, eventually, postgres_in},
    process::Saldo,
};

/// Where everything listens.
const HERE: &str = "127.0.0.1";

/// A `saldo dev` that serves with `name`'s certificate in `dir`.
async fn serve(dir: &Path, name: &str, client_ca: Option<&Path>) -> Result<Saldo, Failure> {
    let file = |suffix: &str| dir.join(format!("{name}{suffix}.pem")).display().to_string();
    let (certificate, key) = (file(""), file("-key"));
    let client_ca = client_ca.map(|path| path.display().to_string());
    let mut variables = vec![("SALDO__TLS__CERTIFICATE", certificate.as_str()), ("SALDO__TLS__KEY", key.as_str())];
    variables.extend(client_ca.as_deref().map(|path| ("SALDO__TLS__CLIENT_CA", path)));
    Saldo::start_with(&dir.join("data"), &[], &variables).await
}

fn trusting(ca: &Path) -> TlsArgs {
    TlsArgs { tls_ca: Some(ca.to_owned()), ..TlsArgs::default() }
}

/// Connects and asks; why it did not come to an answer otherwise.
async fn ask(target: &Target) -> Result<(), String> {
    let mut clients = target.connect().await.map_err(|error| error.to_string())?;
    let asked = clients.query.list_parked(v1::ListParkedRequest {}).await;
    asked.map(drop).map_err(|status| format!("{status:?}"))
}

/// The certificate that a new connection is shown.
async fn certificate(target: &Target, ca: &Path) -> Result<Vec<u8>, Failure> {
    let address = target.endpoint.trim_start_matches("https://");
    let tls = ClientFiles { ca: Some(ca.to_owned()), identity: None }.open()?;
    let stream = TcpStream::connect(address).await?;
    let stream = TlsConnector::from(tls.get()).connect(ServerName::try_from(HERE)?, stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().ok_or("no certificate")?;
    Ok(certificates[0].to_vec())
}

/// A client goes by authority, time and name; the newest files count for the next connection, and nothing for those before.
pub async fn served(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let (ca, foreign_ca) = (ours.write(dir.path(), "ca")?, foreign.write(dir.path(), "foreign")?);
    let install = |names: &[&str], valid: Valid| ours.certify(names, valid).write(dir.path(), "server");
    install(&[HERE], VALID)?;
    let saldo = serve(dir.path(), "server", None).await?;
    assert!(saldo.target.endpoint.starts_with("https://"), "{}", saldo.target.endpoint);
    let target = Target { tls: trusting(&ca), ..saldo.target.clone() };
    // A client that connects and says nothing is dropped, and keeps no other client out.
    let mut silent = TcpStream::connect(target.endpoint.trim_start_matches("https://")).await?;
    let mut before = target.connect().await?;
    before.command.open_account(open("1", "D-1")).await?;

    for (who, tls) in [("browsers' authorities", TlsArgs::default()), ("foreign", trusting(&foreign_ca))] {
        let refused = ask(&Target { tls, ..target.clone() }).await.expect_err(who);
        assert!(refused.contains("UnknownIssuer"), "{who}: {refused}");
    }
    let clear = Target { endpoint: target.endpoint.replace("https", "http"), ..target.clone() };
    ask(&clear).await.expect_err("in the clear");
    let other_name = Target { endpoint: target.endpoint.replace(HERE, "localhost"), ..target.clone() };
    let refused = ask(&other_name).await.expect_err("another name");
    assert!(refused.contains("not valid for name"), "{refused}");

    let cut_off = tokio::time::timeout(Duration::from_secs(60), silent.read(&mut [0])).await?;
    assert!(!matches!(cut_off, Ok(read) if read > 0), "{cut_off:?}");

    let first = certificate(&target, &ca).await?;
    install(&[HERE], VALID)?;
    eventually("a new certificate is shown", || async {
        certificate(&target, &ca).await.is_ok_and(|shown| shown != first)
    })
    .await?;
    ask(&target).await?;
    install(&[HERE], EXPIRED)?;
    eventually("a certificate that expired is refused", || async {
        ask(&target).await.is_err_and(|refused| refused.contains("expired"))
    })
    .await?;
    install(&["elsewhere.example"], VALID)?;
    eventually("a certificate of another name is refused", || async {
        ask(&target).await.is_err_and(|refused| refused.contains("not valid for name"))
    })
    .await?;
    before.query.list_parked(v1::ListParkedRequest {}).await?;
    install(&[HERE], VALID)?;
    eventually("a good one is taken again", || async { ask(&target).await.is_ok() }).await?;
    saldo.stop().await
}

/// With `tls.client_ca` only who shows a certificate of that authority is let in, health included; the services of the
/// process itself need none.
pub async fn o13_mutual(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (ours, theirs, foreign) = (Authority::new("ours"), Authority::new("clients"), Authority::new("clients"));
    let (ca, client_ca) = (ours.write(dir.path(), "ca")?, theirs.write(dir.path(), "clients")?);
    ours.certify(&[HERE], VALID).write(dir.path(), "server")?;
    let saldo = serve(dir.path(), "server", Some(&client_ca)).await?;
    let shows = |name: &str, authority: &Authority, valid: Valid| {
        let (certificate, key) = authority.certify(&["importer"], valid).write(dir.path(), name)?;
        let tls = TlsArgs { tls_cert: Some(certificate), tls_key: Some(key), ..trusting(&ca) };
        Ok::<_, Failure>(Target { tls, ..saldo.target.clone() })
    };
    let right = shows("right", &theirs, VALID)?;
    ask(&right).await?;
    for (who, target) in [
        ("no certificate", Target { tls: trusting(&ca), ..saldo.target.clone() }),
        ("a foreign authority of the same name", shows("foreign", &foreign, VALID)?),
        ("the server's own authority", shows("ours", &ours, VALID)?),
        ("expired", shows("expired", &theirs, EXPIRED)?),
    ] {
        let refused = ask(&target).await.expect_err(who);
        assert!(!refused.contains("Unauthenticated"), "{who} came as far as its token: {refused}");
    }
    let health = |tls: TlsArgs| {
        let mut command = crate::process::saldo(&["health", "--endpoint", &saldo.target.endpoint])?;
        command.envs(crate::deployment::tls_variables(&tls));
        Ok::<_, Failure>(async move { tokio::task::spawn_blocking(move || command.output()).await })
    };
    assert!(health(right.tls.clone())?.await??.status.success());
    // O13: who shows no certificate is told so.
    let refused = health(trusting(&ca))?.await??;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("no client certificate was shown"), "{said}");
    // The authority is replaced: whom the old one certified is let in no more.
    foreign.write(dir.path(), "clients")?;
    eventually("the new authority's client is let in", || async {
        let Ok(target) = shows("new", &foreign, VALID) else { return false };
        ask(&target).await.is_ok()
    })
    .await?;
    ask(&right).await.expect_err("certified by the old authority");
    saldo.stop().await
}

/// Puts certificate and key where Postgres looks for them, owned by whoever runs it, and has it read them.
async fn install(cluster: &Path, admin: &str, authority: &Authority, names: &[&str], valid: Valid) -> Outcome {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let owner = std::fs::metadata(cluster)?;
    let certified = authority.certify(names, valid);
    for (name, pem) in [("server.crt", &certified.certificate), ("server.key", &certified.key)] {
        let path = cluster.join(name);
        std::fs::write(&path, pem)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        chown(&path, Some(owner.uid()), Some(owner.gid()))?;
    }
    let mut admin = PgConnection::connect(admin).await?;
    for sql in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
        sqlx::query(sql).execute(&mut admin).await?;
    }
    Ok(())
}

/// Has Postgres ask everybody who comes over TLS for a certificate of this authority.
async fn ask_for_certificates(cluster: &Path, admin: &str, authority: &Authority) -> Outcome {
    std::fs::write(cluster.join("clients.pem"), &authority.pem)?;
    let mut admin = PgConnection::connect(admin).await?;
    // The authority first: a reload that is still under way may read the new rules at once.
    sqlx::query("ALTER SYSTEM SET ssl_ca_file = 'clients.pem'").execute(&mut admin).await?;
    let rules = cluster.join("pg_hba.conf");
    let before = std::fs::read_to_string(&rules)?;
    std::fs::write(&rules, format!("hostssl all all all scram-sha-256 clientcert=verify-ca\n{before}"))?;
    sqlx::query("SELECT pg_reload_conf()").execute(&mut admin).await?;
    Ok(())
}

/// `verify-full` and `verify-ca` in the database's URL, and a certificate to show with `sslcert` and `sslkey`. Files and certificates count from the next connection on.
pub async fn postgres(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let home = dir.path().join("postgres");
    let server = EmbeddedPostgres::start(postgres_in(&home)?, |_| {}).await?;
    let (admin, cluster) = (server.url("postgres"), home.join("cluster"));
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let ca = ours.write(dir.path(), "ca")?;
    let url = |mode: &str| format!("{admin}?sslmode={mode}&sslrootcert={}", ca.display());
    let (full, any_name) = (url("verify-full"), url("verify-ca"));
    let refused = connected(&full).await.expect_err("no TLS yet");
    assert!(refused.contains("does not support TLS"), "{refused}");

    install(&cluster, &admin, &ours, &[HERE], VALID).await?;
    eventually("Postgres speaks TLS", || async { connected(&full).await == Ok(true) }).await?;
    let saldo = Saldo::start(&dir.path().join("data"), &["--database-url", &full]).await?;
    saldo.clients().await?.command.open_account(open("1", "D-1")).await?;
    saldo.verify().await?;
    saldo.stop().await?;

    foreign.write(dir.path(), "ca")?;
    let refused = connected(&full).await.expect_err("of another authority");
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    let mut verify = crate::process::saldo(&["verify", "--database-url", &full])?;
    verify.env("SALDO__LOG__EMBEDDED_URL", &admin);
    let said = tokio::task::spawn_blocking(move || verify.output()).await??;
    let said = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(said.contains("database.url: ") && said.contains("UnknownIssuer"), "{said}");
    ours.write(dir.path(), "ca")?;
    assert_eq!(connected(&full).await, Ok(true), "the file is read with each connection");

    install(&cluster, &admin, &ours, &["elsewhere.example"], VALID).await?;
    eventually("a certificate of another name is refused", || async {
        connected(&full).await.is_err_and(|refused| refused.contains("not valid for name"))
    })
    .await?;
    assert_eq!(connected(&any_name).await, Ok(true));
    install(&cluster, &admin, &ours, &[HERE], EXPIRED).await?;
    eventually("a certificate that expired is refused", || async {
        connected(&any_name).await.is_err_and(|refused| refused.contains("expired"))
    })
    .await?;

    install(&cluster, &admin, &ours, &[HERE], VALID).await?;
    let clients = Authority::new("clients");
    ask_for_certificates(&cluster, &admin, &clients).await?;
    eventually("who shows none is refused", || async {
        connected(&full).await.is_err_and(|refused| refused.contains("client certificate"))
    })
    .await?;
    let showing = |name: &str, authority: &Authority, valid: Valid| {
        let (certificate, key) = authority.certify(&["saldo"], valid).write(dir.path(), name)?;
        Ok::<_, Failure>(format!("{full}&sslcert={}&sslkey={}", certificate.display(), key.display()))
    };
    let right = showing("right", &clients, VALID)?;
    assert_eq!(connected(&right).await, Ok(true));
    connected(&showing("foreign", &foreign, VALID)?).await.expect_err("of another authority");
    connected(&showing("expired", &clients, EXPIRED)?).await.expect_err("expired");
    let saldo = Saldo::start(&dir.path().join("data"), &["--database-url", &right]).await?;
    saldo.verify().await?;
    saldo.stop().await?;
    Ok(server.stop().await?)
}

/// Whether a connection to Postgres is over TLS; or why there is none.
async fn connected(url: &str) -> Result<bool, String> {
    let told = |error: sqlx::Error| error.to_string();
    let mut connection = PgConnection::connect(url).await.map_err(told)?;
    let ssl = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
    ssl.fetch_one(&mut connection).await.map_err(told)
}

#[cfg(feature = "kafka-tls")]
pub use over_kafka::{kafka, time};

#[cfg(feature = "kafka-tls")]
mod over_kafka {
    use std::path::PathBuf;

    use bytes::Bytes;
    use futures::future::join_all;
    use rdkafka::ClientConfig;
    use saldo_log::{
        Log, LogError, NewRecord,
        kafka::{KafkaConfig, KafkaLog, KafkaTls},
    };
    use saldo_tls::{Identity, ServerFiles};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::{
        conformance::topic,
        kafka::{Kafka, Shape},
    };

    /// A broker's files: what it shows, and whose clients it takes.
    struct Broker {
        dir: PathBuf,
        ours: Authority,
    }

    impl Broker {
        fn install(&self, name: &str, clients: &Authority) -> Outcome {
            let certified = self.ours.certify(&[name], VALID);
            std::fs::write(self.dir.join("broker.pem"), certified.key + &certified.certificate)?;
            // It is its own client too.
            std::fs::write(self.dir.join("clients.pem"), format!("{}{}", clients.pem, self.ours.pem))?;
            Ok(())
        }

        fn settings(&self) -> String {
            let at = |name: &str| self.dir.join(name).display().to_string();
            format!(
                "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
                 ssl.client.auth=required\n",
                at("broker.pem"),
                at("clients.pem")
            )
        }
    }

    async fn append(log: &KafkaLog, value: &'static str) -> bool {
        let record = NewRecord { partition: 0, key: Bytes::from("k"), value: Bytes::from(value), trace: None };
        log.append(vec![record]).await.is_ok()
    }

    /// Both sides are looked at: the broker by authority and name, the client by authority and time. A client whose files
    /// were replaced goes on, reading and writing, where only the new ones are let in.
    pub async fn kafka(_: Arc<Env>) -> Outcome {
        let dir = tempfile::tempdir()?;
        let at = |name: &str| dir.path().join(name);
        let (clients, next, foreign) = (Authority::new("clients"), Authority::new("next"), Authority::new("clients"));
        let broker = Broker { dir: dir.path().to_owned(), ours: Authority::new("ours") };
        broker.install(HERE, &clients)?;
        let (ca, foreign_ca) = (broker.ours.write(dir.path(), "ca")?, foreign.write(dir.path(), "foreign-ca")?);
        // The harness asks whether it is there, under whatever name.
        broker.ours.certify(&[], VALID).write(dir.path(), "harness")?;
        let mut harness = ClientConfig::new();
        harness.set("security.protocol", "ssl").set("ssl.endpoint.identification.algorithm", "none");
        harness.set("ssl.ca.location", ca.display().to_string());
        harness.set("ssl.certificate.location", at("harness.pem").display().to_string());
        harness.set("ssl.key.location", at("harness-key.pem").display().to_string());
        let settings = broker.settings();
        let shape = Shape { protocol: "SSL", settings: &settings, client: harness, ..Shape::default() };
        let server = Kafka::start_as(at("kafka"), shape).await?;

        let topic = topic();
        let connect = |ca: &Path, identity: Option<(PathBuf, PathBuf)>| {
            let identity = identity.map(|(certificate, key)| Identity { certificate, key });
            let tls = KafkaTls::open(ClientFiles { ca: Some(ca.to_owned()), identity });
            let (brokers, topic) = (server.brokers.clone(), topic.clone());
            async move {
                let tls = Some(tls.map_err(|error| LogError::Unavailable(error.to_string()))?);
                KafkaLog::connect(KafkaConfig { brokers, topic, replication_factor: 1, allow_unsafe: true, tls }).await
            }
        };
        let shown = clients.certify(&["saldo"], VALID).write(dir.path(), "client")?;
        let create = |identity: bool| {
            let mut create = crate::process::saldo(&["log", "create", "--kafka", &server.brokers])?;
            create.env("SALDO__LOG__TOPIC", format!("{topic}.p")).env("SALDO__LOG__REPLICATION_FACTOR", "1");
            create.env("SALDO__LOG__ALLOW_UNSAFE", "true").env("SALDO__LOG__TLS_CA", &ca);
            create.env("SALDO__KEYRING__DIR", at("keys"));
            if identity {
                create.env("SALDO__LOG__TLS_CERTIFICATE", &shown.0).env("SALDO__LOG__TLS_KEY", &shown.1);
            }
            Ok::<_, Failure>(async { tokio::task::spawn_blocking(move || create.output()).await })
        };
        let created = create(true)?.await??;
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let refused = create(false)?.await??;
        assert!(!refused.status.success(), "a process without a certificate");
        let log = connect(&ca, Some(shown.clone())).await?;
        log.create(1).await?;
        assert!(append(&log, "one").await);
        let mut tail = log.tail(&[(0, 0)]).await?;
        assert_eq!(tail.next(1).await?[0].value, "one");

        let refused = join_all([
            connect(&ca, None),
            connect(&ca, Some(foreign.certify(&["saldo"], VALID).write(dir.path(), "foreign")?)),
            connect(&ca, Some(clients.certify(&["saldo"], EXPIRED).write(dir.path(), "expired")?)),
            connect(&foreign_ca, Some(shown.clone())),
        ]);
        for (who, refused) in ["no certificate", "foreign", "expired", "a broker of theirs"].iter().zip(refused.await) {
            assert!(matches!(refused.map(drop), Err(LogError::Unavailable(_))), "{who}");
        }

        // Clients of the next authority only: with the old certificate nobody comes back in.
        next.certify(&["saldo"], VALID).write(dir.path(), "client")?;
        broker.install(HERE, &next)?;
        server.kill();
        server.run().await?;
        eventually("the log is written with the new certificate", || append(&log, "two")).await?;
        // An earlier try may stand there too; no record was missed.
        let read = tail.next(1).await?;
        assert_eq!((read[0].offset, read[0].value.as_ref()), (1, b"two".as_ref()));

        broker.install("elsewhere.example", &next)?;
        server.kill();
        server.run().await?;
        let refused = connect(&ca, Some(shown)).await.map(drop);
        assert!(matches!(refused, Err(LogError::Unavailable(_))), "a broker of another name");
        Ok(())
    }

    /// A broker's certificate has its time. No Kafka: one would not start with an expired certificate, and whom the client
    /// trusts is seen when it has shaken hands.
    pub async fn time(_: Arc<Env>) -> Outcome {
        let dir = tempfile::tempdir()?;
        let ours = Authority::new("ours");
        let ca = ours.write(dir.path(), "ca")?;
        for (valid, trusted) in [(VALID, true), (EXPIRED, false)] {
            let (certificate, key) = ours.certify(&[HERE], valid).write(dir.path(), "broker")?;
            let shown = ServerFiles { identity: Identity { certificate, key }, client_ca: None }.open()?;
            let listener = TcpListener::bind((HERE, 0)).await?;
            let brokers = listener.local_addr()?.to_string();
            let tls = Some(KafkaTls::open(ClientFiles { ca: Some(ca.clone()), identity: None })?);
            let config = KafkaConfig { brokers, topic: topic(), replication_factor: 1, allow_unsafe: true, tls };
            let client = tokio::spawn(KafkaLog::connect(config));
            let (stream, _) = listener.accept().await?;
            let shaken = TlsAcceptor::from(shown.get()).accept(stream).await;
            assert_eq!(shaken.is_ok(), trusted, "{:?}", shaken.err());
            client.abort();
        }
        Ok(())
    }
}
