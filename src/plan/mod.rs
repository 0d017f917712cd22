//! From desired and observed to an ordered plan. Pure: what `apply` will do is decided here and nowhere else.

mod away;
mod brokers;
mod build;
mod diff;
mod document;
mod ensemble;
mod finish;
mod machine;
mod manifest;
mod moving;
mod observe;
mod operate;
mod order;
mod parting;
mod put_back;
mod raising;
mod reboot;
mod refuse;
mod remove;
mod schedule;
mod step;
mod votes;

pub use build::{destroy, plan};
pub use diff::render_diffs;
pub use document::{Difference, Document, FORMAT, Facts, Saved, digest, host_facts, kafka_facts};
pub use machine::{Disk, Java, Machine};
pub use manifest::Manifest;
pub use observe::{
    EnsembleFact, Holder, HostFacts, Observation, Observed, PLACES, Record, Stat, UnitFact, parse, questions,
};
pub use operate::{Operation, Scope, operate};
pub use reboot::{reboot, reboot_rest};
pub use refuse::selection;
pub use schedule::{MEMBER, REBOOT, STOP, Turn};
pub use step::{Action, Change, Hash, Reboot, Step, UnitStart};

use crate::service::Role;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What `apply` will do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// The cluster.
    pub cluster: String,
    /// The generation that hosts have once it is done.
    pub generation: u64,
    /// The highest generation that a host has now; a newer one than this on a host means that the plan is old.
    #[serde(rename = "highest_generation")]
    pub rests_on: u64,
    /// In order; the steps of one stage rest on those of the stages before.
    pub stages: Vec<Stage>,
    /// What somebody changed on the hosts since aesop wrote it; the plan puts it right.
    pub drift: Vec<Drift>,
    /// Diffs of files, with secrets only named.
    pub diffs: Vec<FileDiff>,
    /// Hosts that could not be observed, and why. Nothing is planned for them.
    pub unreachable: BTreeMap<String, String>,
    /// What forbids to go on: the host's own ids disagree with the lock.
    pub refused: Vec<String>,
    /// What a person should know before saying yes.
    pub notes: Vec<String>,
}

/// One service on all of its hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// The role.
    pub role: Role,
    /// `kafka`, `consumer/kafka-json`.
    pub service: String,
    /// The service is not declared any more, or only a part of what it had.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removes: bool,
    /// Every host that has the service, with steps or not.
    pub members: BTreeSet<String>,
    /// One after the other; the hosts of one at once.
    pub waves: Vec<Wave>,
}

/// Hosts that are worked on at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wave {
    /// Steps by host, in order.
    pub steps: BTreeMap<String, Vec<Step>>,
    /// Ready tests of other members afterwards.
    pub gates: BTreeMap<String, Vec<Step>>,
    /// What is done on a host where the service does not become ready with its new configuration: the former one is
    /// put back and proven.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub put_back: BTreeMap<String, Vec<Step>>,
    /// Of one host that shares its turns with those of the neighbouring waves: who goes next is asked before each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnOf>,
    /// Partitions that nobody can write to meanwhile, by host, as Kafka says now; no entry: it did not say.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unavailable: BTreeMap<String, Vec<String>>,
    /// Of a host that is back from the reboot of a command that did not live to see it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub returned: bool,
}

/// A member of a quorum that takes its turn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TurnOf {
    /// Arguments of `aesop turn` on its host; it prints a rank, and the lowest goes first.
    pub rank: Vec<String>,
    /// The order in words.
    pub order: String,
}

impl Wave {
    /// Steps alone.
    fn of(steps: BTreeMap<String, Vec<Step>>) -> Self {
        Self { steps, ..Self::default() }
    }
}

impl Stage {
    /// The service of the last stage, where hosts note what was done.
    pub const GENERATION: &'static str = "generation";
    /// The stage in which hosts are rebooted, one after the other.
    pub const REBOOT: &'static str = "reboot";

    /// Where members failed, the others are left as they are.
    pub fn stops_at_a_failure(&self) -> bool {
        self.role.rolling() || self.service == Self::REBOOT
    }
}

/// Something that is not as aesop left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Where.
    pub host: String,
    /// A path or a unit.
    pub name: String,
    /// `edited`, `removed`, `moved`, `another mode or owner`, `stopped`, `failed`, `disabled`, `changed since systemd read
    /// it`.
    pub found: &'static str,
}

/// A change of a file on one or several hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FileDiff {
    /// Path on the hosts.
    pub path: String,
    /// Hosts where the change is the same.
    pub hosts: Vec<String>,
    /// The file is new.
    pub new: bool,
    /// Somebody changed the file on the host since aesop wrote it.
    pub drift: bool,
    /// What changes is a secret or means nothing to people, so there are no hunks.
    pub secret: bool,
    /// Its mode on the host, octal; none where it is not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old_mode: Option<String>,
    /// Its mode afterwards; none where it goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// Unified hunks.
    pub hunks: String,
}

/// How much a plan changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Things that will be made.
    pub add: usize,
    /// Things that will be changed.
    pub change: usize,
    /// Things that will be removed.
    pub destroy: usize,
    /// Services that will be stopped and started.
    pub restarts: usize,
    /// Services that will be stopped, until somebody starts them.
    pub stops: usize,
    /// Hosts that go down and come back.
    pub reboots: usize,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { add, change, destroy, restarts, stops, reboots } = *self;
        let counted = |count: usize, word: &str| {
            let plural = if count == 1 { "" } else { "s" };
            format!("{count} {word}{plural}")
        };
        write!(
            f,
            "Plan: {add} to add, {change} to change, {destroy} to destroy, {}",
            counted(restarts, "restart")
        )?;
        // Only where somebody asked for them.
        let asked = [(stops, "stop"), (reboots, "reboot")];
        let mut asked = asked.into_iter().filter(|(count, _)| *count > 0);
        asked.try_for_each(|(count, word)| write!(f, ", {}", counted(count, word)))
    }
}

impl Plan {
    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|stage| stage.waves.is_empty())
    }

    /// Steps with their hosts, in order.
    pub fn steps(&self) -> impl Iterator<Item = (&str, &Step)> {
        self.stages
            .iter()
            .flat_map(|stage| &stage.waves)
            .flat_map(|wave| wave.steps.iter().chain(&wave.gates))
            .flat_map(|(host, steps)| steps.iter().map(move |step| (host.as_str(), step)))
    }

    /// Hosts that it touches.
    pub fn hosts(&self) -> BTreeSet<&str> {
        self.steps().map(|(host, _)| host).collect()
    }

    /// How much it changes.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary::default();
        for (_, step) in self.steps() {
            match step.change() {
                Change::Add => summary.add += 1,
                Change::Alter => summary.change += 1,
                Change::Restart => summary.restarts += 1,
                Change::Stop => summary.stops += 1,
                Change::Reboot => summary.reboots += 1,
                Change::Remove => summary.destroy += 1,
                Change::Nothing => {}
            }
        }
        summary
    }

    /// Keeps only what concerns the hosts of `selected`.
    pub fn select(&mut self, selected: &BTreeSet<String>) {
        for wave in self.stages.iter_mut().flat_map(|stage| &mut stage.waves) {
            wave.steps.retain(|host, _| selected.contains(host));
            wave.put_back.retain(|host, _| selected.contains(host));
        }
        for stage in &mut self.stages {
            stage.waves.retain(|wave| !wave.steps.is_empty());
        }
        self.stages.retain(|stage| !stage.waves.is_empty());
        for diff in &mut self.diffs {
            diff.hosts.retain(|host| selected.contains(host));
        }
        self.diffs.retain(|diff| !diff.hosts.is_empty());
        self.drift.retain(|drift| selected.contains(&drift.host));
        self.unreachable.retain(|host, _| selected.contains(host));
    }
}
