//! Every default of the inventory; the model, the schema and docs/inventory.md all take them from here.

pub(super) const BECOME: bool = true;
/// The distribution's Java: 17 on Debian 12, 21 on Debian 13 and Ubuntu 24.04, 11 on Ubuntu 22.04, where it is not taken.
pub(super) const JAVA_PACKAGE: &str = "default-jre-headless";
pub(super) const AGENT_PORT: u16 = 9180;

pub(super) const ZOOKEEPER_VERSION: &str = "3.9.4";
pub(super) const ZOOKEEPER_CLIENT_PORT: u16 = 2181;
pub(super) const ZOOKEEPER_PEER_PORT: u16 = 2888;
pub(super) const ZOOKEEPER_ELECTION_PORT: u16 = 3888;
pub(super) const ZOOKEEPER_JOLOKIA_PORT: u16 = 8778;
pub(super) const ZOOKEEPER_DATA_DIR: &str = "/var/lib/aesop/zookeeper";

pub(super) const KAFKA_VERSION: &str = "4.2.0";
pub(super) const KAFKA_PORT: u16 = 9092;
pub(super) const KAFKA_CONTROLLER_PORT: u16 = 9093;
pub(super) const KAFKA_INTERNAL_PORT: u16 = 9094;
/// As long as public authorities gave them for years; an apply in its last month renews it.
pub(super) const KAFKA_TLS_VALID: &str = "365d";
pub(super) const KAFKA_TLS_RENEW: &str = "30d";
pub(super) const KAFKA_JOLOKIA_PORT: u16 = 8779;
pub(super) const KAFKA_DATA_DIR: &str = "/var/lib/aesop/kafka";
/// Half of what a 1 Gbit/s link carries.
pub(super) const REBALANCE_THROTTLE: &str = "50MiB";

pub(super) const MYSQL_PORT: u16 = 3306;
/// Everything that the server still has: a new group misses nothing that can be had without a snapshot.
pub(super) const START: &str = "earliest";

/// Several copies of such a row are within a relay's 256 MiB.
pub(super) const MAX_ROW_BYTES: &str = "32MiB";

pub(super) const RELAY_PORT: u16 = 9190;
pub(super) const RELAY_HTTP_PORT: u16 = 9191;
pub(super) const RELAY_DATA_DIR: &str = "/var/lib/aesop/relay";
pub(super) const RETENTION_BYTES: &str = "4GiB";
pub(super) const RETENTION_AGE: &str = "24h";

pub(super) const CONSUMER_HTTP_PORT: u16 = 9192;
/// Divides evenly over 1, 2, 4, 8 and 16 members.
pub(super) const PARTITIONS: u32 = 16;
/// Each costs a znode and a place in every checkpoint.
pub(super) const PARTITIONS_MAX: u32 = 1024;
pub(super) const TOPIC: &str = "{{ source }}.{{ database }}.{{ table }}";
pub(super) const TOPIC_PARTITIONS: u16 = 6;

pub(super) const MONITOR_PORT: u16 = 9199;
pub(super) const MONITOR_INTERVAL: &str = "15s";
pub(super) const LAG_SCHEDULE: &str = "hourly";
pub(super) const LAG_HIGH: &str = "5m";
pub(super) const LAG_MEDIUM: &str = "1m";
