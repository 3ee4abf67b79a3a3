//! More requests than can be answered: each is answered early, none hangs, and afterwards all is as before.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use saldo::client::{Clients, StatusDetails, TlsArgs, connect, patiently};
use saldo_api::{codec::Codec, v1};
use saldo_auth::Role;
use sqlx::{Connection, PgConnection};
use tokio::{io::AsyncWriteExt, net::TcpSocket, task::JoinSet};
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use crate::{
    Failure, Outcome,
    collector::Collector,
    commands::{invoice, open},
    env::{Env, eventually},
    process::{Saldo, dev_setting, embedded_log},
    the_log,
};

/// Asked while the log takes nothing.
const CROWD: usize = 3_000;
/// Permits of the partition's queue. One tenant gets half of them.
const QUEUE: usize = 64;
/// Within it a crowd that gets no place is answered; far more than it takes, far less than a request's patience.
const EARLY: Duration = Duration::from_secs(10);

/// As long as it is open, nothing can be appended to the log; it can be read.
async fn hold_the_log(saldo: &Saldo) -> Result<PgConnection, Failure> {
    let mut connection = PgConnection::connect(&dev_setting(&saldo.config, "embedded_url")?).await?;
    sqlx::raw_sql("BEGIN; SELECT FROM saldo_log.partitions WHERE topic = 'saldo.accounts' FOR UPDATE")
        .execute(&mut connection)
        .await?;
    Ok(connection)
}

/// The log takes nothing while thousands ask. The tenant that asks most gets half of the permits; its other requests are sent
/// away and told when to come back. Another tenant finds a permit. The log has what was answered, and nothing else.
pub async fn crowd(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start_with(dir.path(), &[], &[("SALDO__QUEUE", &QUEUE.to_string())]).await?;
    saldo.clients().await?.command.open_account(open("open", "D-1")).await?;
    // Another creditor's debtor on the same partition, and none of whom the crowd knows.
    let neighbour = saldo.clients_as("other", &[Role::Writer], Duration::from_secs(3_600)).await?;
    let partition = |key: &str| saldo_log::frame::partition_of(key, 16);
    let account = (0..).map(|n| format!("D-{n}")).find(|id| partition(&format!("other/{id}")) == partition("acme/D-1"));
    let account = account.ok_or("no account")?;
    neighbour.clone().command.open_account(open("open", &account)).await?;

    let held = hold_the_log(&saldo).await?;
    let mut asked = JoinSet::new();
    let connections = [saldo.clients().await?, saldo.clients().await?, saldo.clients().await?];
    for n in 0..CROWD {
        let mut command = connections[n % connections.len()].command.clone();
        asked.spawn(async move {
            let request = invoice(&format!("r-{n}"), "D-1", &format!("F-{n}"), 100);
            (n, command.issue_invoice(request).await.map(|_| ()))
        });
    }
    let sent_away = tokio::time::timeout(EARLY, async {
        for _ in 0..CROWD - QUEUE / 2 {
            let (_, answer) = asked.join_next().await.ok_or("all are answered")??;
            let status = answer.expect_err("the log takes nothing");
            let said = StatusDetails::of(&status);
            assert_eq!((status.code(), said.reason.as_str()), (Code::ResourceExhausted, "QUEUE_FULL"), "{status}");
            let after = said.retry_after.ok_or("RetryInfo")?;
            assert!((Duration::from_millis(50)..=Duration::from_secs(5)).contains(&after), "{after:?}");
        }
        Ok::<_, Failure>(())
    });
    sent_away.await??;

    // A command whose client has stopped waiting is not decided, whether it was admitted or not.
    let mut impatient = Request::new(invoice("late", "D-1", "F-late", 100));
    impatient.set_timeout(Duration::from_millis(300));
    let late = connections[0].command.clone().issue_invoice(impatient).await.expect_err("the log takes nothing");
    assert!(saldo::client::is_transient(&late), "{late}");
    let mut single = neighbour.command.clone();
    let request = invoice("single", &account, "F-1", 100);
    let single = tokio::spawn(async move { single.issue_invoice(request).await });
    held.close().await?;
    single.await?.map_err(|status| format!("another tenant found no permit: {status}"))?;
    let mut answered = vec!["F-again".to_owned()];
    while let Some(answer) = asked.join_next().await {
        let (n, answer) = answer?;
        answer?;
        answered.push(format!("F-{n}"));
    }
    assert_eq!(answered.len() - 1, QUEUE / 2);

    let request =
        || async { connections[0].command.clone().issue_invoice(invoice("again", "D-1", "F-again", 100)).await };
    patiently(request).await?;
    let the_log = the_log::read(&embedded_log(&saldo.config).await?).await?;
    let mut issued: Vec<String> = the_log.numbers("invoice.issued")?.into_keys().collect();
    answered.push("F-1".to_owned());
    answered.sort();
    answered.dedup();
    issued.sort();
    assert_eq!(issued, answered, "what was answered, and nothing else");
    let report = saldo.verify().await?;
    assert_eq!(report["differences"].as_u64(), Some(0), "{report}");
    saldo.stop().await
}

/// A call whose request is begun and never ends.
async fn begin(channel: &Channel, method: &'static str, token: &str, patience: Duration) -> Result<Status, Failure> {
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await?;
    let mut request = Request::new(futures::stream::pending::<()>());
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    request.set_timeout(patience);
    let answer = grpc.client_streaming(request, PathAndQuery::from_static(method), Codec::<(), ()>::default()).await;
    Ok(answer.map(|_| ()).expect_err("a request that is not there is not answered"))
}

/// Sends as many requests of one tenant as fill its share of a service's gate, and some more. The surplus is sent away at once,
/// and `others` are admitted then. The rest are answered when they have had their time.
async fn fill<F: Future<Output = Outcome>>(
    saldo: &Saldo,
    method: &'static str,
    share: usize,
    others: impl FnOnce() -> F,
) -> Outcome {
    const BEYOND: usize = 100;
    let mut channels = Vec::new();
    for _ in 0..3 {
        channels.push(connect(&saldo.target.endpoint, &TlsArgs::default()).await?);
    }
    let mut begun = JoinSet::new();
    for n in 0..share + BEYOND {
        let (channel, token) = (channels[n % channels.len()].clone(), saldo.target.token.clone());
        begun.spawn(async move { begin(&channel, method, &token, Duration::from_secs(60)).await });
    }
    let first = StatusDetails::of(&begun.join_next().await.ok_or("an answer")???);
    assert!(first.reason == "OVERLOADED" && first.retry_after.is_some(), "{method}: {first:?}");
    others().await?;
    let mut answers = BTreeMap::from([(first.reason, 1)]);
    while let Some(answer) = begun.join_next().await {
        *answers.entry(StatusDetails::of(&answer??).reason).or_default() += 1;
    }
    let expected = [("OVERLOADED".to_owned(), BEYOND), ("REQUEST_TOO_SLOW".to_owned(), share)];
    assert_eq!(answers, BTreeMap::from(expected), "{method}");
    Ok(())
}

/// A tenant that begins requests and never ends them fills half of each gate for ten seconds. Others are admitted meanwhile, and
/// the metrics show it all. Without a token nobody is admitted.
pub async fn unfinished(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let collector = Collector::start(dir.path()).await?;
    let variables = [("SALDO__TELEMETRY__OTLP", collector.url()), ("SALDO__TELEMETRY__INTERVAL_SECONDS", "1".into())];
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let saldo = Saldo::start_with(&dir.path().join("data"), &[], &variables).await?;
    let neighbour = saldo.clients_as("other", &[Role::Writer, Role::Reader], Duration::from_secs(3_600)).await?;
    let (mut command, mut catalog, mut query) = (neighbour.command, neighbour.catalog, neighbour.query);
    let commands = fill(&saldo, "/collections.v1.CommandService/OpenAccount", 4_096, || async move {
        command.open_account(open("open", "D-1")).await?;
        Ok(())
    });
    let calls = fill(&saldo, "/collections.v1.CatalogService/GetCatalog", 32, || async move {
        catalog.get_catalog(v1::GetCatalogRequest::default()).await?;
        Ok(())
    });
    let queries = fill(&saldo, "/collections.v1.QueryService/ListParked", 512, || async move {
        query.list_parked(v1::ListParkedRequest::default()).await?;
        Ok(())
    });
    tokio::try_join!(commands, calls, queries)?;
    saldo.clients().await?.command.open_account(open("open", "D-1")).await?;

    let channel = connect(&saldo.target.endpoint, &TlsArgs::default()).await?;
    let method = "/collections.v1.CommandService/OpenAccount";
    let stranger = begin(&channel, method, "none", EARLY).await?;
    assert_eq!(stranger.code(), Code::Unauthenticated);
    for ending in [r#"reason="OVERLOADED""#, r#"reason="REQUEST_TOO_SLOW""#, r#"result="abandoned""#] {
        let counts = |line: &str| {
            let command = line.starts_with("saldo_command_requests_total{") && line.contains(r#"method="OpenAccount""#);
            command && line.contains(ending)
        };
        let told = || async {
            // Given up by its client, which may be before it has come.
            let given_up = begin(&channel, method, &saldo.target.token, Duration::from_millis(300)).await;
            given_up.is_ok() && collector.metrics().await.is_ok_and(|text| text.lines().any(counts))
        };
        eventually(&format!("commands are counted with {ending}"), told).await?;
    }
    saldo.stop().await
}

/// Connections of one address, each with one byte of a preface.
const CONNECTIONS: usize = 800;
/// Calls that bring a draft. One tenant gets half of the 64 places of the catalog.
const DRAFTS: usize = 40;

/// A preview under a draft whose templates take as long as templates may.
fn slow_preview() -> v1::PreviewContactsRequest {
    let text = "{% for a in items %}{% for b in items %}{% if a.days == b.days and a.open == b.due %}x{% endif %}{% endfor %}{% endfor %}x";
    let source = format!("subject = \"x\"\ntext = \"{text}\"\nhtml = \"{text}\"\n");
    let file = |n| v1::PolicyFile { name: format!("templates/t{n}.en.toml"), source: source.clone() };
    v1::PreviewContactsRequest { account_id: "D-1".into(), draft: (0..200).map(file).collect(), ..Default::default() }
}

/// The longest that one of twenty commands takes.
async fn slowest(clients: &Clients, name: &str) -> Result<Duration, Failure> {
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        let since = Instant::now();
        let request = invoice(&format!("{name}-{n}"), "D-1", &format!("F-{name}-{n}"), 100);
        clients.command.clone().issue_invoice(request).await?;
        slowest = slowest.max(since.elapsed());
    }
    Ok(slowest)
}

/// A client opens connections without end and says nothing on them. A tenant brings drafts that take long, and gives them up. Another
/// tenant's commands and drafts are answered all the while, and the first tenant's calls too once its drafts have ended.
pub async fn one_caller(_: Arc<Env>) -> Outcome {
    const HOUR: Duration = Duration::from_secs(3_600);
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let neighbour = saldo.clients_as("other", &[Role::Writer, Role::Operator], HOUR).await?;
    neighbour.command.clone().open_account(open("open", "D-1")).await?;
    let before = slowest(&neighbour, "before").await?;

    let address: SocketAddr = saldo.target.endpoint.trim_start_matches("http://").parse()?;
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        let socket = TcpSocket::new_v4()?;
        socket.bind("127.0.0.2:0".parse()?)?;
        let mut connection = socket.connect(address).await?;
        // A connection that is one too many is closed already.
        let _ = connection.write_all(b"P").await;
        silent.push(connection);
    }
    let drafts = saldo.clients_as("acme", &[Role::Operator], HOUR).await?;
    let mut asked = JoinSet::new();
    for _ in 0..DRAFTS {
        let mut catalog = drafts.catalog.clone();
        asked.spawn(async move { catalog.preview_contacts(slow_preview()).await.map(drop) });
    }
    for _ in 0..DRAFTS - 32 {
        let refused = asked.join_next().await.ok_or("an answer")??.expect_err("beyond the tenant's share");
        assert_eq!(StatusDetails::of(&refused).reason, "OVERLOADED", "{refused}");
    }
    let meanwhile = slowest(&neighbour, "meanwhile").await?;
    let allowed = (before * 5).max(Duration::from_secs(2));
    assert!(meanwhile < allowed, "a command took {meanwhile:?}, and {before:?} before");
    // The neighbour's draft does not wait behind those of the other tenant.
    let small = || v1::PreviewContactsRequest {
        account_id: "D-1".into(),
        draft: vec![v1::PolicyFile { name: "policy.toml".into(), source: String::new() }],
        ..Default::default()
    };
    let preview = |clients: &Clients| {
        let mut catalog = clients.catalog.clone();
        async move { catalog.preview_contacts(small()).await.expect_err("the draft is empty") }
    };
    let since = Instant::now();
    assert_eq!(preview(&neighbour).await.code(), Code::InvalidArgument);
    assert!(since.elapsed() < EARLY, "{:?}", since.elapsed());
    while asked.try_join_next().is_some() {}
    assert!(!asked.is_empty(), "drafts are still under way");
    asked.shutdown().await;
    eventually("the drafts that were given up have ended", || async {
        preview(&drafts).await.code() == Code::InvalidArgument
    })
    .await?;
    // Streams of reflection are few too.
    let channel = connect(&saldo.target.endpoint, &TlsArgs::default()).await?;
    let mut streams = JoinSet::new();
    for _ in 0..DRAFTS {
        let (channel, token) = (channel.clone(), saldo.target.token.clone());
        let method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        streams.spawn(async move { begin(&channel, method, &token, Duration::from_secs(60)).await });
    }
    for _ in 0..DRAFTS - 32 {
        let refused = streams.join_next().await.ok_or("an answer")???;
        assert_eq!(StatusDetails::of(&refused).reason, "OVERLOADED", "{refused}");
    }
    streams.shutdown().await;
    // A caller with the role reader alone may bring no draft.
    let reader = saldo.clients_as("acme", &[Role::Reader], HOUR).await?;
    assert_eq!(preview(&reader).await.code(), Code::PermissionDenied);
    drop(silent);
    saldo.stop().await
}
