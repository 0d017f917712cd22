//! A node of a Kafka cluster: broker, controller or both, and what stands in its `server.properties`.

use super::inputs::{Inputs, join, missing};
use super::{ServiceError, dynamic_setting, kafka_security};
use crate::inventory::model::{KafkaMode, KafkaRole, Member};
use crate::lock::KafkaLock;
use std::collections::BTreeMap;

/// Where a node looks for the controllers before it knows who leads.
const CONTROLLERS: &str = "controller.quorum.bootstrap.servers";
/// Where Kafka's znodes are: apart from `/aesop` and from whatever else is in the ensemble.
const CHROOT: &str = "/kafka";

pub(super) struct Node<'a> {
    pub(super) host: &'a str,
    pub(super) id: u32,
    pub(super) address: &'a str,
    pub(super) broker: bool,
    pub(super) controller: bool,
    inputs: &'a Inputs<'a>,
    role: &'a KafkaRole,
    member: &'a Member,
    lock: &'a KafkaLock,
}

impl<'a> Node<'a> {
    pub(super) fn new(
        inputs: &'a Inputs<'_>,
        role: &'a KafkaRole,
        member: &'a Member,
        lock: &'a KafkaLock,
    ) -> Result<Self, ServiceError> {
        let host = &member.host;
        Ok(Self {
            host,
            id: inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?,
            address: inputs.address(host)?,
            broker: role.is_broker(host),
            controller: lock.controllers.contains(host),
            inputs,
            role,
            member,
            lock,
        })
    }

    /// Where a controller listens.
    pub(super) fn endpoint(&self, address: &str) -> String {
        join(address, self.role.controller_port)
    }

    /// `id@host:port:directory,…`: the same text on every controller.
    pub(super) fn initial_controllers(&self) -> Result<String, ServiceError> {
        let mut voters = Vec::new();
        for host in &self.lock.controllers {
            let address = self.inputs.address(host)?;
            let id = self.inputs.lock.node_id(host).ok_or_else(|| missing("node.id".to_owned(), host))?;
            let directory = self.lock.directory_ids.get(host);
            let directory = directory.ok_or_else(|| missing("the directory id".to_owned(), host))?;
            voters.push(format!("{id}@{}:{directory}", self.endpoint(address)));
        }
        Ok(voters.join(","))
    }

    pub(super) fn settings(&self, data: &[String]) -> Result<BTreeMap<String, String>, ServiceError> {
        let Self { role, lock, .. } = self;
        let replication = lock.replication_factor.to_string();
        let in_sync = lock.min_insync_replicas.to_string();
        let mut settings: BTreeMap<String, String> = [
            ("log.dirs", data.join(",").as_str()),
            ("default.replication.factor", &replication),
            ("min.insync.replicas", &in_sync),
            ("offsets.topic.replication.factor", &replication),
            ("transaction.state.log.replication.factor", &replication),
            ("transaction.state.log.min.isr", &in_sync),
            ("unclean.leader.election.enable", "false"),
            ("auto.create.topics.enable", "false"),
            ("num.partitions", "6"),
        ]
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
        let rack = self.inputs.inventory.hosts.get(self.host).and_then(|host| host.rack.clone());
        if let (Some(rack), true) = (rack, self.broker) {
            settings.insert("broker.rack".to_owned(), rack);
        }
        match role.mode {
            KafkaMode::Kraft => settings.extend(self.with_controllers()?),
            KafkaMode::ZooKeeper => settings.extend(self.with_zookeeper()?),
        }
        settings.extend(kafka_security::listeners(role, self.address, self.broker, self.controller));
        settings.extend(role.config.clone());
        settings.extend(self.member.config.clone());
        Ok(settings)
    }

    /// Its place among nodes of which some are controllers.
    fn with_controllers(&self) -> Result<BTreeMap<String, String>, ServiceError> {
        let lock = self.lock;
        let endpoints = lock.controllers.iter().map(|host| Ok(self.endpoint(self.inputs.address(host)?)));
        let endpoints = endpoints.collect::<Result<Vec<_>, ServiceError>>()?;
        let roles = match (self.broker, self.controller) {
            (true, true) => "broker,controller",
            (true, false) => "broker",
            (false, _) => "controller",
        };
        Ok([
            ("process.roles", roles.to_owned()),
            ("node.id", self.id.to_string()),
            (CONTROLLERS, endpoints.join(",")),
            ("share.coordinator.state.topic.replication.factor", lock.replication_factor.to_string()),
            ("share.coordinator.state.topic.min.isr", lock.min_insync_replicas.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into())
    }

    /// Its place among brokers that meet in ZooKeeper.
    fn with_zookeeper(&self) -> Result<BTreeMap<String, String>, ServiceError> {
        let servers = self.inputs.zookeeper_servers()?.join(",");
        // 3.9.1 is 3.9: an older release of the same series understands what a newer one writes.
        let series = self.role.version.split('.').take(2).collect::<Vec<_>>().join(".");
        Ok([
            ("broker.id", self.id.to_string()),
            ("zookeeper.connect", format!("{servers}{CHROOT}")),
            ("inter.broker.protocol.version", series),
            // Who is not Kafka may read most of its znodes, not the users', and change none.
            ("zookeeper.set.acl", "true".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into())
    }

    /// What of its settings a restart depends on: not those that a running broker takes in, and of the controllers those
    /// where it looked for them when it started, as long as it finds the others by them.
    pub(super) fn lasting(&self, settings: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let lasting = settings.iter().filter(|(name, _)| !self.broker || !dynamic_setting(name));
        let mut lasting: BTreeMap<String, String> =
            lasting.map(|(name, value)| (name.clone(), value.clone())).collect();
        let known = self.lock.known_controllers.values().map(|address| self.endpoint(address));
        let known = known.collect::<Vec<_>>().join(",");
        if let Some(controllers) = lasting.get_mut(CONTROLLERS) {
            *controllers = known;
        }
        lasting
    }
}
