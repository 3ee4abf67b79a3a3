//! `[database]` and `[keyring]`: where rows and keys are kept.

use std::path::PathBuf;

use serde::Deserialize;

use super::secret::Secret;

/// The read models' database.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DatabaseConfig {
    /// `postgres://user:password@host:port/database`; absent: an embedded Postgres under `data_dir`.
    pub url: Option<Secret>,
}

/// The keys of personal data.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeyringConfig {
    /// The key store's folder, shared by all processes of one host; absent: `keyring` under `data_dir`. Back it up.
    pub dir: Option<PathBuf>,
}
