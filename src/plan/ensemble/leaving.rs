//! Members that the inventory names no more: the dead ones lose their votes before anything restarts, the others when
//! nobody uses them any more. One that is stopped is started once more where nobody could let it go without it.

use super::super::order::Work;
use super::super::step::{Action, Step, UnitStart};
use super::super::{Observation, Observed, Record, Stage, TurnOf, Wave};
use super::{Ensemble, Way, words_of};
use crate::ensemble::members::Server;
use crate::service::{Role, ZOOKEEPER_UNIT as UNIT};
use std::collections::{BTreeMap, BTreeSet};

/// The member on a host that should have none.
#[derive(Debug)]
pub(super) struct Departing {
    id: Option<u32>,
    runs: bool,
    /// What it was started with.
    start: UnitStart,
}

pub(super) fn departing(observed: &Observed, stays: impl Fn(&str) -> bool) -> BTreeMap<&str, Departing> {
    let departing =
        observed.hosts.iter().filter(|(host, _)| !stays(host)).filter_map(|(host, observation)| {
            let Observation::Facts(facts) = observation else { return None };
            let ensemble = facts.ensemble.as_ref()?;
            let runs = facts.units.get(UNIT).is_some_and(|unit| unit.active == "active");
            let Record { restart, reload, .. } = facts.records.get(UNIT).cloned().unwrap_or_default();
            let start = UnitStart { unit: UNIT.to_owned(), restart, reload };
            Some((host.as_str(), Departing { id: ensemble.id, runs, start }))
        });
    departing.collect()
}

impl<'a> Ensemble<'a> {
    /// Members that the inventory names no more.
    pub(super) fn leaving(&self) -> impl Iterator<Item = (u32, &Server)> {
        let stays = |id: &u32| self.wanted.values().any(|wanted| wanted.member.id == *id);
        let members = self.current.iter().flat_map(|(members, _)| members);
        members.filter(move |(id, _)| !stays(id)).map(|(id, server)| (*id, server))
    }

    /// Those without which there is no majority that could let anybody go or come.
    pub(super) fn asleep_and_needed(&self) -> BTreeSet<&'a str> {
        let Some((members, true)) = &self.current else { return BTreeSet::new() };
        let votes = |departing: &Departing| departing.id.is_some_and(|id| members.contains_key(&id));
        let (run, sleep): (Vec<_>, Vec<_>) = self
            .departing
            .iter()
            .filter(|(_, departing)| votes(departing))
            .partition(|(_, departing)| departing.runs);
        let serve = self.hosts(Way::Belongs).chain(self.hosts(Way::Moves)).count() + run.len();
        let missing = (members.len() / 2 + 1).saturating_sub(serve);
        sleep.into_iter().map(|(host, _)| *host).take(missing).collect()
    }

    /// The start of those; whether they serve shows when all that starts has started.
    pub(super) fn wake(&self) -> Option<Wave> {
        let steps = self.woken.iter().filter_map(|host| {
            let start = self.departing.get(host)?.start.clone();
            let reason = "it leaves, and without it there is no majority that could let it go".to_owned();
            Some(((*host).to_owned(), vec![Step::because(Action::StartUnit(start), Some(reason))]))
        });
        let steps: BTreeMap<String, Vec<Step>> = steps.collect();
        (!steps.is_empty()).then(|| Wave::of(steps))
    }

    pub(super) fn wait_for_woken(&self, works: &BTreeMap<&str, &Work>) -> Vec<Wave> {
        // All members have the same directory, so the test of one is that of the others.
        let gate = works.values().find_map(|work| work.gate.clone());
        let steps = self.woken.iter().filter_map(|host| Some(((*host).to_owned(), vec![gate.clone()?])));
        let steps: BTreeMap<String, Vec<Step>> = steps.collect();
        if steps.is_empty() { Vec::new() } else { vec![Wave::of(steps)] }
    }

    fn serves(&self, host: &str, departing: &Departing) -> bool {
        departing.runs || self.woken.contains(host)
    }

    /// A host whose member serves before anything has changed.
    fn serving(&self) -> Option<&'a str> {
        let stays = self.hosts(Way::Belongs).chain(self.hosts(Way::Moves)).next();
        let mut departing = self.departing.iter().filter(|(host, departing)| self.serves(host, departing));
        stays.or_else(|| departing.next().map(|(host, _)| *host))
    }

    /// Members that leave and do not serve, where somebody is there to tell: while they have votes, nobody else may stop.
    fn dead(&self) -> BTreeMap<u32, &Server> {
        let serves = |id: u32| {
            let mut departing = self.departing.iter().filter(|(_, departing)| departing.id == Some(id));
            departing.any(|(host, departing)| self.serves(host, departing))
        };
        let told = self.serving().is_some();
        self.leaving().filter(|(id, _)| told && !serves(*id)).collect()
    }

    pub(super) fn dead_leave(&self, voters: &mut BTreeSet<u32>) -> Vec<Wave> {
        let Some(runner) = self.serving() else { return Vec::new() };
        let mut waves = Vec::new();
        for (id, server) in self.dead() {
            voters.remove(&id);
            waves.push(Wave::of(self.leave(runner, id, server, voters)));
        }
        waves
    }

    /// Puts those who leave before the stops of their units.
    pub(in super::super) fn arrange_leaving(&self, stages: &mut Vec<Stage>, works: &BTreeMap<&str, &Work>) {
        let (Some((members, _)), Some(runner)) = (&self.current, self.runner(None)) else { return };
        let early = self.dead();
        let mut voters: BTreeSet<u32> =
            members.keys().filter(|id| !early.contains_key(id)).copied().collect();
        voters
            .extend(self.ways.keys().filter_map(|host| self.wanted.get(host)).map(|wanted| wanted.member.id));
        let Some(of) = self.wanted.get(runner) else { return };
        let mut waves = Vec::new();
        for (id, server) in self.leaving().filter(|(id, _)| !early.contains_key(id)) {
            voters.remove(&id);
            let rank =
                words_of(&["zookeeper", "--data-dir", &of.member.data_dir, "--member", &id.to_string()]);
            let order = "one at a time, what is not ready first, the leader last".to_owned();
            let gates = self.ways.keys().filter_map(|host| {
                let gate = works.get(host)?.gate.clone()?;
                Some(((*host).to_owned(), vec![gate]))
            });
            waves.push(Wave {
                gates: gates.collect(),
                turn: Some(TurnOf { rank, order }),
                ..Wave::of(self.leave(runner, id, server, &voters))
            });
        }
        if !waves.is_empty() {
            insert_leaves(stages, waves);
        }
    }
}

fn insert_leaves(stages: &mut Vec<Stage>, waves: Vec<Wave>) {
    if let Some(stage) = stages.iter_mut().find(|stage| stage.role == Role::ZooKeeper && stage.removes) {
        stage.waves.splice(0..0, waves);
        return;
    }
    let last = stages.iter().position(|stage| stage.removes && stage.role < Role::ZooKeeper);
    let service = Role::ZooKeeper.word().to_owned();
    let stage = Stage { role: Role::ZooKeeper, service, removes: true, members: BTreeSet::new(), waves };
    stages.insert(last.unwrap_or(stages.len()), stage);
}
