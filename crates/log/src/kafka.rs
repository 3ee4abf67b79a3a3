//! The log in Apache Kafka.
//!
//! Durability rests on the topic's settings, which are looked at when the log is opened: three replicas, two of them
//! in sync, no unclean election, retention for ever.

mod gaps;
mod reach;
mod safety;
mod tail;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use futures::future::{BoxFuture, join_all};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    producer::{FutureProducer, FutureRecord, Producer},
};
use saldo_tls::{ClientFiles, Newest, TlsError};
use tokio::time::Instant;

use self::reach::{Quietly, noted};
use crate::{AppendError, Log, LogError, NewRecord, Tail, frame::MAX_COMMIT_BYTES};

/// The longest a metadata or offset question waits.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest the producer tries to deliver a record; after it the outcome is unknown.
const DELIVERY: &str = "10000";
/// The longest that a producer which was replaced has for what it took: a little longer.
const FLUSH: Duration = Duration::from_secs(11);

/// Clients that say little of themselves.
type Asker = BaseConsumer<Quietly>;
type Writer = FutureProducer<Quietly>;

/// Whether this build can speak TLS to Kafka: the feature `kafka-tls`.
pub const HAS_TLS: bool = cfg!(feature = "kafka-tls");

/// TLS files of a Kafka client. It reads them when it is made, so it is made anew when they change.
#[derive(Debug, Clone)]
pub struct KafkaTls {
    files: ClientFiles,
    /// Read only to know that they changed, and are sound: a client is not made of half a pair.
    newest: Newest<tokio_rustls::rustls::ClientConfig>,
    /// When to try once more what could not be made of them: rustls takes what librdkafka may not.
    again: Option<Instant>,
}

impl KafkaTls {
    /// Reads them, now and whenever they change. Needs a tokio runtime.
    pub fn open(files: ClientFiles) -> Result<Self, TlsError> {
        Ok(Self { newest: files.clone().open()?, files, again: None })
    }

    /// Whether clients are to be made anew: the files have changed, or none could be made of them a while ago.
    fn is_due(&mut self) -> bool {
        let again = self.again.take_if(|at| *at <= Instant::now()).is_some();
        if self.newest.is_replaced() {
            self.again = None;
            return true;
        }
        again
    }

    /// None could be made.
    fn try_again(&mut self) {
        self.again = Some(Instant::now() + saldo_tls::EVERY);
    }

    fn settings(&self, config: &mut ClientConfig) {
        config.set("security.protocol", "ssl").set("ssl.endpoint.identification.algorithm", "https");
        let identity = self.files.identity.as_ref();
        for (name, path) in [
            ("ssl.ca.location", self.files.ca.as_ref()),
            ("ssl.certificate.location", identity.map(|identity| &identity.certificate)),
            ("ssl.key.location", identity.map(|identity| &identity.key)),
        ] {
            if let Some(path) = path {
                config.set(name, path.display().to_string());
            }
        }
    }
}

/// Which topic, and how it is made.
#[derive(Debug, Clone)]
pub struct KafkaConfig {
    /// Bootstrap servers, `host:port,…`.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// Replicas of a topic that is created.
    pub replication_factor: i32,
    /// Use a topic whose settings are not safe.
    pub allow_unsafe: bool,
    /// TLS; absent: in the clear.
    pub tls: Option<KafkaTls>,
}

impl KafkaConfig {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", "saldo")
            .set("reconnect.backoff.max.ms", "1000");
        if let Some(tls) = &self.tls {
            tls.settings(&mut config);
        }
        config
    }

    fn new_asker(&self) -> Result<Arc<Asker>, KafkaError> {
        self.client()
            .set("group.id", "saldo-unused")
            .set("allow.auto.create.topics", "false")
            .create_with_context(Quietly)
            .map(Arc::new)
    }

    fn new_producer(&self) -> Result<Writer, KafkaError> {
        self.client()
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.timeout.ms", DELIVERY)
            .set("message.max.bytes", safety::MAX_RECORD_BYTES.to_string())
            .set("allow.auto.create.topics", "false")
            .create_with_context(Quietly)
    }

    fn new_reader(&self) -> Result<Asker, KafkaError> {
        self.client()
            .set("group.id", "saldo-unused")
            .set("enable.auto.commit", "false")
            // Saldo uses no transactions. By this, an open one of somebody else holds up nobody.
            .set("isolation.level", "read_uncommitted")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("allow.auto.create.topics", "false")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.min.bytes", "1")
            .set("fetch.error.backoff.ms", "50")
            .set("queued.max.messages.kbytes", "16384")
            .create_with_context(Quietly)
    }
}

/// The clients of a topic.
struct Clients {
    tls: Option<KafkaTls>,
    /// For questions about the topic; it consumes nothing.
    asker: Arc<Asker>,
    /// Set once the topic is known to exist; made anew after a fatal error.
    producer: Option<Writer>,
}

/// One topic.
#[derive(Clone)]
pub struct KafkaLog {
    config: KafkaConfig,
    clients: Arc<Mutex<Clients>>,
}

impl KafkaLog {
    /// Connects. Unless told otherwise, refuses an existing topic whose settings are not safe.
    pub async fn connect(config: KafkaConfig) -> Result<Self, LogError> {
        let asker = config.new_asker().map_err(unavailable)?;
        let clients = Clients { tls: config.tls.clone(), asker, producer: None };
        let log = Self { config, clients: Arc::new(Mutex::new(clients)) };
        if log.partition_count().await?.is_some() {
            log.open_producer().await?;
        }
        Ok(log)
    }

    /// Opens the producer once the topic is known to exist: librdkafka's would create it with the broker's defaults.
    async fn open_producer(&self) -> Result<(), LogError> {
        if !self.config.allow_unsafe {
            self.check_safety().await?;
        }
        let mut clients = self.clients().map_err(LogError::Unavailable)?;
        if clients.producer.is_none() {
            clients.producer = Some(self.config.new_producer().map_err(unavailable)?);
        }
        Ok(())
    }

    /// The clients, made anew where TLS files have changed.
    fn clients(&self) -> Result<MutexGuard<'_, Clients>, String> {
        let mut clients = self.clients.lock().map_err(|_| "a thread panicked".to_owned())?;
        if clients.tls.as_mut().is_some_and(KafkaTls::is_due)
            && let Err(error) = self.renew(&mut clients)
        {
            tracing::error!(%error, "no Kafka clients could be made of new TLS files; those before go on meanwhile");
            clients.tls.as_mut().into_iter().for_each(KafkaTls::try_again);
        }
        Ok(clients)
    }

    fn renew(&self, clients: &mut Clients) -> Result<(), KafkaError> {
        let producer = clients.producer.as_ref().map(|_| self.config.new_producer()).transpose()?;
        let asker = std::mem::replace(&mut clients.asker, self.config.new_asker()?);
        let before = std::mem::replace(&mut clients.producer, producer);
        // Records on their way are still delivered; ending a client may take its time.
        std::thread::spawn(move || {
            let flushed = before.map(|producer| producer.flush(FLUSH));
            if let Some(Err(error)) = flushed {
                tracing::warn!(%error, "a Kafka producer that was replaced did not deliver all");
            }
            drop(asker);
        });
        Ok(())
    }

    /// The producer. A producer that has met a fatal error takes nothing any more and is replaced. The records that it had on
    /// their way are reported as unknown, and the log's rule settles them.
    fn producer(&self) -> Result<Writer, AppendError> {
        let mut clients = self.clients().map_err(AppendError::Refused)?;
        let Some(open) = &clients.producer else {
            return Err(AppendError::Refused(format!("topic {} does not exist", self.config.topic)));
        };
        let Some((code, why)) = open.client().fatal_error() else { return Ok(open.clone()) };
        tracing::error!(%code, why, "the Kafka producer failed for good and is replaced");
        let new = self.config.new_producer().map_err(|error| AppendError::Refused(error.to_string()))?;
        clients.producer = Some(new.clone());
        Ok(new)
    }

    /// Looks at what durability rests on.
    async fn check_safety(&self) -> Result<(), LogError> {
        let faults = safety::faults(&self.admin()?, &*self.asker()?, &self.config.topic).await?;
        if faults.is_empty() { Ok(()) } else { Err(LogError::Unsafe { topic: self.config.topic.clone(), faults }) }
    }

    fn admin(&self) -> Result<AdminClient<Quietly>, LogError> {
        self.config.client().create_with_context(Quietly).map_err(unavailable)
    }

    fn asker(&self) -> Result<Arc<Asker>, LogError> {
        self.clients().map(|clients| clients.asker.clone()).map_err(LogError::Unavailable)
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Asker, &str) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, LogError> {
        let (asker, topic) = (self.asker()?, self.config.topic.clone());
        let answer = tokio::task::spawn_blocking(move || noted(question(&asker, &topic))).await;
        answer.map_err(|error| LogError::Unavailable(error.to_string()))?.map_err(unavailable)
    }
}

#[async_trait]
impl Log for KafkaLog {
    fn append(&self, records: Vec<NewRecord>) -> BoxFuture<'static, Result<(), AppendError>> {
        if let Some(bytes) = records.iter().map(|record| record.value.len()).find(|len| *len > MAX_COMMIT_BYTES) {
            return Box::pin(async move { Err(AppendError::TooLarge { bytes, limit: MAX_COMMIT_BYTES }) });
        }
        let producer = match self.producer() {
            Ok(producer) => producer,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        let mut deliveries = Vec::with_capacity(records.len());
        let mut failed = None;
        for record in &records {
            let mut message = FutureRecord::to(&self.config.topic)
                .partition(record.partition as i32)
                .key(record.key.as_ref())
                .payload(record.value.as_ref());
            if let Some(trace) = &record.trace {
                message = message.headers(tail::trace_header(trace));
            }
            match producer.send_result(message) {
                Ok(delivery) => deliveries.push(delivery),
                Err((error, _)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        Box::pin(async move {
            // Refused is said only where nothing of it was taken.
            let mut taken = false;
            let mut refused = None;
            for delivery in join_all(deliveries).await {
                match delivery.map(|delivery| noted(delivery.map_err(|(error, _)| error))) {
                    Ok(Ok(_)) => taken = true,
                    Ok(Err(error)) => match delivery_error(&error) {
                        AppendError::Refused(why) => refused = Some(AppendError::Refused(why)),
                        unknown => return Err(unknown),
                    },
                    Err(_) => return Err(AppendError::Unknown("the producer was closed".to_owned())),
                }
            }
            let queued = failed.map(|error| match error {
                KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) => AppendError::Busy,
                error => AppendError::Refused(error.to_string()),
            });
            match refused.or(queued) {
                None => Ok(()),
                Some(error) if taken => Err(AppendError::Unknown(format!("part was appended, then: {error}"))),
                Some(error) => Err(error),
            }
        })
    }

    async fn tail(&self, from: &[(u32, u64)]) -> Result<Box<dyn Tail>, LogError> {
        for (partition, offset) in from {
            let end = self.end(*partition).await?;
            if *offset > end {
                let why = format!("it ends at {end}");
                return Err(LogError::Cut { partition: *partition, offset: *offset, why });
            }
        }
        Ok(Box::new(tail::KafkaTail::start(self.config.clone(), from)?))
    }

    async fn end(&self, partition: u32) -> Result<u64, LogError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let asked = self.ask(move |asker, topic| {
                // A partition that is new, or whose broker has just come back, has no leader for a moment.
                match asker.fetch_watermarks(topic, partition as i32, PATIENCE) {
                    Err(error) if has_no_leader_yet(&error) => Ok(None),
                    answer => answer.map(Some),
                }
            });
            match asked.await? {
                Some((_, high)) => return Ok(high.max(0) as u64),
                None if Instant::now() > deadline => {
                    return Err(LogError::Unavailable(format!("partition {partition} has no leader")));
                }
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn topic(&self) -> &str {
        &self.config.topic
    }

    async fn partition_count(&self) -> Result<Option<u32>, LogError> {
        let metadata = self.ask(|asker, topic| asker.fetch_metadata(Some(topic), PATIENCE)).await?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.config.topic);
        Ok(topic.map(|topic| topic.partitions().len() as u32).filter(|count| *count > 0))
    }

    async fn create(&self, partitions: u32) -> Result<(), LogError> {
        let replicas = self.config.replication_factor;
        let in_sync = replicas.saturating_sub(1).clamp(1, 2).to_string();
        let settings = HashMap::from([
            ("message.timestamp.type", "LogAppendTime"),
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
            ("unclean.leader.election.enable", "false"),
            ("min.insync.replicas", in_sync.as_str()),
        ]);
        let mut topic = NewTopic::new(&self.config.topic, partitions as i32, TopicReplication::Fixed(replicas));
        for (name, value) in settings {
            topic = topic.set(name, value);
        }
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let results = self.admin()?.create_topics([&topic], &options).await.map_err(unavailable)?;
        for result in results {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, RDKafkaErrorCode::InvalidReplicationFactor)) => {
                    let metadata = self.ask(|asker, _| asker.fetch_metadata(None, PATIENCE)).await?;
                    return Err(LogError::TooFewBrokers { topic, replicas, brokers: metadata.brokers().len() });
                }
                Err((topic, code)) => {
                    return Err(LogError::Unavailable(format!("topic {topic} could not be created: {code}")));
                }
            }
        }
        // The answer comes before every broker knows the topic.
        let deadline = Instant::now() + PATIENCE;
        while self.partition_count().await?.is_none() {
            if Instant::now() > deadline {
                return Err(LogError::Unavailable("the topic was created but does not appear".to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.open_producer().await
    }
}

/// Only what the broker or the client says before taking the record is certain.
fn delivery_error(error: &KafkaError) -> AppendError {
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::UnknownTopic
            | RDKafkaErrorCode::UnknownPartition
            | RDKafkaErrorCode::TopicAuthorizationFailed,
        ) => AppendError::Refused(error.to_string()),
        _ => AppendError::Unknown(error.to_string()),
    }
}

fn has_no_leader_yet(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotLeaderForPartition
                | RDKafkaErrorCode::LeaderNotAvailable
                | RDKafkaErrorCode::UnknownTopicOrPartition
        )
    )
}

fn unavailable(error: KafkaError) -> LogError {
    LogError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use saldo_test_certificates::Authority;
    use saldo_tls::EVERY;
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn clients_that_could_not_be_made_of_new_files_are_tried_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let ca = Authority::new("ours").write(dir.path(), "ca").expect("written");
        let mut tls = KafkaTls::open(ClientFiles { ca: Some(ca), identity: None }).expect("files");
        assert!(!tls.is_due());
        Authority::new("theirs").write(dir.path(), "ca").expect("written");
        sleep(EVERY * 3).await;
        assert!(tls.is_due() && !tls.is_due());
        tls.try_again();
        assert!(!tls.is_due());
        sleep(EVERY).await;
        assert!(tls.is_due() && !tls.is_due());
    }
}
