//! The Kafka sink: one idempotent producer, and the topics it needs.

use super::{Acks, Failure, Open, Record, SendError, Sink};
use crate::config::{CleanupPolicy, KafkaSink};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{
    BaseRecord, DeliveryResult, Producer as _, ProducerContext, PurgeConfig, ThreadedProducer,
};
use rdkafka::{ClientConfig, ClientContext};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bytes of records that wait in the producer, all topics together: full batches for some twelve partitions at a time. More
/// only waits longer, and is no longer in the processor's cache when its turn comes.
const QUEUE_KIB: u32 = 16 * 1024;
/// Records that wait in the producer: some 300 bytes of bookkeeping each.
const QUEUE_RECORDS: u32 = 200_000;
/// How long a record may wait for others to share its batch; short, for latency is what a reader feels, and long
/// enough that a backlog does not go out in thousands of small requests a second.
const LINGER_MS: &str = "20";
/// How long one attempt to create a topic may take.
const CREATE_TIMEOUT: Duration = Duration::from_secs(5);
/// The header that carries the owner's epoch.
const EPOCH_HEADER: &str = "epoch";
/// Settings that aesop's promises rest on.
const FIXED: &[&str] = &[
    "acks",
    "bootstrap.servers",
    "delivery.timeout.ms",
    "enable.idempotence",
    "message.timeout.ms",
    "metadata.broker.list",
    "request.required.acks",
    "transactional.id",
];

/// Counters of all producers of this process.
#[derive(Debug, Default)]
pub struct Counters {
    /// Records handed to the producer.
    pub sent: AtomicU64,
    /// Records acknowledged by Kafka.
    pub acked: AtomicU64,
    /// Bytes of keys and values handed over.
    pub bytes: AtomicU64,
    /// Failed deliveries and errors the producer reported.
    pub errors: AtomicU64,
}

/// Opens producers.
#[derive(Debug)]
pub struct Kafka {
    config: KafkaSink,
    client_id: String,
    runtime: tokio::runtime::Handle,
    counters: Arc<Counters>,
}

impl Kafka {
    /// A sink as configured; `client_id` is how brokers know it. Fails on a setting that may not be changed.
    /// Must be called inside a tokio runtime.
    pub fn new(config: KafkaSink, client_id: String, counters: Arc<Counters>) -> Result<Self, Failure> {
        if let Some(key) = config.config.keys().find(|key| FIXED.contains(&key.as_str())) {
            return Err(Failure::definite(format!(
                "sink.kafka.config.{key} cannot be set: nothing-lost rests on it"
            )));
        }
        Ok(Self { config, client_id, runtime: tokio::runtime::Handle::current(), counters })
    }

    fn client_config(&self, security: &[(&'static str, String)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("client.id", &self.client_id)
            .set("compression.type", "lz4")
            .set("linger.ms", LINGER_MS)
            .set("partitioner", "murmur2_random")
            .set("queue.buffering.max.kbytes", QUEUE_KIB.to_string())
            .set("queue.buffering.max.messages", QUEUE_RECORDS.to_string())
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true");
        for (key, value) in &self.config.config {
            config.set(key, value);
        }
        for (key, value) in security {
            config.set(*key, value);
        }
        config
            .set("bootstrap.servers", self.config.bootstrap.join(","))
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // A dead broker is waited for; nothing is given up.
            .set("message.timeout.ms", "0");
        config
    }
}

impl Open for Kafka {
    fn open(&self, acks: Arc<Acks>) -> Result<Box<dyn Sink>, Failure> {
        let security = security(&self.config)?;
        let config = self.client_config(&security);
        let context = Context { acks, counters: Arc::clone(&self.counters) };
        let bad = |error: KafkaError| Failure::definite(format!("sink.kafka.config: {error}"));
        let producer: ThreadedProducer<Context> = config.create_with_context(context).map_err(bad)?;
        let mut administration = ClientConfig::new();
        administration
            .set("client.id", &self.client_id)
            .set("bootstrap.servers", self.config.bootstrap.join(","));
        for (key, value) in self.config.config.iter().filter(|(key, _)| is_connection(key)) {
            administration.set(key, value);
        }
        for (key, value) in security {
            administration.set(key, value);
        }
        let admin = Some(administration.create().map_err(bad)?);
        Ok(Box::new(KafkaProducer {
            producer,
            administration,
            admin,
            config: self.config.clone(),
            runtime: self.runtime.clone(),
            counters: Arc::clone(&self.counters),
            headers: None,
        }))
    }
}

/// TLS and user in librdkafka's settings. The password's file is read each time, for it may have changed.
fn security(config: &KafkaSink) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut settings = Vec::new();
    let protocol = match (&config.tls, &config.sasl) {
        (None, None) => return Ok(settings),
        (Some(_), None) => "ssl",
        (None, Some(_)) => "sasl_plaintext",
        (Some(_), Some(_)) => "sasl_ssl",
    };
    settings.push(("security.protocol", protocol.to_owned()));
    if let Some(ca) = config.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        settings.push(("ssl.ca.location", ca.display().to_string()));
    }
    if let Some(sasl) = &config.sasl {
        let path = sasl.password_file.display();
        let password = std::fs::read_to_string(&sasl.password_file)
            .map_err(|error| Failure::definite(format!("sink.kafka.sasl: cannot read {path}: {error}")))?;
        settings.push(("sasl.mechanism", sasl.mechanism.word().to_owned()));
        settings.push(("sasl.username", sasl.user.clone()));
        settings.push(("sasl.password", password.trim_end_matches(['\r', '\n']).to_owned()));
    }
    Ok(settings)
}

/// Settings that the administrative client shares with the producer.
fn is_connection(key: &str) -> bool {
    ["sasl.", "ssl.", "security.", "socket.", "broker.", "enable.ssl"]
        .iter()
        .any(|prefix| key.starts_with(prefix))
}

struct KafkaProducer {
    producer: ThreadedProducer<Context>,
    administration: ClientConfig,
    /// None after a failure: the client asks whom it takes for the controller, and learns only after minutes that this
    /// broker is gone; a new one asks those that are there.
    admin: Option<AdminClient<DefaultClientContext>>,
    config: KafkaSink,
    runtime: tokio::runtime::Handle,
    counters: Arc<Counters>,
    /// The header of the last epoch used; most records in a row have the same.
    headers: Option<(i32, OwnedHeaders)>,
}

impl fmt::Debug for KafkaProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaProducer").field("config", &self.config).finish_non_exhaustive()
    }
}

impl KafkaProducer {
    fn headers(&mut self, epoch: i32) -> OwnedHeaders {
        match &self.headers {
            Some((known, headers)) if *known == epoch => headers.clone(),
            _ => {
                let value = epoch.to_string();
                let header = Header { key: EPOCH_HEADER, value: Some(value.as_str()) };
                let headers = OwnedHeaders::new_with_capacity(1).insert(header);
                self.headers = Some((epoch, headers.clone()));
                headers
            }
        }
    }
}

impl Sink for KafkaProducer {
    fn prepare(&mut self, topic: &str) -> Result<(), Failure> {
        let policy = match self.config.cleanup_policy {
            CleanupPolicy::Delete => "delete",
            CleanupPolicy::Compact => "compact",
        };
        let replication = TopicReplication::Fixed(self.config.replication_factor.unwrap_or(-1));
        let new =
            NewTopic::new(topic, self.config.topic_partitions, replication).set("cleanup.policy", policy);
        let options =
            AdminOptions::new().request_timeout(Some(CREATE_TIMEOUT)).operation_timeout(Some(CREATE_TIMEOUT));
        let failed =
            |error: KafkaError| Failure::transient(format!("kafka: cannot create topic {topic}: {error}"));
        let admin = match self.admin.take() {
            Some(admin) => admin,
            None => self.administration.create().map_err(failed)?,
        };
        let results = self.runtime.block_on(admin.create_topics([&new], &options)).map_err(failed)?;
        let code = results.into_iter().next().and_then(Result::err).map(|(_, code)| code);
        let refused = code
            .is_some_and(|code| is_definite(code) || code == RDKafkaErrorCode::ClusterAuthorizationFailed);
        let there = code == Some(RDKafkaErrorCode::TopicAlreadyExists) || refused && exists(&admin, topic);
        if code.is_none() || refused || there {
            self.admin = Some(admin);
        }
        let Some(code) = code else {
            tracing::info!(topic, "topic created");
            return Ok(());
        };
        if there {
            return Ok(());
        }
        let reason = format!("kafka: cannot create topic {topic}: {code}");
        Err(Failure { reason, definite: refused })
    }

    fn send(&mut self, record: &Record<'_>) -> Result<(), SendError> {
        let headers = self.headers(record.epoch);
        let token = usize::try_from(record.token)
            .map_err(|_| SendError::Failed(Failure::definite("a 64-bit machine is needed")))?;
        let mut message: BaseRecord<'_, [u8], [u8], usize> =
            BaseRecord::with_opaque_to(record.topic, token).headers(headers);
        if let Some(key) = record.key {
            message = message.key(key);
        }
        if let Some(value) = record.value {
            message = message.payload(value);
        }
        match self.producer.send(message) {
            Ok(()) => {
                let length = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
                self.counters.sent.fetch_add(1, Ordering::Relaxed);
                self.counters.bytes.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
                Ok(())
            }
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => Err(SendError::Full),
            Err((error, _)) => Err(SendError::Failed(failure(record.topic, &error))),
        }
    }

    fn flush(&mut self, timeout: Duration) -> bool {
        self.producer.flush(timeout).is_ok()
    }

    fn purge(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }

    fn in_flight(&self) -> u64 {
        u64::try_from(self.producer.in_flight_count()).unwrap_or(0)
    }
}

fn exists(admin: &AdminClient<DefaultClientContext>, topic: &str) -> bool {
    let metadata = admin.inner().fetch_metadata(Some(topic), CREATE_TIMEOUT);
    metadata.is_ok_and(|m| m.topics().iter().any(|t| t.name() == topic && t.error().is_none()))
}

fn failure(topic: &str, error: &KafkaError) -> Failure {
    let code = error.rdkafka_error_code();
    let definite = code.is_some_and(is_definite);
    let remedy = match code {
        Some(RDKafkaErrorCode::MessageSizeTooLarge) => {
            "; raise sink.kafka.config message.max.bytes and the topic's max.message.bytes"
        }
        _ => "",
    };
    Failure { reason: format!("kafka topic {topic}: {error}{remedy}"), definite }
}

/// Whether the same record will be refused again.
fn is_definite(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessageSize
            | RDKafkaErrorCode::InvalidTopic
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidConfig
            | RDKafkaErrorCode::InvalidPartitions
            | RDKafkaErrorCode::PolicyViolation
            | RDKafkaErrorCode::TopicAuthorizationFailed
    )
}

/// Takes reports on the producer's own thread.
struct Context {
    acks: Arc<Acks>,
    counters: Arc<Counters>,
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(%error, reason, "kafka");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, token: usize) {
        let token = u64::try_from(token).unwrap_or(u64::MAX);
        match result {
            Ok(_) => {
                self.counters.acked.fetch_add(1, Ordering::Relaxed);
                self.acks.push(token, None);
            }
            Err((error, message)) => {
                self.counters.errors.fetch_add(1, Ordering::Relaxed);
                let topic = rdkafka::Message::topic(message);
                self.acks.push(token, Some(failure(topic, error)));
            }
        }
    }
}
