//! Settings of services, checked before anything is opened.

use std::{sync::Arc, time::Duration};

use saldo_auth::{Issuer, KeyError, PublicKey, Scope};
use saldo_channels::Transports;
use saldo_clock::Clock;
use saldo_tls::Newest;
use tokio_rustls::rustls::{ClientConfig, ServerConfig};

use super::{keys::Keys, service::Service, transports};
use crate::{Failure, config::Config};

/// Services, ready to be started.
pub struct Start<'s> {
    pub(super) services: &'s [Service],
    pub(super) clock: Clock,
    /// Whose tokens are taken, where a service has callers.
    pub(super) keys: Option<Keys>,
    /// Signs the tokens of scheduler and dispatcher.
    pub(super) issuer: Option<Arc<Issuer>>,
    /// How messages leave.
    pub(super) transports: Transports,
    pub(crate) server_tls: Option<Newest<ServerConfig>>,
    /// For connections to a command service in another process.
    pub(super) client_tls: Option<Newest<ClientConfig>>,
}

impl<'s> Start<'s> {
    /// These services. They take tokens of the configured keys, or of the one key of who explores, and decide by this clock.
    pub fn new(
        config: &Config,
        services: &'s [Service],
        explorer: Option<&Issuer>,
        clock: Clock,
    ) -> Result<Self, Failure> {
        let any = |what: fn(Service) -> bool| services.iter().copied().any(what);
        let with_command = services.contains(&Service::Command);
        let issuer = match any(Service::is_client) {
            true => Some(issuer(config, with_command)?),
            false => None,
        };
        if any(Service::is_client) && !with_command && config.services.command.is_empty() {
            return Err("services.command is missing: name the addresses of the command service's instances".into());
        }
        let keys = match any(Service::has_callers) {
            true => Some(keys(config, explorer, issuer.as_ref())?),
            false => None,
        };
        let transports = match services.contains(&Service::Dispatcher) {
            true => transports::configured(config)?,
            false => Transports::default(),
        };
        let server_tls =
            config.tls.files()?.map(|files| files.open().map_err(|error| format!("tls: {error}"))).transpose()?;
        let client_tls = match any(Service::is_client) && !with_command {
            true => Some(config.services.files()?.open().map_err(|error| format!("services: {error}"))?),
            false => None,
        };
        Ok(Self { services, clock, keys, issuer: issuer.map(Arc::new), transports, server_tls, client_tls })
    }
}

/// The configured key; or, in one process with the command service, a key of this start.
fn issuer(config: &Config, with_command: bool) -> Result<Issuer, Failure> {
    match &config.auth.service_key {
        Some(path) => Ok(Issuer::read(path).map_err(|error| format!("auth.service_key: {error}"))?),
        None if with_command => Ok(Issuer::generate()?),
        None => Err("auth.service_key is missing: scheduler and dispatcher sign their tokens with this private key. \
                     `saldo token --key FILE --public-key` makes it and prints its public key, which the command \
                     service needs in auth.service_public_keys"
            .into()),
    }
}

/// The longest that the tokens of who explores are valid.
pub const EXPLORING: Duration = Duration::from_secs(30 * 24 * 3600);

fn keys(config: &Config, explorer: Option<&Issuer>, services: Option<&Issuer>) -> Result<Keys, Failure> {
    let own = |name: &str, issuer: &Issuer, scope| {
        Ok::<_, Failure>(PublicKey { name: name.to_owned(), pem: issuer.public_pem()?, scope })
    };
    let mut ours = Vec::new();
    if let Some(issuer) = services {
        ours.push(own("the key of the services", issuer, Scope::services())?);
    }
    if let Some(issuer) = explorer {
        ours.push(own("the key of the process", issuer, Scope::everything())?);
        return Keys::open(Vec::new(), ours, EXPLORING);
    }
    // Also where the services' own key would be accepted: nobody else could call.
    if !config.auth.has_keys() {
        return Err(KeyError::None.into());
    }
    Keys::open(config.auth.files(), ours, config.auth.longest_life())
}
