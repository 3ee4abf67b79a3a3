//! `saldo policy publish`: puts a folder in force, over gRPC.

use std::{path::PathBuf, process::ExitCode};

use anstream::println;
use clap::Args;
use saldo_api::v1;
use saldo_catalog::Fault;
use serde_json::json;
use tonic::Status;
use tonic_types::{FieldViolation, StatusExt};
use uuid::Uuid;

use super::{FAULTS, folder, print_faults};
use crate::{
    Outcome,
    cli::{refusal::explained, sending},
    client::Target,
};

#[derive(Args)]
pub struct PublishArgs {
    /// Folder of the policy.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Let the service check the folder, and publish nothing.
    #[arg(long)]
    validate_only: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: Target,
}

pub async fn publish(args: PublishArgs) -> Outcome {
    let files = folder::files(&args.dir)?;
    let clients = args.target.connect().await?;
    let request =
        v1::PublishPolicyRequest { request_id: Uuid::new_v4().to_string(), files, validate_only: args.validate_only };
    let answer = match clients.ask_patiently(request).await {
        Ok(answer) => answer,
        Err(status) => return refused(&status, args.json),
    };
    if args.json {
        println!(
            "{}",
            json!({
                "version": answer.version, "sending": answer.sending, "silence": answer.silence,
                "published": !args.validate_only,
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    if args.validate_only {
        println!("no fault; nothing was published, version {} stays in force", answer.version);
    } else {
        println!("policy version {} is in force", answer.version);
    }
    if let Some(silence) = sending::silence(&answer.silence) {
        println!("{silence}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the faults that the service found in the policy. Any other status is an error.
fn refused(status: &Status, as_json: bool) -> Outcome {
    let Some(faults) = faults(status) else { return Err(explained(status).into()) };
    if as_json {
        println!("{}", json!({ "faults": faults, "published": false }));
    } else {
        print_faults(&faults);
        println!("{} faults; nothing was published", faults.len());
    }
    Ok(ExitCode::from(FAULTS))
}

/// The violations, if every one of them names a field as `FILE: FIELD`.
fn faults(status: &Status) -> Option<Vec<Fault>> {
    let fault = |violation: FieldViolation| {
        let (file, field) = violation.field.split_once(": ")?;
        Some(Fault { file: file.to_owned(), field: field.to_owned(), rule: violation.description })
    };
    status.get_details_bad_request()?.field_violations.into_iter().map(fault).collect()
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn each_fault_of_a_refused_policy_names_its_file_and_field() {
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
