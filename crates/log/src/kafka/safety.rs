//! The settings of the topic that durability rests on.

use std::{collections::HashMap, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    consumer::Consumer,
};

use tokio::time::{Instant, sleep};

use super::{Asker, PATIENCE, reach::Quietly, unavailable};
use crate::LogError;

/// Between two looks for the settings of a topic that was just made.
const PAUSE: Duration = Duration::from_millis(50);
/// The bytes that the producer may send in one batch; see the producer's message.max.bytes.
pub(super) const MAX_RECORD_BYTES: usize = 1_000_000;

/// Every setting that is not safe, in words.
pub(super) async fn faults(admin: &AdminClient<Quietly>, asker: &Asker, topic: &str) -> Result<Vec<String>, LogError> {
    let settings = settings(admin, topic).await?;
    let setting = |name: &str| settings.get(name).map(String::as_str).unwrap_or("unknown");
    let mut faults = Vec::new();
    for (name, wanted) in [
        ("unclean.leader.election.enable", "false"),
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
        ("message.timestamp.type", "LogAppendTime"),
    ] {
        if setting(name) != wanted {
            faults.push(format!("{name} is {}, must be {wanted}", setting(name)));
        }
    }
    for (name, least) in [("min.insync.replicas", 2), ("max.message.bytes", MAX_RECORD_BYTES)] {
        if !setting(name).parse::<usize>().is_ok_and(|value| value >= least) {
            faults.push(format!("{name} is {}, must be {least} or more", setting(name)));
        }
    }
    let metadata = asker.fetch_metadata(Some(topic), PATIENCE).map_err(unavailable)?;
    let replicas = metadata
        .topics()
        .iter()
        .flat_map(|topic| topic.partitions())
        .map(|partition| partition.replicas().len())
        .min()
        .unwrap_or(0);
    if replicas < 3 {
        faults.push(format!("its replication factor is {replicas}, must be 3 or more"));
    }
    Ok(faults)
}

/// The topic's settings. A broker that has not heard of a topic that was just made names none, and is asked again.
async fn settings(admin: &AdminClient<Quietly>, topic: &str) -> Result<HashMap<String, String>, LogError> {
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answers =
            admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await.map_err(unavailable)?;
        let mut settings = HashMap::new();
        for answer in answers {
            let resource = answer.map_err(|code| LogError::Unavailable(format!("topic {topic}: {code}")))?;
            settings.extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
        }
        if !settings.is_empty() {
            return Ok(settings);
        }
        if Instant::now() > deadline {
            return Err(LogError::Unavailable(format!("the brokers do not tell the settings of topic {topic}")));
        }
        sleep(PAUSE).await;
    }
}
