//! From desired and observed to an ordered plan. Pure: what `apply` will do is decided here and nowhere else.

mod build;
mod diff;
mod machine;
mod observe;
mod order;
mod step;

pub use build::plan;
pub use diff::render_diffs;
pub use machine::{Disk, Java, Machine};
pub use observe::{HostFacts, Observation, Observed, PLACES, Record, Stat, UnitFact, parse, questions};
pub use step::{Action, Change, Step, UnitStart};

use crate::service::Role;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What `apply` will do, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The cluster.
    pub cluster: String,
    /// The generation that hosts have once it is done.
    pub generation: u64,
    /// The highest generation that a host has now; a newer one than this on a host means that the plan is old.
    pub rests_on: u64,
    /// In order; the steps of one stage rest on those of the stages before.
    pub stages: Vec<Stage>,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stage {
    /// The role.
    pub role: Role,
    /// `kafka`, `consumer/kafka-json`.
    pub service: String,
    /// Every host that has the service, with steps or not.
    pub members: BTreeSet<String>,
    /// One after the other; the hosts of one at once.
    pub waves: Vec<Wave>,
}

/// Hosts that are worked on at once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wave {
    /// Steps by host, in order.
    pub steps: BTreeMap<String, Vec<Step>>,
    /// Ready tests of other members afterwards.
    pub gates: BTreeMap<String, Vec<Step>>,
}

/// A change of a file on one or several hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileDiff {
    /// Path on the hosts.
    pub path: String,
    /// Hosts where the change is the same.
    pub hosts: Vec<String>,
    /// The file is new.
    pub new: bool,
    /// Its content is a secret or means nothing to people, so there are no hunks.
    pub secret: bool,
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
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { add, change, destroy, restarts } = self;
        let restarts_word = if *restarts == 1 { "restart" } else { "restarts" };
        write!(f, "Plan: {add} to add, {change} to change, {destroy} to destroy, {restarts} {restarts_word}")
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
            match step.action.change() {
                Change::Add => summary.add += 1,
                Change::Alter => summary.change += 1,
                Change::Restart => summary.restarts += 1,
                Change::Nothing => {}
            }
        }
        summary
    }

    /// Keeps only what concerns the hosts of `selected`.
    pub fn select(&mut self, selected: &BTreeSet<String>) {
        for wave in self.stages.iter_mut().flat_map(|stage| &mut stage.waves) {
            wave.steps.retain(|host, _| selected.contains(host));
        }
        for stage in &mut self.stages {
            stage.waves.retain(|wave| !wave.steps.is_empty());
        }
        self.stages.retain(|stage| !stage.waves.is_empty());
        for diff in &mut self.diffs {
            diff.hosts.retain(|host| selected.contains(host));
        }
        self.diffs.retain(|diff| !diff.hosts.is_empty());
        self.unreachable.retain(|host, _| selected.contains(host));
    }
}
