//! Makes the plan.

mod base;
mod storage;
mod units;

use super::away::name_unavailable;
use super::brokers::{self, Membership, membership};
use super::diff;
use super::ensemble::Ensemble;
use super::finish::{Manifests, finish};
use super::manifest::{Manifest, directory_value, file_value};
use super::order::{Work, apart, before_restarts, borrowed, insert_before_turns, stages, turn};
use super::step::{Action, Hash, Step, UnitStart};
use super::{Drift, FileDiff, HostFacts, Observation, Observed, Plan, Stage, put_back, refuse, remove};
use crate::kafka::view::View;
use crate::service::{File, HostState, Part, Role, paths};
use std::collections::{BTreeMap, BTreeSet};

/// Compares what should be with what is.
pub fn plan(cluster: &str, desired: &BTreeMap<String, HostState>, observed: &Observed) -> Plan {
    let mut hosts = BTreeMap::new();
    let mut plan = Plan { cluster: cluster.to_owned(), ..Plan::default() };
    let lives = brokers::lives(desired, observed);
    for (name, state) in desired {
        match observed.hosts.get(name) {
            Some(Observation::Facts(facts)) => {
                plan.rests_on = plan.rests_on.max(facts.generation);
                plan.refused.extend(facts.newer_aesop().map(|why| format!("{name}: {why}")));
                let host = HostPlan::new(name, state, facts, observed.kafka.as_deref(), lives);
                hosts.insert(name.as_str(), host);
            }
            Some(Observation::Failed(why)) => drop(plan.unreachable.insert(name.clone(), why.clone())),
            None => drop(plan.unreachable.insert(name.clone(), "was not observed".to_owned())),
        }
    }
    plan.generation = plan.rests_on + 1;
    let ensemble = Ensemble::new(desired, observed);
    for host in hosts.values_mut() {
        host.base();
        host.roles(ensemble.as_ref());
    }
    let mut diffs = Vec::new();
    for (name, host) in &mut hosts {
        diffs.append(&mut host.diffs);
        diffs.extend(diff::removals(name, host.facts, &host.wanted));
        plan.refused.append(&mut host.refused);
        plan.drift.append(&mut host.drift);
        plan.notes.append(&mut host.notes);
    }
    plan.diffs = diff::group(diffs);
    plan.notes.sort();
    plan.notes.dedup();
    let view = observed.kafka.as_deref();
    let facts = hosts.iter().map(|(name, host)| (*name, host.broker())).collect();
    let membership = if hosts.values().any(HostPlan::moves_metadata) {
        // It is refused, and nothing else counts.
        Membership::default()
    } else {
        membership(desired, &facts, view)
    };
    plan.refused.extend(membership.refused);
    plan.notes.extend(membership.notes);
    // Before works are taken out: who has work keeps its artifacts tidy.
    let mut leaving: BTreeMap<&str, remove::Leaving> =
        hosts.iter().map(|(name, host)| (*name, host.leaving())).collect();
    let returning = returning(&mut hosts, ensemble.as_ref());
    let works: BTreeMap<&str, &[Work]> =
        hosts.iter().map(|(name, host)| (*name, host.works.as_slice())).collect();
    let parting: BTreeSet<String> = membership.parting.keys().cloned().collect();
    let (first, later) = apart(&works, Role::Kafka, &(&parting | &membership.demoted));
    let (parting, demoted) = apart(&borrowed(&later), Role::Kafka, &membership.demoted);
    plan.stages = stages(&borrowed(&first));
    let mut parting = stages(&borrowed(&parting));
    let mut demoted = stages(&borrowed(&demoted));
    let servers = works
        .iter()
        .filter_map(|(host, works)| Some((*host, works.iter().find(|work| work.role == Role::ZooKeeper)?)));
    let servers: BTreeMap<&str, &Work> =
        servers.chain(returning.iter().map(|(host, work)| (*host, work))).collect();
    if let Some(ensemble) = &ensemble {
        ensemble.judge(&mut plan.refused, &mut plan.notes);
        ensemble.arrange(&mut plan.stages, &servers, &returning);
    }
    if let Some(votes) = membership.before {
        insert_before_turns(&mut plan.stages, votes);
    }
    if let Some(copies) = membership.copies {
        insert_before_turns(&mut plan.stages, copies);
    }
    let then = membership.copied.as_ref().or(view);
    before_restarts(&mut parting, &membership.parting);
    for stages in [&mut plan.stages, &mut parting, &mut demoted] {
        name_unavailable(stages, desired, then);
    }
    let mut after = membership.after;
    // Behind the votes, before the feature level.
    let at = after.len().min(1);
    after.splice(at..at, demoted);
    after.splice(0..0, membership.emptied.into_iter().chain(parting));
    insert_after(&mut plan.stages, Role::Kafka, after);
    plan.stages.extend(membership.moves);
    for (host, stop) in membership.stop {
        let steps = leaving.get_mut(host.as_str()).into_iter().flatten();
        let kafka = steps.filter(|((role, _), _)| *role == Role::Kafka);
        kafka.for_each(|(_, steps)| steps.insert(0, stop.clone()));
    }
    let mut removals = remove::stages(&leaving, desired);
    insert_after(&mut removals, Role::Kafka, membership.forget);
    plan.stages.extend(removals);
    if let Some(ensemble) = &ensemble {
        ensemble.arrange_leaving(&mut plan.stages, &servers);
    }
    let manifests = hosts
        .iter()
        .map(|(name, host)| (*name, Manifests::new(&host.facts.manifest, host.after())))
        .collect();
    finish(&mut plan, &manifests, desired);
    plan
}

/// Takes out what waits until ZooKeeper counts on a member no more.
fn returning<'a>(
    hosts: &mut BTreeMap<&'a str, HostPlan<'_>>,
    ensemble: Option<&Ensemble<'_>>,
) -> BTreeMap<&'a str, Work> {
    let mut returning = BTreeMap::new();
    for (name, host) in hosts.iter_mut().filter(|(name, _)| ensemble.is_some_and(|all| all.returns(name))) {
        let at = host.works.iter().position(|work| work.role == Role::ZooKeeper);
        returning.extend(at.map(|at| (*name, host.works.remove(at))));
    }
    returning
}

/// Everything goes: what [`plan`] makes of hosts that should have nothing; with `data`, their data too.
pub fn destroy(cluster: &str, hosts: &BTreeMap<String, HostState>, observed: &Observed, data: bool) -> Plan {
    let mut plan = plan(cluster, hosts, observed);
    // All of it goes: nobody needs to read what.
    plan.diffs.clear();
    let facts = observed.hosts.iter().filter_map(|(name, observation)| {
        let Observation::Facts(facts) = observation else { return None };
        (data && hosts.contains_key(name)).then_some((name.as_str(), &facts.manifest))
    });
    plan.stages.extend(remove::data(facts));
    plan
}

/// Puts stages behind that of a role, or where it would stand.
fn insert_after(stages: &mut Vec<Stage>, role: Role, new: Vec<Stage>) {
    let removes = stages.iter().any(|stage| stage.removes);
    let at = stages.iter().position(|stage| if removes { stage.role < role } else { stage.role > role });
    let at = at.unwrap_or(stages.len());
    stages.splice(at..at, new);
}

struct HostPlan<'a> {
    name: &'a str,
    state: &'a HostState,
    facts: &'a HostFacts,
    view: Option<&'a View>,
    /// There may be a Kafka cluster that somebody has written to.
    kafka_lives: bool,
    works: Vec<Work>,
    diffs: Vec<FileDiff>,
    refused: Vec<String>,
    drift: Vec<Drift>,
    notes: Vec<String>,
    /// What will be there.
    wanted: Manifest,
    /// Paths that an earlier part has dealt with.
    seen: BTreeSet<&'a str>,
    /// Paths that this plan changes, for the reasons of restarts.
    changed: BTreeSet<String>,
}

impl<'a> HostPlan<'a> {
    fn new(
        name: &'a str,
        state: &'a HostState,
        facts: &'a HostFacts,
        view: Option<&'a View>,
        kafka_lives: bool,
    ) -> Self {
        Self {
            name,
            state,
            facts,
            view,
            kafka_lives,
            works: Vec::new(),
            diffs: Vec::new(),
            refused: Vec::new(),
            drift: Vec::new(),
            notes: Vec::new(),
            wanted: Manifest::of(state),
            seen: BTreeSet::new(),
            changed: BTreeSet::new(),
        }
    }

    fn roles(&mut self, ensemble: Option<&Ensemble<'_>>) {
        let state = self.state;
        for part in state.parts.iter().filter(|part| part.role != Role::Base) {
            refuse::immutable(self.name, part, self.facts, &mut self.refused, &mut self.notes);
            let mut work = self.part(part);
            if let (Role::ZooKeeper, Some(ensemble), Some(unit)) = (part.role, ensemble, part.units.first()) {
                let (restart, reload) = state.fingerprint(unit);
                let start = UnitStart { unit: unit.name.clone(), restart, reload };
                ensemble.prepare(self.name, part, start, self.is_active(&unit.name), &mut work);
            }
            // A part without work still takes part in the gates of its neighbours.
            if !work.is_idle() || work.gate.is_some() {
                self.works.push(work);
            }
        }
    }

    fn part(&mut self, part: &'a Part) -> Work {
        let mut prepare = self.links(part);
        prepare.extend(self.files(part));
        let units_changed = prepare.iter().any(
            |step| matches!(step.action(), Action::WriteFile { path, .. } if path.starts_with(paths::UNITS)),
        );
        if units_changed {
            prepare.push(Step::plain(Action::ReloadSystemd));
        } else {
            prepare.extend(self.stale(part));
        }
        self.storage(part, &mut prepare);
        let gate = part.gate.as_ref().map(|gate| Step::plain(Action::AwaitReady(gate.clone())));
        let mut work = Work {
            role: part.role,
            service: part.service.clone(),
            prepare,
            start: Vec::new(),
            restart: Vec::new(),
            confirm: Vec::new(),
            gate: gate.clone(),
            put_back: Vec::new(),
            turn: part.turn.as_ref().map(turn),
        };
        for unit in &part.units {
            self.unit(unit, &mut work);
        }
        if !work.confirm.is_empty() {
            work.confirm.splice(0..0, gate);
        }
        work.put_back = put_back::steps(part, self.facts, &work, &self.changed);
        work
    }

    fn drift(&mut self, name: &str, found: &'static str) {
        self.drift.push(Drift { host: self.name.to_owned(), name: name.to_owned(), found });
    }

    fn is_active(&self, unit: &str) -> bool {
        let fact = self.facts.units.get(unit);
        fact.is_some_and(|fact| fact.active != "inactive" && fact.active != "failed")
    }

    /// Notes what somebody else changed.
    fn drifted(&mut self, name: &str, found: &str, words: &'static str) -> bool {
        let drifted = self.facts.manifest.drifted(name, found);
        if drifted {
            self.drift(name, words);
        }
        drifted
    }

    /// What matters of it to the Kafka cluster.
    fn broker(&self) -> brokers::HostFacts {
        let part = self.state.parts.iter().find(|part| part.role == Role::Kafka);
        brokers::HostFacts {
            started: self.facts.records.contains_key(brokers::UNIT),
            active: self.facts.units.get(brokers::UNIT).is_some_and(|unit| unit.active == "active"),
            leaves: part.is_none() && self.leaving().keys().any(|(role, _)| *role == Role::Kafka),
            new_release: part.and_then(|part| refuse::new_release(part, self.facts)),
            roles: part.and_then(|part| {
                let mut texts = part.files.iter().filter_map(|file| self.facts.contents.get(&file.path));
                let roles = |text: &String| {
                    text.lines().find_map(|line| line.strip_prefix("process.roles=")).map(str::to_owned)
                };
                texts.find_map(roles)
            }),
        }
    }

    /// What is on the host and not wanted any more.
    fn leaving(&self) -> remove::Leaving {
        let mut leaving = remove::leaving(&self.facts.manifest, &self.wanted);
        // Their removal is no reason for an apply of its own: the next one takes them along.
        if !leaving.is_empty() || self.works.iter().any(|work| !work.is_idle()) {
            let base = leaving.entry((Role::Base, Role::Base.word().to_owned())).or_default();
            base.splice(0..0, remove::artifacts(self.state, self.facts));
        }
        leaving.retain(|_, steps| !steps.is_empty());
        leaving
    }

    /// The manifest at the end.
    fn after(&self) -> Manifest {
        self.facts.manifest.after(&self.wanted)
    }

    /// Which of the things that a unit rests on change.
    fn reason(&self, names: &[String]) -> String {
        let changed: Vec<&str> =
            names.iter().filter(|name| self.changed.contains(*name)).map(String::as_str).collect();
        if changed.is_empty() {
            "an earlier apply changed its files and ended before this step".to_owned()
        } else {
            format!("{} changed", changed.join(", "))
        }
    }

    fn links(&mut self, part: &'a Part) -> Vec<Step> {
        let mut steps = Vec::new();
        for link in &part.links {
            if !self.seen.insert(&link.path) || self.facts.links.get(&link.path) == Some(&link.target) {
                continue;
            }
            let found = self.facts.links.get(&link.path).map_or("", String::as_str);
            let words = if found.is_empty() { "removed" } else { "moved" };
            self.drifted(&link.path, found, words);
            self.changed.insert(link.path.clone());
            steps.push(Step::plain(Action::SetLink {
                path: link.path.clone(),
                target: link.target.clone(),
                exists: self.facts.stats.contains_key(&link.path),
            }));
        }
        steps
    }

    fn files(&mut self, part: &'a Part) -> Vec<Step> {
        let mut steps = Vec::new();
        for file in &part.files {
            if self.seen.insert(&file.path) {
                steps.extend(self.file(file));
            }
        }
        steps
    }

    fn file(&mut self, file: &File) -> Option<Step> {
        let sha256 = file.sha256();
        let mode = format!("{:o}", file.mode);
        let stat = self.facts.stats.get(&file.path);
        if let Some(id) = self.facts.ids.get(&file.path)
            && id.trim().as_bytes() != file.content.trim_ascii()
        {
            self.refused.push(format!(
                "{}: {} says {}, the lock file says {}; an id must never move. Bring the right lock file, or move the old data away",
                self.name,
                file.path,
                id.trim(),
                String::from_utf8_lossy(file.content.trim_ascii())
            ));
        }
        let same_content = self.facts.sha256.get(&file.path) == Some(&sha256);
        if file.once && stat.is_some() && (same_content || self.facts.ensemble.is_some()) {
            return None;
        }
        let same_stat = stat.is_some_and(|stat| {
            stat.kind.starts_with("regular")
                && stat.mode == mode
                && stat.owner == file.owner
                && stat.group == file.group
        });
        if same_content && same_stat {
            return None;
        }
        self.changed.insert(file.path.clone());
        let new = stat.is_none();
        let sum = self.facts.sha256.get(&file.path).map_or("", String::as_str);
        let found =
            stat.map_or_else(String::new, |stat| file_value(sum, &stat.mode, &stat.owner, &stat.group));
        let words = match (stat, same_content) {
            (None, _) => "removed",
            (Some(_), true) => "another mode or owner",
            (Some(_), false) => "edited",
        };
        let drift = !file.once && self.drifted(&file.path, &found, words);
        let reason = match (stat, same_content) {
            (Some(stat), true) => Some(format!("it is {} {}:{}", stat.mode, stat.owner, stat.group)),
            _ => drift.then(|| format!("{words} on the host")),
        };
        self.diffs.extend(diff::change(self.name, file, self.facts, same_content, drift));
        let action = Action::WriteFile {
            path: file.path.clone(),
            mode,
            owner: file.owner.clone(),
            group: file.group.clone(),
            sha256: Hash { hex: sha256, secret: file.secret },
            secret: file.secret,
            exists: !new,
        };
        Some(Step::because(action, reason))
    }
}
