//! What each role means on a host: users, directories, files, units, and when it is ready. Pure: inventory, lock,
//! secrets and templates in, desired state out.

mod base;
mod dynamic;
mod extra;
mod inputs;
mod jvm;
mod kafka;
mod kafka_node;
mod kafka_raise;
mod kafka_security;
mod monitor;
pub mod paths;
mod ports;
mod program;
mod state;
mod zookeeper;
mod zookeeper_login;

pub use dynamic::dynamic_setting;
pub use inputs::{
    ArtifactIds, BrokerCertificates, Certificates, Inputs, Origin, Secrets, WantedArtifact, secret_refs,
    wanted_artifacts,
};
pub use state::{
    ArtifactRef, Directory, EnsembleMember, File, Gate, HostState, Init, KafkaFormat, KafkaMark, KafkaMember,
    Link, MemberChange, Package, Part, Role, Turn, Unit, User, hex, sha256,
};

use crate::inventory::model::{Inventory, KafkaRole};
use crate::render::RenderError;
use std::collections::{BTreeMap, BTreeSet};

/// The unit of ZooKeeper's server.
pub const ZOOKEEPER_UNIT: &str = "aesop-zookeeper.service";

/// Why the desired state cannot be said.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A template.
    #[error(transparent)]
    Render(#[from] RenderError),
    /// What a template made of a program's configuration is not one.
    #[error("{path} for {host} is refused by the program that would read it: {message}{}", if *overridden { "; correct your template" } else { "" })]
    Config {
        /// The file.
        path: String,
        /// The host.
        host: String,
        /// What the program's parser says.
        message: String,
        /// The template is the user's.
        overridden: bool,
    },
    /// Something that must have been prepared is not there.
    #[error("{what} is missing for {host}; this is a fault of aesop")]
    Missing {
        /// An id, a secret, an artifact, a certificate.
        what: String,
        /// The host.
        host: String,
    },
    /// An artifact's version that aesop has no list for.
    #[error("{name} {version} is not among the versions that aesop can install ({known})")]
    Version {
        /// `kafka`.
        name: &'static str,
        /// The version asked for.
        version: String,
        /// What there is.
        known: String,
    },
    /// A setting that aesop cannot carry out yet.
    #[error("{0}")]
    Unsupported(String),
}

/// What every host should look like, by name.
pub fn desired(inputs: &Inputs<'_>) -> Result<BTreeMap<String, HostState>, ServiceError> {
    let mut hosts = BTreeMap::new();
    for name in inputs.inventory.hosts.keys() {
        let mut parts = Vec::new();
        zookeeper::part(inputs, name, &mut parts)?;
        kafka::part(inputs, name, &mut parts)?;
        program::relay(inputs, name, &mut parts)?;
        program::consumers(inputs, name, &mut parts)?;
        monitor::monitor(inputs, name, &mut parts)?;
        extra::parts(inputs, name, &mut parts)?;
        if parts.is_empty() {
            // Declared, without a role.
            continue;
        }
        // Nobody asks the agent of a host that has nothing of aesop's, where there is no monitor.
        let only_extras = parts.iter().all(|part| part.role == Role::Extra);
        if !only_extras || inputs.inventory.monitor.is_some() {
            monitor::agent(inputs, name, &mut parts)?;
        }
        base::part(inputs, name, &mut parts)?;
        parts.sort_by_key(|part| part.role);
        for part in &mut parts {
            part.ports = ports::of(inputs.inventory, name, part);
        }
        let jvm = parts.iter().any(|part| matches!(part.role, Role::ZooKeeper | Role::Kafka));
        hosts.insert(name.clone(), HostState { parts, java: jvm.then(|| jvm::java(inputs)) });
    }
    Ok(hosts)
}

/// Roles of which a part cannot become ready without another role.
pub fn users_of(desired: &BTreeMap<String, HostState>, needed: Role) -> BTreeSet<Role> {
    let parts = desired.values().flat_map(|state| &state.parts);
    parts.filter(|part| part.needs().contains(&needed)).map(|part| part.role).collect()
}

/// Roles of each host in words: `zookeeper`, `kafka`, `relay`, `consumer/<group>`, `monitor`,
/// `extra/<name>`.
pub fn roles(inventory: &Inventory) -> BTreeMap<String, Vec<String>> {
    let mut roles: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |host: &str, role: String| roles.entry(host.to_owned()).or_default().push(role);
    for member in inventory.zookeeper.iter().flat_map(|role| &role.members) {
        add(&member.host, "zookeeper".to_owned());
    }
    for member in inventory.kafka.iter().flat_map(KafkaRole::nodes) {
        add(&member.host, "kafka".to_owned());
    }
    for member in inventory.relays.iter().flat_map(|role| &role.members) {
        add(&member.host, "relay".to_owned());
    }
    for (group, consumers) in &inventory.consumers {
        for host in &consumers.hosts {
            add(host, format!("consumer/{group}"));
        }
    }
    for host in inventory.monitor.iter().flat_map(|role| &role.hosts) {
        add(host, "monitor".to_owned());
    }
    for (name, extra) in &inventory.extras {
        for host in &extra.hosts {
            add(host, extra::service(name));
        }
    }
    roles
}
