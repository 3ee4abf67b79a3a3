//! The example policy of docs/policy, built in so that it works anywhere.

use saldo_api::v1::PolicyFile;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../../docs/policy/", $name)))),*]
    };
}

const FILES: [(&str, &str); 11] = files![
    "policy.toml",
    "templates/courtesy.en.toml",
    "templates/courtesy.es.toml",
    "templates/due-today.en.toml",
    "templates/due-today.es.toml",
    "templates/first-reminder.en.toml",
    "templates/first-reminder.es.toml",
    "templates/formal-demand.en.toml",
    "templates/formal-demand.es.toml",
    "templates/second-reminder.en.toml",
    "templates/second-reminder.es.toml",
];

pub fn files() -> Vec<PolicyFile> {
    FILES.iter().map(|(name, source)| PolicyFile { name: (*name).to_owned(), source: (*source).to_owned() }).collect()
}
