//! What cannot be used while members of a service are down: a plan says it before anybody says yes.

use super::brokers::nodes;
use super::step::{Action, Step};
use super::{Stage, Wave};
use crate::kafka::gate::unavailable_without;
use crate::kafka::view::View;
use crate::service::{HostState, Role};
use std::collections::{BTreeMap, BTreeSet};

/// Members of one service that are down at the same time.
pub(super) struct Away<'a> {
    pub(super) role: Role,
    /// How many members there are.
    pub(super) members: usize,
    /// How many of them are down.
    pub(super) down: usize,
    /// Partitions that nobody can write to meanwhile; none: Kafka did not say.
    pub(super) partitions: Option<&'a [String]>,
}

impl Away<'_> {
    /// What is missed; none: nothing.
    pub(super) fn words(&self) -> Option<String> {
        let whole = self.down >= self.members;
        if let (Some(partitions), false) = (self.partitions, whole && self.members > 1) {
            return named(partitions);
        }
        let words = match self.role {
            Role::Base | Role::Extra => return None,
            Role::ZooKeeper if self.members.saturating_sub(self.down) * 2 > self.members => return None,
            Role::ZooKeeper => "ZooKeeper: consumers stop, and go on from their checkpoints once it is back",
            Role::Kafka if whole => "Kafka: rows wait in the logs of the relays",
            Role::Kafka => "topics whose only replica is on this broker",
            Role::Relay if whole => "the relay: rows wait in the binlogs of its sources",
            Role::Relay => "sources that no other relay serves: their rows wait in the binlog",
            Role::Consumer if whole => "the group: rows wait in the logs of the relays",
            Role::Consumer => "its partitions, until the other members have taken them over",
            Role::Agent => "probes of this host",
            Role::Monitor => "alerts and the status page",
        };
        Some(words.to_owned())
    }
}

/// Partitions by name, as long as there are few.
fn named(partitions: &[String]) -> Option<String> {
    const NAMED: usize = 5;
    let more = match partitions.len().saturating_sub(NAMED) {
        _ if partitions.is_empty() => return None,
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names: Vec<&str> = partitions.iter().take(NAMED).map(String::as_str).collect();
    Some(format!("writing to {}{more}: no more replicas than must be in sync", names.join(", ")))
}

/// A unit is stopped and stays so.
pub(super) fn halts(steps: &[Step]) -> bool {
    steps.iter().any(|step| matches!(step.action(), Action::HaltUnit(_)))
}

/// Names what restarts and stops make unavailable, by what Kafka says now.
pub(super) fn name_unavailable(
    stages: &mut [Stage],
    desired: &BTreeMap<String, HostState>,
    view: Option<&View>,
) {
    let Some(view) = view else { return };
    let members = nodes(desired);
    for stage in stages.iter_mut().filter(|stage| stage.role == Role::Kafka && !stage.removes) {
        let waves = stage.waves.iter().flat_map(|wave| &wave.steps);
        // Who is stopped stays down while the others stop.
        let stopped: BTreeSet<i32> = waves
            .filter(|(_, steps)| halts(steps))
            .filter_map(|(host, _)| members.get(host.as_str()).map(|member| member.id))
            .collect();
        for Wave { steps, unavailable, .. } in &mut stage.waves {
            for (host, steps) in steps {
                let restarts = steps.iter().any(|step| matches!(step.action(), Action::RestartUnit(_)));
                let Some(member) = members.get(host.as_str()).filter(|_| restarts || halts(steps)) else {
                    continue;
                };
                // One that is to be no broker is empty by then.
                let lost = match member.address {
                    Some(_) if restarts => unavailable_without(view, member.id),
                    Some(_) => unavailable_after(view, member.id, &stopped),
                    None => Vec::new(),
                };
                unavailable.insert(host.clone(), lost);
            }
        }
    }
}

/// Partitions of a broker that nobody can write to once all of these have stopped.
fn unavailable_after(view: &View, broker: i32, stopped: &BTreeSet<i32>) -> Vec<String> {
    let stays = |id: &&i32| !stopped.contains(id) && view.serves(**id);
    view.on(broker)
        .filter(|partition| {
            let needed = view.min_in_sync.get(&partition.topic).copied().unwrap_or(1);
            partition.replicas.iter().filter(stays).count() < needed
        })
        .map(ToString::to_string)
        .collect()
}
