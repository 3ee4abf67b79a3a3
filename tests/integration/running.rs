//! Running it: configured, refused, stopped, and asked about the past from the command line.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use saldo::client::Target;
use saldo_api::v1;
use sqlx::Connection;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    Failure, Outcome,
    commands::{date, invoice, open, payment},
    conformance,
    env::{Env, free_port},
    process::{AS_SALDO, Saldo, ready, saldo},
};

async fn run(mut command: Command) -> Result<Output, Failure> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `saldo` with a configuration file.
fn configured(config: &Path, args: &[&str]) -> Result<Command, Failure> {
    let mut command = saldo(args)?;
    command.arg("--config").arg(config).env("SALDO__TRACING__FILTER", "info");
    Ok(command)
}

/// A service refuses to start where keys or topic are missing. Then it serves on a real Kafka and Postgres, writes its lines as
/// JSON, answers a token of `saldo token`, and stops in order.
pub async fn serve(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let (config, key, public) = (dir.path().join("saldo.toml"), dir.path().join("key.pem"), dir.path().join("pub.pem"));
    let listen = format!("127.0.0.1:{}", free_port()?);
    let mut settings = format!(
        "listen = '{listen}'\ndata_dir = '{}'\n[log]\nkafka = '{}'\ntopic = '{}'\nreplication_factor = 1\n\
         allow_unsafe = true\npartitions = 3\n[database]\nurl = '{}'\n[tracing]\nformat = 'json'\n",
        dir.path().join("data").display(),
        env.kafka().await?.brokers,
        conformance::topic(),
        env.database().await?
    );
    std::fs::write(&config, &settings)?;
    let refused = run(configured(&config, &["serve"])?).await?;
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("auth.public_keys"),
        "{}",
        text(&refused.stderr)
    );

    let token = |args: &[&str]| {
        let mut command = saldo(&["token"])?;
        command.arg("--key").arg(&key).args(args);
        Ok::<_, Failure>(command)
    };
    let printed = run(token(&["--public-key"])?).await?;
    assert!(printed.status.success(), "{}", text(&printed.stderr));
    std::fs::write(&public, printed.stdout)?;
    settings += &format!("[auth]\npublic_keys = ['{}']\n", public.display());
    std::fs::write(&config, &settings)?;
    let refused = run(configured(&config, &["serve"])?).await?;
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("saldo log create"),
        "{}",
        text(&refused.stderr)
    );

    let mut created = Vec::new();
    for _ in 0..2 {
        let output = run(configured(&config, &["log", "create"])?).await?;
        assert!(output.status.success(), "{}", text(&output.stderr));
        created.push(text(&output.stdout));
    }
    assert!(
        created[0] == created[1] && created[0].contains("partitions: 3") && created[0].contains(".catalog: log "),
        "run again it changes nothing: {created:?}"
    );

    let mut command = configured(&config, &["serve"])?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let token = run(token(&["--tenant", "acme", "--role", "writer", "--role", "reader"])?).await?;
    let token = text(&token.stdout).trim().to_owned();
    let target = Target::new(format!("http://{listen}"), token);
    ready(&target.endpoint).await?;
    let mut clients = target.connect().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
    let output = tokio::task::spawn_blocking(move || {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().expect("piped"), &mut said)?;
        child.wait().map(|status| (status, said))
    });
    let (status, said) = output.await??;
    assert!(status.success(), "{status}: {said}");
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).map_err(|error| format!("{error}: {line}"))?;
        assert!(line["level"].is_string() && line["fields"]["message"].is_string(), "{line}");
    }
    assert!(said.contains("serving") && said.contains("stopping") && !said.contains("Ana Gil"), "{said}");
    Ok(())
}

/// A file, the environment over it, flags over both; what is wrong is told by its key, and a secret never.
pub async fn configuration(env: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("saldo.toml");
    let started = |variables: &[(&str, &str)], flags: &[&str]| {
        let mut command = configured(&config, &["serve"])?;
        command.args(flags).envs(variables.iter().copied());
        Ok::<_, Failure>(command)
    };
    std::fs::write(&config, "queue = 0\nlisten = 'nowhere'\n")?;
    let (queue, listen) = (("SALDO__QUEUE", "5"), ("SALDO__LISTEN", "127.0.0.1:1"));
    let secret = "postgres://u:hunter2@h/d";
    for (variables, flags, said) in [
        (&[][..], &[][..], "listen"),
        (&[listen], &[], "queue is 0"),
        (&[queue], &[], "listen"),
        // A configuration without a fault leads to the next error: there are no keys.
        (&[queue, listen], &[], "auth.public_keys"),
        (&[queue], &["--listen", "127.0.0.1:1"], "auth.public_keys"),
        (&[queue, ("SALDO__LISTEN", "elsewhere")], &["--listen", "127.0.0.1:1"], "auth.public_keys"),
        (&[queue, listen, ("SALDO__DATABSE__URL", secret)], &[], "databse"),
        (&[queue, listen, ("SALDO__DATABASE", secret)], &[], "DATABASE"),
        (&[queue, listen, ("SALDO__AUTH__PUBLIC_KEYS", "[/no/such.pem]")], &[], "auth.public_keys: /no/such.pem"),
    ] {
        let output = run(started(variables, flags)?).await?;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{variables:?} {flags:?}: {error}");
        assert!(error.contains(said) && !error.contains("hunter2"), "{variables:?} {flags:?}: {error}");
    }
    let nobody = format!("postgres://u:hunter2@127.0.0.1:{}/d", free_port()?);
    let mut verify = saldo(&["verify", "--database-url", &nobody])?;
    verify.env("SALDO__LOG__EMBEDDED_URL", env.database().await?);
    let error = text(&run(verify).await?.stderr);
    assert!(error.contains("database.url: ") && error.contains("refused") && !error.contains("hunter2"), "{error}");
    Ok(())
}

/// Health is open; reflection wants a token.
pub async fn health_and_reflection(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let channel = tonic::transport::Endpoint::from_shared(saldo.target.endpoint.clone())?.connect().await?;
    for service in ["", "collections.v1.CommandService", "collections.v1.QueryService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await?.into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let ask = |token: Option<&str>| {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let question = ServerReflectionRequest { host: String::new(), message_request };
        let mut request = tonic::Request::new(futures::stream::iter([question]));
        if let Some(token) = token {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("a token"));
        }
        let mut client = ServerReflectionClient::new(channel.clone());
        async move { client.server_reflection_info(request).await }
    };
    let refused = ask(None).await.expect_err("no token");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut answers = ask(Some(&saldo.target.token)).await?.into_inner();
    let services = format!("{:?}", answers.message().await?);
    assert!(services.contains("collections.v1.CommandService") && !services.contains("Echo"), "{services}");
    // psql refuses a URL with parameters it does not know.
    let config = std::fs::read_to_string(&saldo.config)?;
    assert!(config.contains("postgres://") && !config.contains('?'), "a driver's own parameters in the printed URL");
    Ok(())
}

/// `dev` names its Postgres, and an orderly stop warns of nothing.
pub async fn dev(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = dir.path().display().to_string();
    let free = "127.0.0.1:0";
    let mut command = saldo(&["dev", "--json", "--data-dir", &data, "--listen", free, "--mail-page", free])?;
    command.env("SALDO__TRACING__FILTER", "warn").stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().ok_or("no standard output")?;
    let line = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).map(|_| line)
    });
    let line: serde_json::Value = serde_json::from_str(&line.await??)?;
    let mut connection = sqlx::PgConnection::connect(line["database_url"].as_str().ok_or("database_url")?).await?;
    let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM bi.aging").fetch_one(&mut connection).await?;
    assert_eq!(count, 0);
    connection.close().await?;
    Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
    Ok(())
}

/// A shell runs the lines that `dev` prints, twice in one run and again in a second run over the same folder.
pub async fn three_things(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let data = dir.path().display().to_string();
    let free = "127.0.0.1:0";
    let mut urls = Vec::new();
    for present in [&["0 present", "3 present"][..], &["3 present"]] {
        let mut command = saldo(&["dev", "--data-dir", &data, "--listen", free, "--mail-page", free])?;
        command.env("SALDO__TRACING__FILTER", "warn").stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or("no standard output")?;
        let guide = tokio::task::spawn_blocking(move || {
            let lines = std::io::BufRead::lines(std::io::BufReader::new(stdout)).map_while(Result::ok);
            lines.take_while(|line| !line.starts_with("Mails go out")).collect::<Vec<_>>()
        });
        let guide = guide.await?;
        let url = guide.iter().find_map(|line| line.trim().strip_prefix("Postgres")).ok_or("no Postgres")?;
        urls.push(url.trim().to_owned());
        let (exports, things): (Vec<&str>, Vec<&str>) = (guide.iter())
            .map(|line| line.trim())
            .filter(|line| line.starts_with("export") || line.contains(" && "))
            .partition(|line| line.starts_with("export"));
        assert_eq!((exports.len(), things.len()), (2, 3), "{guide:?}");
        let shell = async |thing: &str| -> Result<String, Failure> {
            let mut command = Command::new("sh");
            command.arg("-c").arg([&exports[..], &[thing]].concat().join("\n"));
            command.env(AS_SALDO, "1").env("SALDO__TRACING__FILTER", "warn");
            let output = run(command).await?;
            assert!(output.status.success(), "{thing}: {}{}", text(&output.stdout), text(&output.stderr));
            Ok(text(&output.stdout))
        };
        for present in present {
            let said = shell(things[0]).await?;
            assert!(said.contains(present) && said.contains("1250.00"), "{said}");
            let said = shell(things[1]).await?;
            assert!(said.contains("is in force") && said.contains("reminder"), "{said}");
            let said = shell(things[2]).await?;
            assert!(said.contains("Ana Gil") && said.contains("the read models equal the log"), "{said}");
        }
        Command::new("kill").args(["-TERM", &child.id().to_string()]).status()?;
        assert!(tokio::task::spawn_blocking(move || child.wait()).await??.success());
    }
    assert_eq!(urls[0], urls[1], "a URL that somebody has noted stays right");
    // A port that is taken names the flag.
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let refused = run(saldo(&["dev", "--data-dir", &data, "--listen", &address, "--mail-page", free])?).await?;
    assert!(text(&refused.stderr).contains("--listen"), "{}", text(&refused.stderr));
    Ok(())
}

/// A tool without a configuration must not start a log of its own, and find it empty.
pub async fn nothing_configured(_: Arc<Env>) -> Outcome {
    let home = tempfile::tempdir()?;
    for (args, missing) in [
        (&["verify"][..], "no log is configured"),
        (&["replay", "acme/D-1"], "no log is configured"),
        (&["rebuild"], "no log is configured"),
        (&["log", "create"], "no log is configured"),
        (&["log", "upgrade"], "no log is configured"),
        (&["log", "accept"], "no log is configured"),
        (&["sending", "hold", "--reason", "x"], "no log is configured"),
        (&["rebuild", "--kafka", "127.0.0.1:1"], "no database is configured"),
        (&["verify", "--kafka", "127.0.0.1:1"], "no database is configured"),
    ] {
        let mut command = saldo(args)?;
        command.env("XDG_DATA_HOME", home.path()).env_remove("SALDO_CONFIG");
        let output = run(command).await?;
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(missing) && error.contains("SALDO_CONFIG"), "{args:?}: {error}");
        assert!(std::fs::read_dir(home.path())?.next().is_none(), "{args:?} has made something");
    }
    Ok(())
}

/// An account as known at an instant, and as true on a day.
pub async fn replay(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 10_000)).await?;
    let paid = clients.command.record_payment(payment("3", "D-1", "P-1", 4_000)).await?.into_inner();
    let paid_at = paid.recorded_at.ok_or("recorded_at")?;
    let before_it = jiff::Timestamp::new(paid_at.seconds, paid_at.nanos)? - Duration::from_micros(1);
    let open_minor = |args: Vec<String>| {
        let saldo = &saldo;
        async move {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            let said = saldo.succeed(&[&["replay", "acme/D-1", "--json"], &args[..]].concat()).await?;
            let said: serde_json::Value = serde_json::from_str(&said)?;
            let commits = said["commits"].as_array().ok_or("commits")?;
            assert!(
                commits.iter().all(|commit| commit["actor"] == "dev"),
                "the token's subject stands in each: {said}"
            );
            let commits = commits.len();
            Ok::<_, Failure>((commits, said["state"][0]["open_minor"].as_i64()))
        }
    };
    assert_eq!(open_minor(vec![]).await?, (3, Some(6_000)));
    // Known later; true later.
    assert_eq!(open_minor(vec!["--until".into(), before_it.to_string()]).await?, (2, Some(10_000)));
    assert_eq!(open_minor(vec!["--as-of".into(), "2026-02-09".into()]).await?, (3, Some(10_000)));
    assert_eq!(open_minor(vec!["--as-of".into(), "2025-12-31".into()]).await?, (3, None));
    let unknown = saldo.command(&["replay", "acme/D-2"]).await?;
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("no account acme/D-2"));
    Ok(())
}

/// The log is there, but its keys are elsewhere: values are not sealed under new keys, and names are not taken for erased.
pub async fn keys_elsewhere(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let opened = saldo.clients().await?.command.open_account(open("1", "D-1")).await?.into_inner();
    let exported = saldo.config.display().to_string();
    saldo.stop().await?;
    std::fs::rename(dir.path().join("keyring"), dir.path().join("backup"))?;
    let data = dir.path().display().to_string();
    let refused = run(crate::process::saldo(&[
        "dev",
        "--data-dir",
        &data,
        "--listen",
        "127.0.0.1:0",
        "--mail-page",
        "127.0.0.1:0",
    ])?)
    .await?;
    assert!(
        !refused.status.success() && text(&refused.stderr).contains("log.keys is missing"),
        "{}",
        text(&refused.stderr)
    );
    assert!(!dir.path().join("keyring").exists(), "no key store is made anew");
    std::fs::rename(dir.path().join("backup"), dir.path().join("keyring"))?;
    // Started again in the terminal where its variables were exported: they name servers that are gone.
    let saldo = Saldo::start_with(dir.path(), &[], &[("SALDO_CONFIG", &exported)]).await?;
    let who = v1::GetAccountRequest { account_id: "D-1".into(), consistency_token: opened.consistency_token };
    assert_eq!(saldo.clients().await?.query.get_account(who).await?.into_inner().display_name, "Ana Gil");
    Ok(())
}

/// A query that cannot be asked is the caller's fault and no outage.
pub async fn odd_questions(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut query = saldo.clients().await?.query;
    let asked = v1::GetAgingRequest::default;
    for (request, field) in [
        (v1::GetAgingRequest { as_of: date(-9000, 1, 1), ..asked() }, "as_of"),
        (v1::GetAgingRequest { as_of: date(2026, 2, 30), ..asked() }, "as_of"),
        (
            v1::GetAgingRequest {
                known_at: Some(prost_types::Timestamp { seconds: -300_000_000_000, nanos: 0 }),
                ..asked()
            },
            "known_at",
        ),
        (v1::GetAgingRequest { page_token: "a\0~b".into(), ..asked() }, "page_token"),
        (v1::GetAgingRequest { page_size: 1_001, ..asked() }, "page_size"),
        (v1::GetAgingRequest { account_id: "a\0b".into(), ..asked() }, "account_id"),
        (v1::GetAgingRequest { consistency_token: "yesterday".into(), ..asked() }, "consistency_token"),
    ] {
        let status = query.get_aging(request).await.expect_err(field);
        assert_eq!((status.code(), crate::bad_input::field(&status).as_str()), (Code::InvalidArgument, field));
    }
    Ok(())
}

/// A reader such as `head` takes the first lines only. The command then ends as it would have, without an error.
pub async fn closed_pipe(_: Arc<Env>) -> Outcome {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy");
    for args in [&["policy", "validate", example, "--samples"][..], &["completions", "bash"]] {
        let (reader, writer) = std::io::pipe()?;
        drop(reader);
        let child = saldo(args)?.stdout(writer).stderr(Stdio::piped()).spawn()?;
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()), "{args:?}");
    }
    Ok(())
}

/// The documented example is sound and speaks both languages; what is wrong with a folder is named with its file.
pub async fn policy(_: Arc<Env>) -> Outcome {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy");
    let output = run(saldo(&["policy", "validate", example, "--samples", "--json"])?).await?;
    assert!(output.status.success(), "{}", text(&output.stdout));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let messages = said["messages"].as_array().ok_or("messages")?;
    assert_eq!(messages.len(), 10, "five steps in two languages");
    let of = |step: &str, language: &str| {
        let found = messages.iter().find(|one| one["step"] == step && one["language"] == language);
        found.and_then(|one| one["text"].as_str()).unwrap_or_default().to_owned()
    };
    assert!(of("formal-demand", "es").contains("1.234,50 EUR, vencida el 15 de febrero de 2026 (hace 15 días)"));
    assert!(of("courtesy", "en").contains("1,234.50 EUR, due on 5 March 2026"), "{}", of("courtesy", "en"));

    let nobody = format!("smtp://127.0.0.1:{}?tls=none", free_port()?);
    let sent =
        ["policy", "try", example, "--step", "courtesy", "--language", "es", "--to", "ana@example.org", "--json"];
    let output = run(saldo(&[&sent[..], &["--smtp", &nobody]].concat())?).await?;
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    assert_eq!(
        (output.status.code(), &said["outcome"], &said["stage"]),
        (Some(3), &"deferred".into(), &"connect".into())
    );

    let dir = tempfile::tempdir()?;
    let templates = dir.path().join("templates");
    std::fs::create_dir(&templates)?;
    for entry in std::fs::read_dir(Path::new(example).join("templates"))? {
        let entry = entry?;
        std::fs::copy(entry.path(), templates.join(entry.file_name()))?;
    }
    let sound = std::fs::read_to_string(Path::new(example).join("policy.toml"))?;
    std::fs::write(dir.path().join("policy.toml"), sound.replace("to = \"20:00\"", "to = \"08:00\""))?;
    std::fs::remove_file(templates.join("courtesy.en.toml"))?;
    std::fs::write(templates.join("due-today.es.toml"), "subject = 'x'\ntext = '{{ debtor.nmae }}'\n")?;
    std::fs::write(templates.join("due-today.en.toml"), "subject = 'x'\ntxt = 'y'\n")?;
    std::fs::write(templates.join("unused.es.toml"), "subject = 'x'\ntext = 'y'\n")?;
    let folder = dir.path().display().to_string();
    let output = run(saldo(&["policy", "validate", &folder])?).await?;
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for fault in [
        "policy.toml: contact.window[0].to: must be 30 minutes or more after from",
        "policy.toml: step[0].template: must be there in every language: templates/courtesy.en.toml is missing",
        "templates/due-today.es.toml: text: there is no variable debtor.nmae",
        "templates/due-today.en.toml: line 2: unknown field `txt`",
        "templates/unused.es.toml: name: must be a template that a step names",
    ] {
        assert!(said.contains(fault), "{fault:?} is missing in:\n{said}");
    }
    std::fs::write(dir.path().join("policy.toml"), sound.replace("tone = \"firm\"", "tone = \"threatening\""))?;
    let output = run(saldo(&["policy", "validate", &folder])?).await?;
    assert!(text(&output.stdout).contains("unknown variant `threatening`"), "{}", text(&output.stdout));
    Ok(())
}

/// The contacts that a draft would bring to an account, day by day, in the debtor's own hours.
pub async fn preview(_: Arc<Env>) -> Outcome {
    let dir = tempfile::tempdir()?;
    let saldo = Saldo::start(dir.path(), &[]).await?;
    let mut clients = saldo.clients().await?;
    clients.command.open_account(open("1", "D-1")).await?;
    // Due on 31 January, a Saturday; and one to come.
    clients.command.issue_invoice(invoice("2", "D-1", "F-1", 10_000)).await?;
    let later = v1::IssueInvoiceRequest { due_date: date(2026, 3, 2), ..invoice("3", "D-1", "F-2", 5_000) };
    let later = clients.command.issue_invoice(later).await?.into_inner();
    let seen = v1::GetAgingRequest { consistency_token: later.consistency_token, ..Default::default() };
    clients.query.get_aging(seen).await?;
    let policy = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/policy");
    let args = ["preview", "D-1", "--policy", policy, "--from", "2026-01-26T07:00:00Z", "--json"];
    let said: serde_json::Value = serde_json::from_str(&saldo.succeed(&args).await?)?;
    let told: Vec<String> = said["contacts"]
        .as_array()
        .ok_or("contacts")?
        .iter()
        .map(|one| {
            let items: Vec<&str> =
                one["items"].as_array().into_iter().flatten().filter_map(|item| item.as_str()).collect();
            let text = |key: &str| one[key].as_str().unwrap_or_default();
            format!("{} {} {}: {}", text("local"), text("step"), text("tone"), items.join(" "))
        })
        .collect();
    assert_eq!(
        told,
        [
            "Wed 2026-01-28 09:00 courtesy friendly: F-1/1",
            "Mon 2026-02-02 09:00 due-today friendly: F-1/1",
            "Mon 2026-02-09 09:00 first-reminder friendly: F-1/1",
            "Mon 2026-02-23 09:00 second-reminder firm: F-1/1",
            // These messages list F-1 too, which is overdue: none speaks more mildly than the message before.
            "Fri 2026-02-27 09:00 second-reminder firm: F-2/1",
            "Mon 2026-03-02 09:00 second-reminder firm: F-2/1",
            "Mon 2026-03-09 09:00 second-reminder firm: F-2/1",
            "Tue 2026-03-17 09:00 formal-demand formal: F-1/1",
            "Mon 2026-03-23 09:00 formal-demand formal: F-2/1",
            "Thu 2026-04-16 09:00 formal-demand formal: F-2/1",
        ]
    );
    let unknown = saldo.command(&["preview", "D-9", "--policy", policy]).await?;
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("does not exist"), "{}", text(&unknown.stderr));
    Ok(())
}
