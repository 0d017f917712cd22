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
    #[serde(default = "default_interval_secs")]
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
    /// Where people reach the status page, for links in mails: `http://10.0.0.41:9199`.
    #[serde(default)]
    pub url: Option<String>,
    /// When to send and how often.
    #[serde(default)]
    pub alerts: AlertConfig,
}

/// Timers of the alert mails. Every value is independent of the others and exact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AlertConfig {
    /// How long the first mail of an incident waits for its other symptoms, seconds.
    pub group_wait_secs: u64,
    /// Least time between two mails of one incident when new alerts join it, seconds.
    pub group_interval_secs: u64,
    /// An incident that goes on is mailed again after this many seconds.
    pub repeat_secs: u64,
    /// After the monitor's start nothing new is mailed for this many seconds: first readings settle.
    pub settle_secs: u64,
    /// Most alert mails an hour; what is above goes into one digest.
    pub mails_per_hour: u32,
}

impl Default for AlertConfig {
    fn default() -> Self {
        Self {
            group_wait_secs: 5,
            group_interval_secs: 300,
            repeat_secs: 4 * 3600,
            settle_secs: 60,
            mails_per_hour: 30,
        }
    }
}

fn default_interval_secs() -> u64 {
    10
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
    /// PEM certificate authority of the SMTP server, where it is none of the system's.
    #[serde(default)]
    pub ca_certificate: Option<PathBuf>,
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
    /// Recipients; none: those of alerts.
    #[serde(default)]
    pub to: Vec<String>,
}
