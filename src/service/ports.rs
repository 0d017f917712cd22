//! The ports that a part listens on, so that a port somebody else has taken is seen before anything is changed.

use super::{Part, Role};
use crate::inventory::model::{Inventory, KafkaMode};

/// Ports of one part of a host, as the inventory says.
pub(super) fn of(inventory: &Inventory, host: &str, part: &Part) -> Vec<u16> {
    match part.role {
        Role::Base | Role::Extra => Vec::new(),
        Role::ZooKeeper => inventory.zookeeper.as_ref().map_or_else(Vec::new, |role| {
            vec![role.client_port, role.peer_port, role.election_port, role.jolokia_port]
        }),
        Role::Kafka => inventory.kafka.as_ref().map_or_else(Vec::new, |role| {
            let internal = role.tls.is_some().then_some(role.internal_port);
            let broker = [Some(role.port), internal].into_iter().flatten().filter(|_| role.is_broker(host));
            let control = (role.mode == KafkaMode::Kraft).then_some(role.controller_port);
            control.into_iter().chain([role.jolokia_port]).chain(broker).collect()
        }),
        Role::Relay => {
            inventory.relays.as_ref().map_or_else(Vec::new, |role| vec![role.port, role.http_port])
        }
        Role::Consumer => {
            let group = part.service.strip_prefix("consumer/").and_then(|name| inventory.consumers.get(name));
            group.map_or_else(Vec::new, |group| vec![group.http_port])
        }
        Role::Agent => vec![inventory.agent_port],
        Role::Monitor => inventory.monitor.as_ref().map_or_else(Vec::new, |role| vec![role.port]),
    }
}
