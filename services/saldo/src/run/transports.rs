//! The channels that this process can send by, as the configuration says.

use saldo_channels::{
    Transports,
    email::{Email, Pool, Server},
};

use crate::{Failure, config::Config};

/// Every channel that is configured. A new channel is one more line here.
pub fn configured(config: &Config) -> Result<Transports, Failure> {
    let mut transports = Transports::default();
    transports.extend(email(config)?);
    Ok(transports)
}

fn email(config: &Config) -> Result<Option<Email>, Failure> {
    let config = &config.sending;
    let Some(url) = &config.smtp else { return Ok(None) };
    let mut server: Server = url.expose().parse().map_err(|error| format!("sending.smtp: {error}"))?;
    if let Some(ca) = &config.smtp_ca {
        server = server.trusting(ca.clone()).map_err(|error| format!("sending.smtp_ca: {error}"))?;
    }
    Ok(Some(Email::new(Pool::new(server, config.smtp_connections))))
}
