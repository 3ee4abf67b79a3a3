//! Why a configuration cannot be used. Every message names the key and where the key stands, and never the value: a value may
//! be a password in the wrong place.

use std::path::{Path, PathBuf};

use figment::error::Kind;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// From the file or the environment.
    #[error("configuration: {}", told(.0))]
    Invalid(Box<figment::Error>),
    #[error("configuration file {path}: {why}", path = path.display())]
    File { path: PathBuf, why: String },
    #[error("configuration: {key} is {value}, must be 1 to {most}")]
    OutOfRange { key: &'static str, value: u64, most: u64 },
    #[error("configuration: {key} is {value}, must be 0.0 to 1.0")]
    NoShare { key: &'static str, value: f64 },
    /// A key that makes no sense without another.
    #[error("configuration: {key} is set and {missing} is not")]
    Half { key: &'static str, missing: &'static str },
    /// The list of processes shows the flags of each to every user of the machine.
    #[error(
        "{flag}: the URL holds a password, and every user of this machine can read the flags of a process; set {variable} in the \
         environment instead"
    )]
    PasswordInFlag { flag: &'static str, variable: &'static str },
    #[error(
        "configuration: log.tls_ca: this saldo was built without TLS for Kafka; build it with `--features kafka-tls` (which takes perl and make)"
    )]
    NoKafkaTls,
}

/// Whether a number is within 1 and `most`.
pub fn within(key: &'static str, value: u64, most: u64) -> Result<(), ConfigError> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(ConfigError::OutOfRange { key, value, most }) }
}

/// Reads the file for its form alone: the parser's own message repeats the line at fault, which may hold a password.
pub fn readable(path: &Path) -> Result<(), ConfigError> {
    let refused = |why: String| ConfigError::File { path: path.to_owned(), why };
    let text = std::fs::read_to_string(path).map_err(|error| refused(error.to_string()))?;
    toml::from_str::<toml::Table>(&text).map(|_| ()).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        refused(format!("line {}: {}", before.matches('\n').count() + 1, error.message()))
    })
}

/// Each fault with its key and where the key stands.
fn told(error: &figment::Error) -> String {
    let faults = error.clone().into_iter().map(|mut fault| {
        if let Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) = &fault.kind {
            fault.kind = Kind::Message(match expected.strip_prefix("struct ") {
                Some(_) => "must be a section".to_owned(),
                None => format!("must be {expected}"),
            });
        }
        fault.to_string()
    });
    faults.collect::<Vec<_>>().join("; ")
}
