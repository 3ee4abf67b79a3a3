//! `saldo token`: a token for trials. In production an identity provider issues tokens.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anstream::{print, println};
use saldo_auth::{Issuer, Role};
use saldo_domain::ids::TenantId;

use super::Run;
use crate::Outcome;

/// Make a token for trials, or a key pair.
///
/// In production an identity provider issues tokens, and auth.public_keys names its public keys.
#[derive(clap::Parser)]
#[command(
    name = "token",
    after_help = "Examples:\n  saldo token --key dev-key.pem --tenant acme --subject me --role writer --role reader\n  saldo token --key dev-key.pem --public-key > dev-key.pub.pem"
)]
pub struct Token {
    /// The private key (PKCS#8 PEM, Ed25519); a missing file is created.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// The tenant: the creditor whose accounts the token may reach.
    #[arg(long, required_unless_present = "public_key")]
    tenant: Option<String>,
    /// The caller; every commit names it as the actor.
    #[arg(long, default_value = "cli")]
    subject: String,
    /// writer, reader, operator, auditor or service; can be given several times.
    #[arg(long = "role", required_unless_present = "public_key", value_parser = role)]
    roles: Vec<Role>,
    /// How many hours the token is valid.
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

impl Run for Token {
    async fn run(self) -> Outcome {
        if self.public_key {
            print!("{}", Issuer::read_or_create(&self.key)?.public_pem()?);
            return Ok(ExitCode::SUCCESS);
        }
        let tenant = creditor(&self.tenant.unwrap_or_default())?;
        let life = Duration::from_secs(self.hours * 3600);
        let issuer = Issuer::read_or_create(&self.key)?;
        println!("{}", issuer.issue(&self.subject, tenant.as_str(), &self.roles, life)?);
        Ok(ExitCode::SUCCESS)
    }
}
