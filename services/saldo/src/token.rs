//! `saldo token`: a token for trying. In earnest they come from an identity provider.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anstream::{print, println};
use saldo_auth::{Issuer, Role};
use saldo_domain::ids::TenantId;

use crate::Outcome;

/// What `token` takes.
#[derive(Debug, clap::Args)]
pub struct TokenArgs {
    /// Private key (PKCS#8 PEM, Ed25519); made if the file is missing.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The creditor.
    #[arg(long, required_unless_present = "public_key")]
    tenant: Option<String>,
    /// Who asks; stands in every commit as its actor.
    #[arg(long, default_value = "cli")]
    subject: String,
    /// writer, reader, operator, auditor or service; may be given several times.
    #[arg(long = "role", required_unless_present = "public_key", value_parser = role)]
    roles: Vec<Role>,
    /// Hours the token is valid.
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u64).range(1..=8760))]
    hours: u64,
    /// Print the public key (for auth.public_keys) instead of a token.
    #[arg(long)]
    public_key: bool,
}

fn role(name: &str) -> Result<Role, String> {
    Role::parse(name).ok_or_else(|| "must be writer, reader, operator, auditor or service".to_owned())
}

/// The tenant of a token, which must be a creditor's.
pub fn creditor(text: &str) -> Result<TenantId, String> {
    let tenant = TenantId::new(text).map_err(|rule| format!("--tenant {rule}"))?;
    if tenant.is_reserved() {
        return Err(format!("--tenant {text} is reserved for the operator's own catalog; choose another"));
    }
    Ok(tenant)
}

/// Prints a token.
pub fn run(args: TokenArgs) -> Outcome {
    if args.public_key {
        print!("{}", Issuer::read_or_create(&args.key)?.public_pem()?);
        return Ok(ExitCode::SUCCESS);
    }
    let tenant = creditor(&args.tenant.unwrap_or_default())?;
    let life = Duration::from_secs(args.hours * 3600);
    let issuer = Issuer::read_or_create(&args.key)?;
    println!("{}", issuer.issue(&args.subject, tenant.as_str(), &args.roles, life)?);
    Ok(ExitCode::SUCCESS)
}
