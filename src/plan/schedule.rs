//! The schedule: which service starts, restarts or stops where, in which order, why, behind which gate, and what is
//! unavailable meanwhile. It says what the stages say, for people.

use super::away::{Away, halts};
use super::step::{Action, Step};
use super::{Plan, Stage, Wave};
use crate::service::Gate;
use serde::Serialize;

/// One entry: hosts whose unit is touched at the same time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// `start`, `restart`, `reload`, `stop` (for good where it is removed, else until somebody starts it), `reboot`, or
    /// `member` where members of a cluster change.
    pub verb: &'static str,
    /// The unit; of a change of members the service, of a reboot `host`.
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
    /// What is unavailable meanwhile, of `stop` until it is started; none: nothing.
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
        let gates = steps
            .iter()
            .filter_map(|step| if let Action::AwaitReady(gate) = step.action() { Some(gate) } else { None });
        for (verb, unit, step) in steps.iter().filter_map(|step| verb(step, &stage.service)) {
            let words = (verb == MEMBER).then(|| step.action().to_string());
            let gate = if verb == REBOOT { all(gates.clone()) } else { gates.clone().next().map(words_of) };
            let turn = Turn {
                verb,
                unit: unit.to_owned(),
                hosts: vec![host.clone()],
                reason: words.or_else(|| step.reason().map(str::to_owned)),
                gate,
                gate_also_on: wave.gates.keys().cloned().collect(),
                unavailable: unavailable(stage, wave, host, step),
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
/// The verb of a host that goes down and comes back.
pub const REBOOT: &str = "reboot";
/// The verb of what is stopped and stays so.
pub const STOP: &str = "stop";

fn verb<'a>(step: &'a Step, service: &'a str) -> Option<(&'static str, &'a str, &'a Step)> {
    let (verb, unit) = if let Action::StartUnit(start) = step.action() {
        ("start", &start.unit)
    } else if let Action::RestartUnit(start) = step.action() {
        ("restart", &start.unit)
    } else if let Action::ReloadUnit(start) = step.action() {
        ("reload", &start.unit)
    } else if let Action::Adopt { start, .. } = step.action() {
        ("reload", &start.unit)
    } else if let Action::StopUnit(unit) | Action::HaltUnit(unit) = step.action() {
        (STOP, unit)
    } else if let Action::RebootHost(_) = step.action() {
        return Some((REBOOT, "host", step));
    } else if let Action::ChangeMember(change) = step.action()
        && change.membership
    {
        return Some((MEMBER, service, step));
    } else {
        return None;
    };
    Some((verb, unit, step))
}

/// What cannot be used while a step's unit is down.
fn unavailable(stage: &Stage, wave: &Wave, host: &str, step: &Step) -> Option<String> {
    if let Action::RebootHost(reboot) = step.action() {
        return reboot.unavailable.clone();
    }
    let down = if matches!(step.action(), Action::RestartUnit(_)) {
        1
    } else if matches!(step.action(), Action::HaltUnit(_)) {
        // One after the other, and all of them in the end.
        stage.waves.iter().flat_map(|wave| wave.steps.values()).filter(|steps| halts(steps)).count()
    } else {
        return None;
    };
    let partitions = wave.unavailable.get(host).map(Vec::as_slice);
    Away { role: stage.role, members: stage.members.len(), down, partitions }.words()
}

fn words_of(gate: &Gate) -> String {
    gate.words.clone()
}

/// The ready tests of all that is on a host.
fn all<'a>(gates: impl Iterator<Item = &'a Gate>) -> Option<String> {
    let words: Vec<String> = gates.map(|gate| format!("{} is ready ({})", gate.unit, gate.words)).collect();
    (!words.is_empty()).then(|| words.join("; "))
}
