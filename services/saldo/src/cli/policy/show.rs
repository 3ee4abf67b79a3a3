//! `saldo policy show`: the policy in force and every earlier change, over gRPC.

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use clap::Args;
use saldo_api::v1;
use saldo_facts::timestamp_from_api;
use serde_json::json;

use super::folder;
use crate::{
    Outcome,
    cli::{change::ask, sending},
    client::Target,
    terminal::table,
};

#[derive(Args)]
pub struct ShowArgs {
    /// Write the files in force into this folder. The folder must be empty or missing.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub async fn show(args: ShowArgs) -> Outcome {
    let clients = args.target.connect().await?;
    let answer = ask(&clients, v1::GetCatalogRequest {}).await?;
    if let Some(dir) = &args.into {
        folder::write(dir, &answer.files)?;
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
        let said = json!({
            "version": answer.version, "sending": answer.sending, "files": files, "changes": changes,
            "system_version": answer.system_version, "format": answer.format, "parked": answer.parked,
            "silence": answer.silence,
        });
        println!("{said}");
        return Ok(ExitCode::SUCCESS);
    }
    if !answer.parked.is_empty() {
        println!("PARKED: this release cannot read what is in force, and sends nothing: {}", answer.parked);
    }
    if answer.version > 0 {
        println!("version {}, sending {}", answer.version, if answer.sending { "on" } else { "off" });
    }
    if let Some(silence) = sending::silence(&answer.silence) {
        println!("{silence}");
    }
    if answer.version == 0 {
        return Ok(ExitCode::SUCCESS);
    }
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
