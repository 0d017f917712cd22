//! Plans of a person's wish and not of the inventory's: start, stop, restart. They go through the same order, the same
//! gates and the same executor as an apply.

use super::away::name_unavailable;
use super::order::{Work, stages, turn};
use super::step::{Action, Step};
use super::{HostFacts, Observation, Observed, Plan, Stage, Wave};
use crate::service::{HostState, Part, Role};
use std::collections::{BTreeMap, BTreeSet};

/// What is wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Start what is stopped.
    Start,
    /// Stop what runs, members of a quorum one after the other.
    Stop,
    /// Stop and start, members of a service one after the other.
    Restart,
}

/// Which services where: hosts by name; no service means all.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Hosts.
    pub hosts: BTreeSet<String>,
    /// `kafka`, `consumer/kafka-json`, or a role's word.
    pub services: Vec<String>,
}

impl Scope {
    fn has(&self, host: &str, part: &Part) -> bool {
        let named = |service: &String| *service == part.service || service == part.role.word();
        self.hosts.contains(host) && (self.services.is_empty() || self.services.iter().any(named))
    }
}

impl Scope {
    /// Every member of the service is meant.
    fn is_whole(&self, desired: &BTreeMap<String, HostState>, part: &Part) -> bool {
        let has = |state: &HostState| state.parts.iter().any(|other| other.service == part.service);
        desired.iter().filter(|(_, state)| has(state)).all(|(host, _)| self.has(host, part))
    }
}

/// Plans it. Parts outside the scope take part in gates only.
pub fn operate(
    cluster: &str,
    desired: &BTreeMap<String, HostState>,
    observed: &Observed,
    scope: &Scope,
    operation: Operation,
) -> Plan {
    let (mut plan, answers) = begun(cluster, desired, observed);
    let mut works: BTreeMap<&str, Vec<Work>> = BTreeMap::new();
    for (name, facts) in answers {
        let parts = desired.get(name).into_iter().flat_map(|state| &state.parts);
        let host = parts.filter(|part| part.role != Role::Base).map(|part| {
            let whole = operation == Operation::Stop && scope.is_whole(desired, part);
            work(part, facts, operation, scope.has(name, part), whole)
        });
        works.insert(name, host.collect());
    }
    let works: BTreeMap<&str, &[Work]> = works.iter().map(|(name, host)| (*name, host.as_slice())).collect();
    plan.stages = stages(&works);
    name_unavailable(&mut plan.stages, desired, observed.kafka.as_deref());
    if operation == Operation::Stop {
        // Those that need others go first; brokers need their controllers to stop in good order.
        plan.stages.reverse();
        let parts = |host: &String| desired.get(host).map(|state| state.parts.as_slice()).unwrap_or_default();
        let apart = |wave: &Wave| {
            let mut members = wave.steps.keys().flat_map(parts).filter_map(|part| part.broker.as_ref());
            members.any(|member| member.address.is_none())
        };
        for stage in plan.stages.iter_mut().filter(|stage| stage.role == Role::Kafka) {
            stage.waves.sort_by_key(apart);
        }
        let refused: Vec<String> =
            plan.stages.iter().filter_map(|stage| quorum(stage, observed, desired)).collect();
        plan.refused.extend(refused);
    }
    plan
}

/// A plan without stages, that makes no generation, and what the hosts that answered say.
pub(super) fn begun<'a>(
    cluster: &str,
    desired: &'a BTreeMap<String, HostState>,
    observed: &'a Observed,
) -> (Plan, BTreeMap<&'a str, &'a HostFacts>) {
    let mut plan = Plan { cluster: cluster.to_owned(), ..Plan::default() };
    let mut answers = BTreeMap::new();
    for name in desired.keys() {
        match observed.hosts.get(name) {
            Some(Observation::Facts(facts)) => {
                plan.rests_on = plan.rests_on.max(facts.generation);
                plan.refused.extend(facts.newer_aesop().map(|why| format!("{name}: {why}")));
                answers.insert(name.as_str(), facts.as_ref());
            }
            Some(Observation::Failed(why)) => drop(plan.unreachable.insert(name.clone(), why.clone())),
            None => {}
        }
    }
    plan.generation = plan.rests_on;
    (plan, answers)
}

/// A quorum is stopped as a whole, or keeps its majority.
fn quorum(stage: &Stage, observed: &Observed, desired: &BTreeMap<String, HostState>) -> Option<String> {
    let stopped = stage.waves.iter().map(|wave| wave.steps.len()).sum::<usize>();
    let runs = |host: &&String| {
        let Some(Observation::Facts(facts)) = observed.hosts.get(*host) else { return false };
        let parts = desired.get(*host).into_iter().flat_map(|state| &state.parts);
        let unit = parts.filter(|part| part.service == stage.service).find_map(|part| part.units.first());
        unit.and_then(|unit| facts.units.get(&unit.name)).is_some_and(|fact| fact.active == "active")
    };
    let running = stage.members.iter().filter(runs).count();
    let (members, left) = (stage.members.len(), running.saturating_sub(stopped));
    (stage.role.gates_all_members() && left > 0 && left * 2 <= members).then(|| {
        format!(
            "stopping this would leave {left} of {members} members of {} running, which is no majority; stop fewer, or all of them",
            stage.service
        )
    })
}

fn work(part: &Part, facts: &HostFacts, operation: Operation, in_scope: bool, whole: bool) -> Work {
    let gate = part.gate.as_ref().map(|gate| Step::plain(Action::AwaitReady(gate.clone())));
    let mut work = Work {
        role: part.role,
        service: part.service.clone(),
        prepare: Vec::new(),
        start: Vec::new(),
        restart: Vec::new(),
        confirm: Vec::new(),
        // Who stays behind is not as ready as before, and need not be.
        gate: gate.clone().filter(|_| operation != Operation::Stop),
        put_back: Vec::new(),
        // Where all of them stop, nobody is left to wait for.
        turn: part.turn.as_ref().filter(|_| !whole).map(turn),
    };
    if !in_scope {
        return work;
    }
    for unit in &part.units {
        let active = facts
            .units
            .get(&unit.name)
            .is_some_and(|fact| fact.active != "inactive" && fact.active != "failed");
        // It starts with what is on the host, which may be older than the inventory: what is on record stays there,
        // so that the next apply sees the difference.
        let start = facts.as_recorded(&unit.name);
        match (operation, active) {
            (Operation::Start | Operation::Restart, false) => {
                work.start.push(Step::plain(Action::StartUnit(start.clone())));
            }
            (Operation::Restart, true) => work.restart.push(Step::plain(Action::RestartUnit(start.clone()))),
            (Operation::Stop, true) => {
                work.restart.push(Step::plain(Action::HaltUnit(unit.name.clone())));
                continue;
            }
            (Operation::Start, true) | (Operation::Stop, false) => continue,
        }
        work.confirm.push(Step::plain(Action::RecordReady(start)));
    }
    if !work.confirm.is_empty() {
        work.confirm.splice(0..0, gate);
    }
    work
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Record, UnitFact};
    use crate::service::{Gate, Unit};
    use std::fmt::Write as _;

    fn cluster() -> (BTreeMap<String, HostState>, Observed) {
        let mut desired = BTreeMap::new();
        let mut observed = Observed::default();
        for host in ["a", "b", "c"] {
            let mut facts = HostFacts { generation: 7, ..HostFacts::default() };
            let mut state = HostState::default();
            for (role, word) in [(Role::ZooKeeper, "zookeeper"), (Role::Agent, "agent")] {
                let unit = format!("aesop-{word}.service");
                let mut part = Part::new(role, word);
                part.units.push(Unit {
                    name: unit.clone(),
                    restart_on: Vec::new(),
                    reload_on: Vec::new(),
                    adopt: None,
                });
                let words = "it is up".to_owned();
                part.gate = Some(Gate {
                    unit: unit.clone(),
                    test: Vec::new(),
                    words,
                    timeout_secs: 1,
                    ..Gate::default()
                });
                state.parts.push(part);
                facts
                    .units
                    .insert(unit.clone(), UnitFact { active: "active".to_owned(), ..UnitFact::default() });
                let record = Record { restart: "on-record".to_owned(), reload: String::new(), ready: true };
                facts.records.insert(unit, record);
            }
            desired.insert(host.to_owned(), state);
            observed.hosts.insert(host.to_owned(), Observation::Facts(Box::new(facts)));
        }
        (desired, observed)
    }

    fn told(hosts: &[&str], services: &[&str], operation: Operation) -> String {
        let (desired, observed) = cluster();
        let scope = Scope {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            services: services.iter().map(|service| (*service).to_owned()).collect(),
        };
        let plan = operate("shop", &desired, &observed, &scope, operation);
        assert_eq!((plan.generation, plan.rests_on), (7, 7), "no configuration changes");
        let mut text = plan.refused.concat();
        for stage in &plan.stages {
            for wave in &stage.waves {
                for (host, steps) in &wave.steps {
                    let steps: Vec<String> = steps.iter().map(|step| step.action().to_string()).collect();
                    writeln!(text, "{host}: {}; gates: {}", steps.join(", "), wave.gates.len()).unwrap();
                }
            }
        }
        text
    }

    #[test]
    fn members_of_a_quorum_restart_in_turns_with_the_others_tested() {
        let text = told(&["a", "b"], &["zookeeper"], Operation::Restart);
        expect_test::expect![[r#"
            a: restart aesop-zookeeper.service, wait until aesop-zookeeper.service is ready: it is up, note that aesop-zookeeper.service is ready; gates: 2
            b: restart aesop-zookeeper.service, wait until aesop-zookeeper.service is ready: it is up, note that aesop-zookeeper.service is ready; gates: 2
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn what_is_stopped_keeps_a_majority_or_is_the_whole() {
        let one = told(&["a"], &["zookeeper"], Operation::Stop);
        assert_eq!(one, "a: stop aesop-zookeeper.service; gates: 0\n");
        assert!(
            told(&["a", "b"], &["zookeeper"], Operation::Stop)
                .starts_with("stopping this would leave 1 of 3")
        );
        let all = told(&["a", "b", "c"], &[], Operation::Stop);
        assert!(all.starts_with("a: stop aesop-agent.service"), "who needs others goes first: {all}");
        assert_eq!(all.lines().count(), 6);
        assert_eq!(told(&["a"], &[], Operation::Start), "", "everything runs");
    }
}
