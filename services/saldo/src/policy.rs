//! `saldo policy`: the ladder and its templates, as people write them.

mod folder;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Subcommand};
use saldo_domain::policy::Step;
use saldo_templates::{Language, Template, samples};
use serde_json::json;

use crate::Outcome;
pub use folder::Folder;

/// What can be done with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy and its templates; name every fault.
    #[command(
        after_help = "Exit code 0: nothing wrong; 3: faults.\n\nExamples:\n  saldo policy validate docs/policy\n  saldo policy validate docs/policy --samples"
    )]
    Validate(ValidateArgs),
}

/// What `policy validate` takes.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Folder with policy.toml and templates/NAME.LANGUAGE.toml; docs/policy.md describes it.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print each step's message on made-up items, as a debtor would read it.
    #[arg(long)]
    samples: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code of a policy with faults.
const FAULTS: u8 = 3;

/// Runs one command.
pub fn run(command: PolicyCommand) -> Outcome {
    let PolicyCommand::Validate(args) = command;
    let (folder, faults) = Folder::read(&args.dir)?;
    let messages = match (&folder, faults.is_empty() && args.samples) {
        (Some(folder), true) => written(folder)?,
        _ => Vec::new(),
    };
    if args.json {
        let faults: Vec<_> = faults
            .iter()
            .map(|fault| json!({ "file": fault.file, "field": fault.field, "rule": fault.rule }))
            .collect();
        println!("{}", json!({ "faults": faults, "messages": messages }));
    } else {
        for fault in &faults {
            println!("{}: {}: {}", fault.file, fault.field, fault.rule);
        }
        for message in &messages {
            let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            println!(
                "--- {} ({}), day {}\nSubject: {}\n\n{}\n",
                text("step"),
                text("language"),
                message["offset_days"],
                text("subject"),
                text("text")
            );
        }
        if let (Some(folder), true) = (&folder, faults.is_empty()) {
            let (steps, languages) = (folder.policy.steps.len(), folder.languages().join(", "));
            println!("nothing wrong: {steps} steps, templates in {languages}");
        } else {
            println!("{} faults", faults.len());
        }
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

/// Each step's message in each language.
fn written(folder: &Folder) -> Result<Vec<serde_json::Value>, Box<dyn std::error::Error + Send + Sync>> {
    let mut messages = Vec::new();
    for step in &folder.policy.steps {
        for template in folder.templates.iter().filter(|template| template.name == step.template) {
            messages.push(sample(folder, step, template)?);
        }
    }
    Ok(messages)
}

fn sample(
    folder: &Folder,
    step: &Step,
    template: &Template,
) -> Result<serde_json::Value, Box<dyn std::error::Error + Send + Sync>> {
    let language = Language::parse(&template.language).ok_or("a language that was not checked")?;
    let mut letters = samples(language).into_iter();
    // The samples begin with one before the due date and one on it; the next is past it.
    let letter = letters.nth(usize::try_from(step.offset_days.signum() + 1)?).ok_or("no sample")?;
    let letter = saldo_templates::Letter {
        debtor: saldo_templates::Party { name: "Ana Gil".to_owned(), ..letter.debtor },
        creditor: saldo_templates::Party {
            name: folder.policy.sender.name.clone(),
            email: folder.policy.sender.email.clone(),
        },
        payment: folder.policy.sender.payment.clone(),
        step: step.name.clone(),
        tone: step.tone,
        ..letter
    };
    let message = template.render(&letter)?;
    Ok(json!({
        "step": step.name, "offset_days": step.offset_days, "language": template.language,
        "subject": message.subject, "text": message.text, "html": message.html,
    }))
}
