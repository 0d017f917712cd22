//! The control plane of aesop: reads an inventory, plans, deploys over SSH, probes, evaluates rules, mails.
//!
//! Pure modules (no tokio, clock, network or printing): [`import`], [`inventory`], [`plan`], [`preflight`], [`render`],
//! [`rule`], [`service`], [`lock`]. Only `cli` prints; only [`host`] runs remote commands, as argument vectors; only
//! [`kafka`] administers Kafka. `tests/it/architecture.rs` reads the `use` lines and enforces this.

pub mod agent;
pub mod alert;
pub mod apply;
pub mod artifact;
pub mod cli;
pub mod clock;
pub mod ensemble;
pub mod host;
pub mod import;
pub mod inventory;
pub mod kafka;
pub mod lab;
pub mod lag;
pub mod lock;
pub mod monitor;
pub mod plan;
pub mod preflight;
pub mod probe;
pub mod render;
pub mod rule;
pub mod secret;
pub mod service;
