//! The plan of a run: `SALDO_FAULTS="kills=200,brokers=20,databases=20,commands=200000,seed=7"`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use crate::Failure;

const VARIABLE: &str = "SALDO_FAULTS";

/// How many of what.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The seed of all random choices.
    pub seed: u64,
    /// SIGKILLs of our processes.
    pub kills: u64,
    /// SIGSTOPs of them, each with its SIGCONT.
    pub stops: u64,
    /// SIGKILLs of the broker.
    pub brokers: u64,
    /// SIGKILLs of Postgres.
    pub databases: u64,
    /// Links reset and refused for a while.
    pub cuts: u64,
    /// Links that carry one direction only for a while.
    pub halves: u64,
    /// Links that carry late for a while.
    pub delays: u64,
    /// Links that carry little for a while.
    pub throttles: u64,
    /// Commands to be asked at least.
    pub commands: u64,
    /// Clients at once.
    pub clients: u64,
    /// Where the run's files stay; absent: they go with it, unless it fails.
    pub keep: Option<PathBuf>,
}

/// Whether the long run is wanted.
pub fn long_run_is_asked_for() -> bool {
    std::env::var_os(VARIABLE).is_some()
}

impl Plan {
    /// The short run, for every change.
    pub fn short() -> Self {
        Self {
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
            kills: 9,
            stops: 3,
            brokers: 1,
            databases: 1,
            cuts: 4,
            halves: 2,
            delays: 2,
            throttles: 1,
            commands: 3_000,
            clients: 12,
            keep: None,
        }
    }

    /// The short run's, but for what the environment says.
    pub fn from_environment() -> Result<Self, Failure> {
        let mut plan = Self::short();
        for setting in std::env::var(VARIABLE)?.split(',').map(str::trim).filter(|setting| !setting.is_empty()) {
            let (key, value) = setting.split_once('=').ok_or(format!("{VARIABLE}: {setting} is not key=value"))?;
            if key == "keep" {
                plan.keep = Some(value.into());
                continue;
            }
            let mut numbers = plan.numbers_mut();
            let place = numbers.iter_mut().find(|(name, _)| *name == key);
            let (_, place) = place.ok_or(format!("{VARIABLE}: there is no {key}"))?;
            **place = value.parse().map_err(|error| format!("{VARIABLE}: {key}: {error}"))?;
        }
        Ok(plan)
    }

    fn numbers_mut(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("seed", &mut self.seed),
            ("kills", &mut self.kills),
            ("stops", &mut self.stops),
            ("brokers", &mut self.brokers),
            ("databases", &mut self.databases),
            ("cuts", &mut self.cuts),
            ("halves", &mut self.halves),
            ("delays", &mut self.delays),
            ("throttles", &mut self.throttles),
            ("commands", &mut self.commands),
            ("clients", &mut self.clients),
        ]
    }

    /// All numbers by name.
    pub fn numbers(&self) -> serde_json::Value {
        self.clone().numbers_mut().into_iter().map(|(name, value)| (name, *value)).collect()
    }

    /// Where the run's files are.
    pub fn folder(&self) -> Result<Folder, Failure> {
        match &self.keep {
            Some(path) => {
                std::fs::create_dir_all(path)?;
                Ok(Folder::Kept(std::fs::canonicalize(path)?))
            }
            None => Ok(Folder::Passing(tempfile::Builder::new().prefix("saldo-faults-").tempdir()?)),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.clone().numbers_mut().map(|(name, value)| format!("{name}={value}"));
        f.write_str(&said.join(","))
    }
}

/// A folder that stays, or one that goes with the run.
pub enum Folder {
    /// Stays.
    Kept(PathBuf),
    /// Goes.
    Passing(tempfile::TempDir),
}

impl Folder {
    /// Where it is.
    pub fn path(&self) -> &Path {
        match self {
            Folder::Kept(path) => path,
            Folder::Passing(dir) => dir.path(),
        }
    }

    /// It stays, whatever it was.
    pub fn stay(self) -> PathBuf {
        match self {
            Folder::Kept(path) => path,
            Folder::Passing(dir) => dir.keep(),
        }
    }
}
