//! The schedule: which service starts, restarts or stops where, in which order, why, behind which gate, and what is
//! unavailable meanwhile. It says what the stages say, for people.

use super::step::{Action, Step};
use super::{Plan, Stage, Wave};
use crate::service::Role;
use serde::Serialize;

/// One entry: hosts whose unit is touched at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// `start`, `restart`, `reload`, `stop`, or `member` where members of a cluster change.
    pub verb: &'static str,
    /// The unit; of a change of members the service.
    pub unit: String,
    /// The hosts.
    pub hosts: Vec<String>,
    /// Why; of a change of members what happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The ready test that must pass before anything further is touched, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<String>,
    /// Other members that must pass it too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gate_also_on: Vec<String>,
    /// What is unavailable meanwhile; none: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// Where the test fails, the former configuration is put back.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub put_back: bool,
}

impl Plan {
    /// What starts, restarts and stops, in order.
    pub fn schedule(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        for stage in &self.stages {
            for wave in &stage.waves {
                turns.extend(wave_turns(stage, wave));
            }
        }
        turns
    }
}

fn wave_turns(stage: &Stage, wave: &Wave) -> Vec<Turn> {
    let mut turns: Vec<Turn> = Vec::new();
    for (host, steps) in &wave.steps {
        let gate = steps.iter().find_map(|step| {
            if let Action::AwaitReady(gate) = step.action() { Some(gate.words.clone()) } else { None }
        });
        for (verb, unit, step) in steps.iter().filter_map(|step| verb(step, &stage.service)) {
            let words = (verb == MEMBER).then(|| step.action().to_string());
            let turn = Turn {
                verb,
                unit: unit.to_owned(),
                hosts: vec![host.clone()],
                reason: words.or_else(|| step.reason().map(str::to_owned)),
                gate: gate.clone(),
                gate_also_on: wave.gates.keys().cloned().collect(),
                unavailable: (verb == "restart").then(|| unavailable(stage, wave, host)).flatten(),
                put_back: wave.put_back.contains_key(host),
            };
            let hosts = |turn: &Turn| Turn { hosts: Vec::new(), ..turn.clone() };
            match turns.iter_mut().find(|other| hosts(other) == hosts(&turn)) {
                Some(other) => other.hosts.push(host.clone()),
                None => turns.push(turn),
            }
        }
    }
    turns
}

/// The verb of a change of members.
pub const MEMBER: &str = "member";

fn verb<'a>(step: &'a Step, service: &'a str) -> Option<(&'static str, &'a str, &'a Step)> {
    let (verb, unit) = if let Action::StartUnit(start) = step.action() {
        ("start", &start.unit)
    } else if let Action::RestartUnit(start) = step.action() {
        ("restart", &start.unit)
    } else if let Action::ReloadUnit(start) = step.action() {
        ("reload", &start.unit)
    } else if let Action::Adopt { start, .. } = step.action() {
        ("reload", &start.unit)
    } else if let Action::StopUnit(unit) = step.action() {
        ("stop", unit)
    } else if let Action::ChangeMember(change) = step.action()
        && change.membership
    {
        return Some((MEMBER, service, step));
    } else {
        return None;
    };
    Some((verb, unit, step))
}

/// What cannot be used while one member of a service is down.
fn unavailable(stage: &Stage, wave: &Wave, host: &str) -> Option<String> {
    /// Fewer members than this have no majority without one.
    const QUORUM: usize = 3;
    if let Some(partitions) = wave.unavailable.get(host) {
        return named(partitions);
    }
    let alone = stage.members.len() < 2;
    let words = match stage.role {
        Role::Base | Role::Extra => return None,
        Role::ZooKeeper if stage.members.len() >= QUORUM => return None,
        Role::ZooKeeper => "ZooKeeper: consumers stop, and go on from their checkpoints once it is back",
        Role::Kafka if alone => "Kafka: rows wait in the logs of the relays",
        Role::Kafka => "topics whose only replica is on this broker",
        Role::Relay if alone => "the relay: rows wait in the binlogs of its sources",
        Role::Relay => "sources that no other relay serves: their rows wait in the binlog",
        Role::Consumer if alone => "the group: rows wait in the logs of the relays",
        Role::Consumer => "its partitions, until the other members have taken them over",
        Role::Agent => "probes of this host",
        Role::Monitor => "alerts and the status page",
    };
    Some(words.to_owned())
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
