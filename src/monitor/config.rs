//! `monitor.yml`: what the monitor polls, what it alerts on and whom it tells. Rendered by `aesop apply`, parsed
//! here; `aesop lag --config` reads the same file.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The monitor's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitorConfig {
    /// Cluster name.
    pub cluster: String,
    /// This host's name.
    pub host: String,
    /// `address:port` of the status page and API.
    pub listen: String,
    /// How often agents are polled, seconds.
    pub interval_secs: u64,
    /// Where alert state and the mail spool live.
    pub data_dir: PathBuf,
    /// PEM certificate authority that signed the agents' certificates.
    pub ca_certificate: PathBuf,
    /// File with the agents' bearer token.
    pub token_file: PathBuf,
    /// Agents, with the roles of their hosts (`zookeeper`, `kafka`, `relay`, `consumer/<group>`, `monitor`).
    pub hosts: BTreeMap<String, MonitoredHost>,
    /// The ensemble, for checkpoints and relays.
    pub zookeeper: relay::config::ZooKeeper,
    /// MySQL servers, for the end of their binlogs.
    pub sources: BTreeMap<String, relay::config::Mysql>,
    /// Consumer groups.
    pub groups: BTreeMap<String, MonitoredGroup>,
    /// Mail.
    #[serde(default)]
    pub email: Option<EmailConfig>,
    /// Lag mail.
    pub lag_report: LagReportConfig,
    /// Rule file; none: built-in rules.
    #[serde(default)]
    pub rules: Option<PathBuf>,
}

/// A host to poll.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitoredHost {
    /// `https://address:port`.
    pub agent: String,
    /// Roles of the host.
    pub roles: Vec<String>,
}

/// A consumer group to report on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitoredGroup {
    /// Sources it reads.
    pub sources: Vec<String>,
    /// Number of partitions.
    pub partitions: u32,
    /// Member hosts.
    pub hosts: Vec<String>,
}

/// Mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// SMTP host.
    pub host: String,
    /// SMTP port.
    pub port: u16,
    /// `none`, `starttls` or `implicit`.
    pub tls: MailTls,
    /// SMTP user.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the SMTP password.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Sender.
    pub from: String,
    /// Recipients of alerts.
    pub to: Vec<String>,
}

/// Encryption towards the SMTP server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailTls {
    /// Plain.
    None,
    /// STARTTLS, required.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

/// Lag mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LagReportConfig {
    /// Lag in seconds from which a partition is HIGH.
    pub high_secs: u64,
    /// Lag in seconds from which a partition is MEDIUM.
    pub medium_secs: u64,
    /// Recipients.
    pub to: Vec<String>,
}
