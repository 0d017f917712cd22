//! What the desired state is made from.

use super::{ArtifactRef, Role, ServiceError, extra, roles};
use crate::inventory::model::{ExtraArtifact, FileOrigin, Inventory, SecretRef};
use crate::lock::Lock;
use crate::render::Templates;
use crate::secret::Secret;
use std::collections::BTreeMap;

/// Everything that decides what hosts should look like.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The inventory.
    pub inventory: &'a Inventory,
    /// Ids.
    pub lock: &'a Lock,
    /// Values of [`secret_refs`].
    pub secrets: &'a Secrets,
    /// Certificates of the agents and of Kafka.
    pub certificates: &'a Certificates,
    /// Ids of [`wanted_artifacts`].
    pub artifacts: &'a ArtifactIds,
    /// Templates.
    pub templates: &'a Templates,
}

/// Secrets by their key in the inventory.
#[derive(Clone, Debug, Default)]
pub struct Secrets(pub BTreeMap<String, Secret>);

/// Certificates of the agents, signed by the cluster's own authority, and those of Kafka.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// The authority's certificate, PEM.
    pub authority: String,
    /// Certificate and key of each host, PEM.
    pub hosts: BTreeMap<String, (String, Secret)>,
    /// What Kafka's nodes show and trust, where they speak TLS.
    pub kafka: BrokerCertificates,
}

/// Kafka's certificates.
#[derive(Clone, Debug, Default)]
pub struct BrokerCertificates {
    /// The authorities that brokers and clients trust, PEM.
    pub trusted: String,
    /// Key and certificate chain of each node in one, PEM.
    pub nodes: BTreeMap<String, Secret>,
    /// Which are renewed, and what a person has to renew.
    pub notes: Vec<String>,
}

/// Artifacts by name.
#[derive(Clone, Debug, Default)]
pub struct ArtifactIds(pub BTreeMap<String, ArtifactRef>);

impl Inputs<'_> {
    pub(super) fn secret(&self, key: &str, host: &str) -> Result<&Secret, ServiceError> {
        self.secrets.0.get(key).ok_or_else(|| missing(format!("the secret {key}"), host))
    }

    pub(super) fn artifact(&self, name: &str, host: &str) -> Result<ArtifactRef, ServiceError> {
        self.artifacts.0.get(name).cloned().ok_or_else(|| missing(format!("the artifact {name}"), host))
    }

    /// Address of a host.
    pub(super) fn address(&self, host: &str) -> Result<&str, ServiceError> {
        let found = self.inventory.hosts.get(host).map(|found| found.address.as_str());
        found.ok_or_else(|| missing("the address".to_owned(), host))
    }

    /// What a service of a host listens on so that its address is among them: `[::]` takes IPv4 too.
    pub(super) fn any(&self, host: &str) -> Result<&'static str, ServiceError> {
        Ok(if self.address(host)?.contains(':') { "[::]" } else { "0.0.0.0" })
    }

    /// `address:port` of ZooKeeper's members.
    pub(super) fn zookeeper_servers(&self) -> Result<Vec<String>, ServiceError> {
        let Some(role) = &self.inventory.zookeeper else { return Ok(Vec::new()) };
        let servers =
            role.members.iter().map(|member| Ok(join(self.address(&member.host)?, role.client_port)));
        servers.collect()
    }
}

pub(super) fn missing(what: String, host: &str) -> ServiceError {
    ServiceError::Missing { what, host: host.to_owned() }
}

/// `address:port`, an IPv6 address in brackets.
pub(super) fn join(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The secrets that an inventory needs, by key.
pub fn secret_refs(inventory: &Inventory) -> BTreeMap<String, SecretRef> {
    let mut refs = BTreeMap::new();
    if let Some(role) = &inventory.zookeeper {
        refs.insert("zookeeper.super_password".to_owned(), role.super_password.clone());
        refs.insert("zookeeper.aesop_password".to_owned(), role.aesop_password.clone());
    }
    refs.extend(super::zookeeper_login::secret_refs(inventory));
    if inventory.zookeeper.is_some() || inventory.kafka.is_some() {
        refs.insert("jolokia".to_owned(), SecretRef::Generated("jolokia".to_owned()));
    }
    if let Some(sasl) = inventory.kafka.as_ref().and_then(|role| role.sasl.as_ref()) {
        let users = sasl.users.iter();
        refs.extend(
            users.map(|(name, password)| (super::kafka_security::password_key(name), password.clone())),
        );
    }
    for (name, group) in &inventory.consumers {
        if let Some(sasl) = &group.sink_sasl {
            refs.insert(format!("consumers.{name}.sink.kafka.sasl.password"), sasl.password.clone());
        }
    }
    for (name, source) in &inventory.sources {
        if let Some(password) = &source.mysql.password {
            refs.insert(format!("sources.{name}.mysql.password"), password.clone());
        }
    }
    if let Some(role) = &inventory.monitor {
        refs.insert("monitor.agent_token".to_owned(), role.agent_token.clone());
        if let Some(password) = role.email.as_ref().and_then(|email| email.smtp.password.as_ref()) {
            refs.insert("monitor.email.smtp.password".to_owned(), password.clone());
        }
    } else {
        refs.insert("monitor.agent_token".to_owned(), SecretRef::Generated("agent-token".to_owned()));
    }
    for (name, extra) in &inventory.extras {
        let secrets = extra.secrets.iter();
        refs.extend(secrets.map(|(key, secret)| (extra::secret_key(name, key), secret.clone())));
    }
    refs
}

/// An artifact that an inventory needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedArtifact {
    /// `kafka-4.2.0`, `aesop`, `extra/exporter/opt/exporter/exporter`.
    pub name: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// Where an artifact comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// aesop knows it by its name.
    Known,
    /// One file of the user's.
    Own(ExtraArtifact),
    /// A project's own archive.
    Distribution {
        /// `kafka`, `zookeeper`.
        service: &'static str,
        /// Of what is inside.
        version: String,
        /// Where it is.
        archive: FileOrigin,
    },
}

/// The artifacts that an inventory needs.
pub fn wanted_artifacts(inventory: &Inventory) -> Vec<WantedArtifact> {
    let mut wanted = Vec::new();
    let mut want = |name: String, origin: Origin| wanted.push(WantedArtifact { name, origin });
    let own = format!("{}/", Role::Extra);
    if roles(inventory).values().flatten().any(|role| !role.starts_with(&own)) {
        want("aesop".to_owned(), Origin::Known);
    }
    if let Some(role) = &inventory.zookeeper {
        want_distribution(&mut want, "zookeeper", &role.version, role.artifact.as_ref());
    }
    if let Some(role) = &inventory.kafka {
        want_distribution(&mut want, "kafka", &role.version, role.artifact.as_ref());
    }
    if inventory.zookeeper.is_some() || inventory.kafka.is_some() {
        let jar = |origin: &FileOrigin| {
            Origin::Own(ExtraArtifact {
                path: String::new(),
                name: super::jvm::JOLOKIA_JAR.to_owned(),
                origin: origin.clone(),
                executable: false,
            })
        };
        let origin = inventory.jolokia.as_ref().map_or(Origin::Known, jar);
        want(super::jvm::JOLOKIA.to_owned(), origin);
    }
    if inventory.relays.is_some() {
        want("aesop-relay".to_owned(), Origin::Known);
    }
    if !inventory.consumers.is_empty() {
        want("aesop-consumer".to_owned(), Origin::Known);
    }
    for (extra, given) in &inventory.extras {
        for artifact in &given.artifacts {
            want(extra::artifact_name(extra, &artifact.path), Origin::Own(artifact.clone()));
        }
    }
    wanted
}

fn want_distribution(
    want: &mut impl FnMut(String, Origin),
    service: &'static str,
    version: &str,
    archive: Option<&FileOrigin>,
) {
    let own = |archive: &FileOrigin| Origin::Distribution {
        service,
        version: version.to_owned(),
        archive: archive.clone(),
    };
    want(format!("{service}-{version}"), archive.map_or(Origin::Known, own));
}
