//! The data plane of aesop: `aesop-relay` reads MySQL binlogs into an event log and serves it;
//! `aesop-consumer` reads from relays and writes each row to Kafka as JSON.
//!
//! Pure modules (no I/O, no clock, cannot block): [`position`], [`event`], [`decode`], [`schema`],
//! [`format`], [`wire`], [`group`], [`config`].
//! Effects: [`mysql`] (binlog connection, preflight), [`log`] (event log on disk), [`serve`]
//! (relay to consumers), [`client`] (consumer from relays), [`zk`] (the only place that knows znode
//! paths and payloads), [`consumer`] (the member of a group), [`sink`] (Kafka), [`tail`] (changes on stdout, without ZooKeeper and Kafka),
//! [`telemetry`] (metrics, MBeans, health over HTTP).

pub mod cli;
pub mod client;
pub mod config;
pub mod consumer;
pub mod decode;
pub mod event;
pub mod format;
pub mod group;
pub mod gtid;
pub mod log;
pub mod mysql;
pub mod position;
pub mod run;
pub mod schema;
pub mod serve;
pub mod sink;
pub mod tail;
pub mod telemetry;
pub mod wire;
pub mod zk;
