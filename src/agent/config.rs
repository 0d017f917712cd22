//! `agent.yml`: what the agent of one host probes. Rendered by `aesop apply`, parsed here.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The agent's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// Cluster name.
    pub cluster: String,
    /// This host's name in the inventory.
    pub host: String,
    /// `address:port` of the HTTPS endpoint.
    pub listen: String,
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM private key.
    pub private_key: PathBuf,
    /// File with the bearer token that callers must send.
    pub token_file: PathBuf,
    /// systemd units of aesop on this host, and timers.
    #[serde(default)]
    pub units: Vec<String>,
    /// Directories whose file systems are watched.
    #[serde(default)]
    pub paths: Vec<PathBuf>,
    /// JVMs with a Jolokia agent.
    #[serde(default)]
    pub jvms: Vec<Jvm>,
    /// `127.0.0.1:2181` where ZooKeeper runs here.
    #[serde(default)]
    pub zookeeper: Option<String>,
    /// Listeners whose certificates are watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<Listener>,
    /// Relay and consumer endpoints on this host.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
}

/// A JVM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jvm {
    /// `kafka` or `zookeeper`.
    pub service: String,
    /// `http://127.0.0.1:8778/jolokia/`.
    pub url: String,
    /// User of the Jolokia agent.
    pub user: String,
    /// File with its password.
    pub password_file: PathBuf,
}

/// A listener that speaks TLS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// `kafka`.
    pub service: String,
    /// `10.0.0.11:9092`.
    pub address: String,
}

/// A relay's or consumer's endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// `relay`, or `consumer/<group>`.
    pub service: String,
    /// `http://127.0.0.1:9191`; `/jolokia` and `/healthz/ready` hang below it.
    pub url: String,
}
