//! `saldo policy`: the ladder and its templates, as people write them. `validate` and `try` work on a folder alone; `publish` and
//! `show` ask the service.

pub mod example;
pub mod folder;
mod publish;
mod show;

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use clap::Args;
use saldo_catalog::{Fault, Published};
use saldo_channels::{
    Outcome as Sent,
    email::{Mail, Server},
};
use saldo_clock::Clock;
use saldo_domain::dunning::policy::Step;
use saldo_templates::{Language, Parts, Party, Template, Variables, samples};
use serde::Serialize;
use serde_json::json;

use self::{publish::PublishArgs, show::ShowArgs};
use super::Run;
use crate::{Failure, Outcome, config::MailServer};

/// Check a dunning policy and its templates, try its messages, and put it in force.
#[derive(clap::Parser)]
#[command(name = "policy")]
pub enum Policy {
    /// Check a policy and its templates, and list every fault.
    ///
    /// Reads the folder and needs no service.
    #[command(
        after_help = "Exit code 0: no fault; 3: faults.\n\nExamples:\n  saldo policy validate docs/policy\n  saldo policy validate docs/policy --samples"
    )]
    Validate(ValidateArgs),
    /// Send the message of one step, with made-up items, to an address of yours.
    ///
    /// Reads the folder and needs no service. Nothing is recorded.
    #[command(
        after_help = "Exit code 0: the mail server accepted the message; 3: the server refused it, or did not answer.\n\nExamples:\n  saldo policy try docs/policy --step first-reminder --language es --to me@example.com --smtp 'smtp://localhost:1025?tls=none'\n  SALDO_SMTP=smtps://user:password@mail.example.com saldo policy try docs/policy --step courtesy --language en --to me@example.com"
    )]
    Try(TryArgs),
    /// Put a policy and its templates in force.
    ///
    /// They replace the tenant's former policy from the next decision on. The token names the tenant. Needs a token with the role
    /// operator.
    #[command(
        after_help = "Exit code 0: in force; 3: faults, nothing published.\n\nExamples:\n  saldo policy publish docs/policy\n  saldo policy publish docs/policy --validate-only"
    )]
    Publish(PublishArgs),
    /// Show the policy in force and every earlier change.
    ///
    /// Needs a token with the role reader.
    #[command(after_help = "Examples:\n  saldo policy show\n  saldo policy show --into my-policy")]
    Show(ShowArgs),
}

#[derive(Args)]
pub struct TryArgs {
    /// Folder of the policy.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The name of the step.
    #[arg(long)]
    step: String,
    /// The language of the template.
    #[arg(long)]
    language: String,
    /// The address of the message.
    #[arg(long, value_name = "ADDRESS")]
    to: String,
    #[command(flatten)]
    mail_server: MailServer,
    /// PEM file of the authorities that certify the mail server; absent: the authorities that browsers trust.
    #[arg(long, value_name = "FILE")]
    smtp_ca: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ValidateArgs {
    /// Folder with policy.toml and templates/NAME.LANGUAGE.toml; docs/policy.md describes it.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Print the message of each step, with made-up items, as a debtor would read it.
    #[arg(long)]
    samples: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Exit code of a policy with faults, and of a message that was not accepted.
pub const FAULTS: u8 = 3;

impl Run for Policy {
    async fn run(self) -> Outcome {
        match self {
            Policy::Validate(args) => validate(args),
            Policy::Try(args) => send_sample(args).await,
            Policy::Publish(args) => publish::publish(args).await,
            Policy::Show(args) => show::show(args).await,
        }
    }
}

async fn send_sample(args: TryArgs) -> Outcome {
    let folder = folder::sound(&args.dir)?;
    let steps = &folder.policy.steps;
    let step = steps.iter().find(|step| step.name == args.step).ok_or_else(|| {
        let names: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
        format!("--step {}: the policy has no such step; it has {}", args.step, names.join(", "))
    })?;
    let template = folder
        .templates
        .iter()
        .find(|template| template.name == step.template && template.language == args.language)
        .ok_or_else(|| {
            format!(
                "--language {}: the step has no template in this language; there are templates in {}",
                args.language,
                folder.languages().join(", ")
            )
        })?;
    let message = sample(&folder, step, template)?;
    let sender = &folder.policy.sender;
    let mail = Mail {
        from_name: sender.name.clone(),
        from: sender.email.clone(),
        reply_to: sender.reply_to.clone(),
        to: args.to,
        subject: message.subject,
        text: message.text,
        html: message.html,
        id: uuid::Uuid::new_v4().to_string(),
        date: Clock::system().now(),
    };
    let url = args.mail_server.url()?.ok_or("--smtp is missing: name the mail server there, or in SALDO_SMTP")?;
    let server: Server = url.expose().parse().map_err(|error| format!("the mail server: {error}"))?;
    let server = match args.smtp_ca {
        None => server,
        Some(ca) => server.trusting(ca).map_err(|error| format!("--smtp-ca: {error}"))?,
    };
    let outcome = server.hand_over(&mail.build()?).await;
    if args.json {
        println!("{}", serde_json::to_string(&outcome)?);
    } else {
        println!("{}", describe(&outcome));
    }
    Ok(if matches!(outcome, Sent::Accepted { .. }) { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

fn describe(outcome: &Sent) -> String {
    match outcome {
        Sent::Accepted { reply } => format!("the server accepted it: {reply}"),
        Sent::Rejected { stage, reply, .. } => format!("the server refused it for good, at {stage}: {reply}"),
        Sent::Deferred { stage, why, .. } => format!("not handed over, at {stage}: {why}; try again later"),
        Sent::Withdrawn => "not handed over: withdrawn at the last moment".to_owned(),
        Sent::Unknown { why } => format!("sent, but the server did not answer; it may or may not arrive: {why}"),
    }
}

fn validate(args: ValidateArgs) -> Outcome {
    let (folder, faults) = folder::read(&args.dir)?;
    let messages = match (&folder, faults.is_empty() && args.samples) {
        (Some(folder), true) => messages(folder)?,
        _ => Vec::new(),
    };
    if args.json {
        println!("{}", json!({ "faults": faults, "messages": messages }));
    } else {
        print_faults(&faults);
        for Sample { step, offset_days, language, message } in &messages {
            let Parts { subject, text, .. } = message;
            println!("--- {step} ({language}), day {offset_days}\nSubject: {subject}\n\n{text}\n");
        }
        if let (Some(folder), true) = (&folder, faults.is_empty()) {
            let (steps, languages) = (folder.policy.steps.len(), folder.languages().join(", "));
            println!("no fault: {steps} steps, templates in {languages}");
        } else {
            println!("{} faults", faults.len());
        }
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(FAULTS) })
}

/// Prints faults, one a line.
pub fn print_faults(faults: &[Fault]) {
    for fault in faults {
        println!("{}: {}: {}", fault.file, fault.field, fault.rule);
    }
}

/// The message of a step, with made-up items.
#[derive(Debug, Serialize)]
struct Sample<'p> {
    step: &'p str,
    offset_days: i32,
    language: &'p str,
    #[serde(flatten)]
    message: Parts,
}

/// The message of each step, in each language.
fn messages(folder: &Published) -> Result<Vec<Sample<'_>>, Failure> {
    let mut messages = Vec::new();
    for step in &folder.policy.steps {
        for template in folder.templates.iter().filter(|template| template.name == step.template) {
            let (language, message) = (template.language.as_str(), sample(folder, step, template)?);
            messages.push(Sample { step: &step.name, offset_days: step.offset_days, language, message });
        }
    }
    Ok(messages)
}

fn sample(folder: &Published, step: &Step, template: &Template) -> Result<Parts, Failure> {
    let language = Language::parse(&template.language).ok_or("a language that was not checked")?;
    let mut samples = samples(language).into_iter();
    // The samples begin with one before the due date and one on it; the next is past it.
    let sample = samples.nth(usize::try_from(step.offset_days.signum() + 1)?).ok_or("no sample")?;
    let variables = Variables {
        debtor: Party { name: "Ana Gil".to_owned(), ..sample.debtor },
        creditor: Party { name: folder.policy.sender.name.clone(), email: folder.policy.sender.email.clone() },
        payment: folder.policy.sender.payment.clone(),
        step: step.name.clone(),
        tone: step.tone,
        ..sample
    };
    Ok(template.render(&variables)?)
}
