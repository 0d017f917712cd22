//! The order of a plan: roles one after the other, restarts of one service host by host.

use super::step::{Action, Step};
use super::{Stage, TurnOf, Wave};
use crate::service::{Role, Turn};
use std::collections::{BTreeMap, BTreeSet};

/// The work on one service of one host.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) role: Role,
    pub(super) service: String,
    /// Files, links and what else comes before the start.
    pub(super) prepare: Vec<Step>,
    /// Starts of what is stopped and reloads.
    pub(super) start: Vec<Step>,
    /// Restarts of what runs; hosts take turns.
    pub(super) restart: Vec<Step>,
    /// The ready test and what is noted after it.
    pub(super) confirm: Vec<Step>,
    pub(super) gate: Option<Step>,
    /// What brings the former configuration back.
    pub(super) put_back: Vec<Step>,
    /// How it is stopped, for members of a quorum.
    pub(super) turn: Option<(Step, TurnOf)>,
}

impl Work {
    /// Nothing is to be done.
    pub(super) fn is_idle(&self) -> bool {
        self.prepare.is_empty() && self.start.is_empty() && self.restart.is_empty() && self.confirm.is_empty()
    }
}

/// All work but that of a role on some hosts, and that alone; in both all members of the role keep their ready tests.
pub(super) fn apart<'a>(
    hosts: &BTreeMap<&'a str, &[Work]>,
    role: Role,
    some: &BTreeSet<String>,
) -> (Works<'a>, Works<'a>) {
    let idle = |work: &Work| Work {
        role,
        service: work.service.clone(),
        prepare: Vec::new(),
        start: Vec::new(),
        restart: Vec::new(),
        confirm: Vec::new(),
        gate: work.gate.clone(),
        put_back: Vec::new(),
        turn: None,
    };
    let keep = |work: &Work, yes: bool| if yes { work.clone() } else { idle(work) };
    let first = hosts.iter().map(|(host, works)| {
        let keeps = |work: &Work| keep(work, work.role != role || !some.contains(*host));
        (*host, works.iter().map(keeps).collect())
    });
    let later = hosts.iter().map(|(host, works)| {
        let of_role = works.iter().filter(|work| work.role == role && !some.is_empty());
        (*host, of_role.map(|work| keep(work, some.contains(*host))).collect())
    });
    (first.collect(), later.collect())
}

/// Work by host.
pub(super) type Works<'a> = BTreeMap<&'a str, Vec<Work>>;

pub(super) fn borrowed<'a, 'b>(works: &'b Works<'a>) -> BTreeMap<&'a str, &'b [Work]> {
    works.iter().map(|(host, works)| (*host, works.as_slice())).collect()
}

/// How a member of a quorum is stopped: when it may, and who is ranked first.
pub(super) fn turn(turn: &Turn) -> (Step, TurnOf) {
    let order = TurnOf { rank: turn.rank.clone(), order: turn.order.clone() };
    (Step::plain(Action::AwaitStop(turn.stop.clone())), order)
}

/// Orders the work of all hosts: roles one after the other; within a role first all that is new or needs no
/// turn, at once, then the restarts of what runs.
pub(super) fn stages(hosts: &BTreeMap<&str, &[Work]>) -> Vec<Stage> {
    let mut keys: Vec<(Role, String)> = Vec::new();
    for work in hosts.values().copied().flatten() {
        let key = (work.role, work.service.clone());
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys.sort();
    let mut stages = Vec::new();
    for (role, service) in keys {
        let works: BTreeMap<&str, &Work> = hosts
            .iter()
            .filter_map(|(name, host)| {
                let work = host.iter().find(|work| work.role == role && work.service == service)?;
                Some((*name, work))
            })
            .collect();
        let waves = waves(role, &works);
        if !waves.is_empty() {
            let members = works.keys().map(|name| (*name).to_owned()).collect();
            stages.push(Stage { role, service, removes: false, members, waves });
        }
    }
    stages
}

/// Puts the waves of a stage behind what starts for its role, and before what restarts; where the role has no stage yet,
/// it becomes one.
pub(super) fn insert_before_turns(stages: &mut Vec<Stage>, new: Stage) -> Option<&mut Stage> {
    let found = stages.iter().position(|stage| stage.role == new.role && !stage.removes);
    let Some(at) = found else {
        let at = stages.iter().position(|stage| stage.role > new.role).unwrap_or(stages.len());
        stages.insert(at, new);
        return stages.get_mut(at);
    };
    let stage = stages.get_mut(at)?;
    let turns = |wave: &Wave| wave.turn.is_some();
    let at = stage.waves.iter().position(turns).unwrap_or(stage.waves.len());
    stage.waves.splice(at..at, new.waves);
    Some(stage)
}

/// What hosts wait for before they restart.
pub(super) fn before_restarts(stages: &mut [Stage], waits: &BTreeMap<String, Step>) {
    let restarts = |step: &Step| matches!(step.action(), Action::RestartUnit(_));
    for wave in stages.iter_mut().flat_map(|stage| &mut stage.waves) {
        for (host, wait) in waits {
            if let Some(steps) = wave.steps.get_mut(host).filter(|steps| steps.iter().any(restarts)) {
                steps.insert(0, wait.clone());
            }
        }
    }
}

fn waves(role: Role, works: &BTreeMap<&str, &Work>) -> Vec<Wave> {
    let mut together = Wave::default();
    let mut turns = Vec::new();
    for (name, work) in works {
        let mut steps = work.prepare.clone();
        if let (Some((stop, _)), false) = (&work.turn, work.restart.is_empty()) {
            // Before the files, so that a member that may not stop is left as it is.
            steps.insert(0, stop.clone());
        }
        steps.extend(work.start.iter().cloned());
        steps.extend(work.restart.iter().cloned());
        steps.extend(work.confirm.iter().cloned());
        if steps.is_empty() {
            continue;
        }
        let put_back = (!work.put_back.is_empty()).then(|| ((*name).to_owned(), work.put_back.clone()));
        // A setting that a member takes in may be a bad one as well: one member after the other.
        let turns_needed = !work.restart.is_empty()
            || work.start.iter().any(|step| matches!(step.action(), Action::Adopt { .. }));
        if !turns_needed || !role.rolling() {
            together.steps.insert((*name).to_owned(), steps);
            together.put_back.extend(put_back);
        } else {
            let gates = works
                .iter()
                .filter(|(other, _)| role.gates_all_members() && *other != name)
                .filter_map(|(other, work)| Some(((*other).to_owned(), vec![work.gate.clone()?])))
                .collect();
            let turn = work.turn.as_ref().map(|(_, turn)| turn.clone());
            turns.push(Wave {
                gates,
                turn,
                put_back: put_back.into_iter().collect(),
                ..Wave::of(BTreeMap::from([((*name).to_owned(), steps)]))
            });
        }
    }
    let mut waves = Vec::new();
    if !together.steps.is_empty() {
        waves.push(together);
    }
    waves.append(&mut turns);
    waves
}
