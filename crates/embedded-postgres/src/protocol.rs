//! The protocol between parent and child. One JSON line of [`Instructions`] goes to the child's standard input. Its standard
//! output has one JSON [`ChildMessage`] a line. The end of standard input means "stop".

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The server that the child is to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Instructions {
    pub data_dir: PathBuf,
    pub install_dir: PathBuf,
    pub settings: BTreeMap<String, String>,
}

/// A message of the child.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ChildMessage {
    Progress(StartStep),
    Ready { port: u16, password: String },
    Failed(String),
}

/// A step on the way to a running server. Only the first run on a machine has all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartStep {
    /// Fetching the server's archive, about 15 MB.
    Downloading,
    /// Writing the server's files into the cache.
    Unpacking,
    /// Creating an empty cluster in the data directory.
    Initializing,
    /// Starting the server, with recovery where it was not stopped cleanly.
    Starting,
}

impl fmt::Display for StartStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downloading => "downloading Postgres",
            Self::Unpacking => "unpacking Postgres",
            Self::Initializing => "creating the database cluster",
            Self::Starting => "starting Postgres",
        })
    }
}
