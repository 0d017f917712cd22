//! Where things are on a host.

/// All that is ours and not data.
pub const OPT: &str = "/opt/aesop";
/// Binaries, as links into the store.
pub const BIN: &str = "/opt/aesop/bin";
/// The content-addressed store.
pub const ARTIFACTS: &str = "/opt/aesop/artifacts";
/// Configuration.
pub const ETC: &str = "/etc/aesop";
/// Secrets, each readable by the service's user alone.
pub const SECRETS: &str = "/etc/aesop/secrets";
/// Key and certificate of a Kafka node; what aesop on its host shows the brokers too.
pub const KAFKA_KEYS: &str = "/etc/aesop/secrets/kafka.pem";
/// Who Kafka's nodes trust.
pub const KAFKA_TRUSTED: &str = "/etc/aesop/kafka/ca.pem";
/// Kafka's users and their passwords, as JSON.
pub const KAFKA_USERS: &str = "/etc/aesop/secrets/kafka-users";
/// Data.
pub const DATA: &str = "/var/lib/aesop";
/// What aesop remembers on a host: generation, what each unit was started with.
pub const STATE: &str = "/var/lib/aesop/state";
/// One apply at a time.
pub const LOCK_FILE_COPY: &str = "/var/lib/aesop/state/cluster.lock";
/// Held while an apply works.
pub const LOCK: &str = "/var/lib/aesop/state/lock";
/// JVM logs and the audit log.
pub const LOG: &str = "/var/log/aesop";
/// What programs unpack; may be lost.
pub const CACHE: &str = "/var/cache/aesop";
/// systemd units.
pub const UNITS: &str = "/etc/systemd/system";
/// Where the monitor looks for downtimes that an apply opens.
pub const DOWNTIMES: &str = "/var/lib/aesop/monitor/downtime.d";
/// The `aesop` binary on a host.
pub const AESOP: &str = "/opt/aesop/bin/aesop";
