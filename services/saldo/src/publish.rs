//! `saldo policy publish`, `saldo policy show` and `saldo sending`: what is in force, over gRPC.

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use clap::{Args, Subcommand};
use saldo_api::v1;
use saldo_catalog::Fault;
use saldo_facts::timestamp_from_api;
use serde_json::json;
use tonic::Status;
use tonic_types::{FieldViolation, StatusExt};
use uuid::Uuid;

use crate::{
    Outcome,
    client::{Target, explain, patiently},
    policy::{FAULTS, folder, tell},
    table,
};

/// What `policy publish` takes.
#[derive(Debug, Args)]
pub struct PublishArgs {
    /// Folder of the policy.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Let the service check it and publish nothing.
    #[arg(long)]
    validate_only: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where and as whom.
    #[command(flatten)]
    target: Target,
}

/// What `policy show` takes.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Write the files in force into this folder, which must be empty or not there.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where and as whom.
    #[command(flatten)]
    target: Target,
}

/// What can be done to the switch.
#[derive(Debug, Subcommand)]
pub enum Sending {
    /// From now on reminders fall due and are sent.
    #[command(after_help = "Example:\n  saldo sending on")]
    On(SwitchArgs),
    /// From now on nothing falls due and nothing is sent; ladders stand still.
    #[command(after_help = "Example:\n  saldo sending off")]
    Off(SwitchArgs),
}

/// What `sending` takes.
#[derive(Debug, Args)]
pub struct SwitchArgs {
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Where and as whom.
    #[command(flatten)]
    target: Target,
}

/// Publishes a folder. Each fault that the service finds is printed.
pub async fn publish(args: PublishArgs) -> Outcome {
    let files = folder::files(&args.dir)?;
    let clients = args.target.connect().await?;
    let request =
        v1::PublishPolicyRequest { request_id: Uuid::new_v4().to_string(), files, validate_only: args.validate_only };
    let answer = patiently(|| {
        let (mut catalog, request) = (clients.catalog.clone(), request.clone());
        async move { catalog.publish_policy(request).await }
    });
    let answer = match answer.await {
        Ok(answer) => answer.into_inner(),
        Err(status) => return refused(&status, args.json),
    };
    if args.json {
        println!(
            "{}",
            json!({ "version": answer.version, "sending": answer.sending, "published": !args.validate_only })
        );
        return Ok(ExitCode::SUCCESS);
    }
    if args.validate_only {
        println!("nothing wrong; nothing was published, version {} stays in force", answer.version);
    } else {
        println!("policy version {} is in force", answer.version);
    }
    if !answer.sending {
        println!("sending is off; `saldo sending on` switches it on");
    }
    Ok(ExitCode::SUCCESS)
}

/// What the service found wrong with a policy; an error where it is something else.
fn refused(status: &Status, as_json: bool) -> Outcome {
    let Some(faults) = faults(status) else { return Err(explain(status).into()) };
    if as_json {
        println!("{}", json!({ "faults": faults, "published": false }));
    } else {
        tell(&faults);
        println!("{} faults; nothing was published", faults.len());
    }
    Ok(ExitCode::from(FAULTS))
}

/// The violations, where they are all of fields `FILE: FIELD`.
fn faults(status: &Status) -> Option<Vec<Fault>> {
    let fault = |violation: FieldViolation| {
        let (file, field) = violation.field.split_once(": ")?;
        Some(Fault { file: file.to_owned(), field: field.to_owned(), rule: violation.description })
    };
    status.get_details_bad_request()?.field_violations.into_iter().map(fault).collect()
}

/// Shows what is in force, and every change there was.
pub async fn show(args: ShowArgs) -> Outcome {
    let mut clients = args.target.connect().await?;
    let answer = clients.catalog.get_catalog(v1::GetCatalogRequest {}).await;
    let answer = answer.map_err(|status| explain(&status))?.into_inner();
    if let Some(dir) = &args.into {
        write(dir, &answer.files)?;
    }
    let changes: Vec<(u64, String, &str, &str)> = answer
        .changes
        .iter()
        .map(|change| {
            let at = change.recorded_at.and_then(|at| timestamp_from_api(at).ok());
            (change.version, at.map(|at| at.to_string()).unwrap_or_default(), &*change.actor, &*change.summary)
        })
        .collect();
    if args.json {
        let files: serde_json::Map<String, serde_json::Value> =
            answer.files.iter().map(|file| (file.name.clone(), file.source.clone().into())).collect();
        let changes: Vec<_> = changes
            .iter()
            .map(|(version, at, actor, summary)| json!({ "version": version, "at": at, "actor": actor, "summary": summary }))
            .collect();
        let said = json!({ "version": answer.version, "sending": answer.sending, "files": files, "changes": changes });
        println!("{said}");
        return Ok(ExitCode::SUCCESS);
    }
    if answer.version == 0 {
        println!("nothing was ever published; `saldo policy publish docs/policy` would");
        return Ok(ExitCode::SUCCESS);
    }
    println!("version {}, sending {}", answer.version, if answer.sending { "on" } else { "off" });
    let lines = changes
        .into_iter()
        .map(|(version, at, actor, summary)| vec![format!("v{version}"), at, actor.to_owned(), summary.to_owned()]);
    println!("{}", table::plain(&["", "recorded", "by", "what"], 4, lines));
    match (&args.into, answer.files.iter().find(|file| file.name == saldo_catalog::sources::POLICY)) {
        (Some(dir), _) => println!("{} files written into {}", answer.files.len(), dir.display()),
        (None, Some(policy)) => println!("\n# {}\n{}", policy.name, policy.source),
        (None, None) => println!("no policy is published"),
    }
    Ok(ExitCode::SUCCESS)
}

fn write(dir: &std::path::Path, files: &[v1::PolicyFile]) -> Result<(), String> {
    let failed = |path: &std::path::Path, error: std::io::Error| format!("{}: {error}", path.display());
    if dir.exists() && std::fs::read_dir(dir).map_err(|error| failed(dir, error))?.next().is_some() {
        return Err(format!("{} is not empty", dir.display()));
    }
    let templates = dir.join("templates");
    std::fs::create_dir_all(&templates).map_err(|error| failed(&templates, error))?;
    for file in files {
        // The service took only names of these two shapes; nothing else is written.
        let known = file.name == saldo_catalog::sources::POLICY
            || saldo_catalog::sources::template_name(&file.name).is_some_and(|(name, _)| !name.contains('/'));
        if !known {
            return Err(format!("the service named an odd file: {:?}", file.name));
        }
        let path = dir.join(&file.name);
        std::fs::write(&path, &file.source).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

/// Switches sending on or off.
pub async fn sending(switch: Sending) -> Outcome {
    let (on, args) = match switch {
        Sending::On(args) => (true, args),
        Sending::Off(args) => (false, args),
    };
    let clients = args.target.connect().await?;
    let request = v1::SetSendingRequest { request_id: Uuid::new_v4().to_string(), on };
    let answer = patiently(|| {
        let (mut catalog, request) = (clients.catalog.clone(), request.clone());
        async move { catalog.set_sending(request).await }
    });
    let answer = answer.await.map_err(|status| explain(&status))?.into_inner();
    if args.json {
        println!("{}", json!({ "version": answer.version, "sending": answer.sending }));
    } else {
        println!("sending is {}, policy version {}", if answer.sending { "on" } else { "off" }, answer.version);
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_fault_of_a_refused_policy_is_told_apart() {
        let status = |field: &str| {
            let mut details = ErrorDetails::new();
            details.add_bad_request_violation("policy.toml: step[0].tone", "must be there");
            details.add_bad_request_violation(field, "must be one line");
            Status::with_error_details(Code::InvalidArgument, "2 faults", details)
        };
        let found = faults(&status("templates/a.es.toml: subject")).expect("faults");
        let told: Vec<(&str, &str)> = found.iter().map(|fault| (&*fault.file, &*fault.field)).collect();
        assert_eq!(told, [("policy.toml", "step[0].tone"), ("templates/a.es.toml", "subject")]);
        assert_eq!(faults(&status("request_id")), None);
    }
}
