//! Plans that reboot hosts, one after the other: before the first and after each all members of their services are
//! ready, and a member of a quorum goes down only where the others carry on without it.

use super::away::Away;
use super::brokers::nodes;
use super::operate::begun;
use super::order::turn;
use super::step::{Action, Reboot, Step, UnitStart};
use super::{HostFacts, Observed, Plan, Stage, TurnOf, Wave};
use crate::kafka::gate::unavailable_without;
use crate::service::{HostState, Part, Role};
use std::collections::{BTreeMap, BTreeSet};

type Hosts = BTreeMap<String, HostState>;

/// Plans it for these hosts.
pub fn reboot(cluster: &str, desired: &Hosts, observed: &Observed, hosts: &BTreeSet<String>) -> Plan {
    let (mut plan, answers) = begun(cluster, desired, observed);
    let with_services = |host: &&String| desired.get(*host).is_some_and(|state| services(state).count() > 0);
    plan.refused.extend(
        hosts
            .iter()
            .filter(|host| !with_services(host))
            .map(|host| format!("{host} carries nothing of aesop's; reboot it yourself")),
    );
    let parts = hosts.iter().filter_map(|host| desired.get(host)).flat_map(services);
    let all = shared(parts);
    let proofs = proofs(desired, &all, "");
    plan.unreachable.retain(|host, _| hosts.contains(host) || proofs.contains_key(host));
    plan.refused.extend(plan.unreachable.keys().map(|host| {
        format!("{host} does not answer; nothing is rebooted while a member of its services may be down")
    }));
    let mut waves = Vec::new();
    for host in hosts {
        if let (Some((host, state)), Some(facts)) = (desired.get_key_value(host), answers.get(host.as_str()))
        {
            waves.push(wave(host, state, facts, desired, observed));
        }
    }
    // Members of quorums last, behind one another: who goes next is asked before each.
    waves.sort_by_key(|wave| wave.turn.is_some());
    if !waves.is_empty() {
        waves.splice(0..0, (!proofs.is_empty()).then(|| Wave::of(proofs)));
        let members = hosts.clone();
        let service = Stage::REBOOT.to_owned();
        plan.stages = vec![Stage { role: Role::Base, service, removes: false, members, waves }];
    }
    plan
}

/// What restarts with a host.
fn services(state: &HostState) -> impl Iterator<Item = &Part> {
    state.parts.iter().filter(|part| part.role != Role::Base)
}

/// Services whose members elsewhere have to do with one another.
fn shared<'a>(parts: impl Iterator<Item = &'a Part>) -> BTreeSet<&'a str> {
    let shared = parts.filter(|part| !matches!(part.role, Role::Agent | Role::Extra));
    shared.map(|part| part.service.as_str()).collect()
}

/// The ready tests of all members of some services but those on one host.
fn proofs(desired: &Hosts, of: &BTreeSet<&str>, but: &str) -> BTreeMap<String, Vec<Step>> {
    let tests = desired.iter().filter(|(host, _)| *host != but).map(|(host, state)| {
        let parts = services(state).filter(|part| of.contains(part.service.as_str()));
        (host.clone(), parts.filter_map(proof).collect())
    });
    tests.filter(|(_, steps): &(String, Vec<Step>)| !steps.is_empty()).collect()
}

fn proof(part: &Part) -> Option<Step> {
    part.gate.as_ref().map(|gate| Step::plain(Action::AwaitReady(gate.clone())))
}

/// One host's turn.
fn wave(host: &str, state: &HostState, facts: &HostFacts, desired: &Hosts, observed: &Observed) -> Wave {
    let turns: Vec<(Step, TurnOf)> =
        services(state).filter_map(|part| part.turn.as_ref()).map(turn).collect();
    let partitions = partitions(host, desired, observed);
    let missed = services(state).filter_map(|part| {
        let has = |state: &&HostState| services(state).any(|other| other.service == part.service);
        let members = desired.values().filter(has).count();
        let partitions = partitions.as_deref().filter(|_| part.role == Role::Kafka);
        Away { role: part.role, members, down: 1, partitions }.words()
    });
    let missed: Vec<String> = missed.collect();
    let reboot = Reboot {
        services: services(state).map(|part| part.service.clone()).collect(),
        unavailable: (!missed.is_empty()).then(|| missed.join("; ")),
    };
    let mut steps: Vec<Step> = turns.iter().map(|(stop, _)| stop.clone()).collect();
    steps.push(Step::plain(Action::RebootHost(reboot)));
    let starts = starts(state, facts);
    steps.extend(starts.iter().cloned().map(|start| Step::plain(Action::StartUnit(start))));
    steps.extend(services(state).filter_map(proof));
    steps.extend(starts.into_iter().map(|start| Step::plain(Action::RecordReady(start))));
    Wave {
        gates: proofs(desired, &shared(services(state)), host),
        // Of two quorums the one that moves more is asked who goes first.
        turn: turns.into_iter().next_back().map(|(_, turn)| turn),
        unavailable: partitions.map(|lost| (host.to_owned(), lost)).into_iter().collect(),
        ..Wave::of(BTreeMap::from([(host.to_owned(), steps)]))
    }
}

/// Units that run and do not start with their host, because somebody has disabled them.
fn starts(state: &HostState, facts: &HostFacts) -> Vec<UnitStart> {
    let units = services(state).flat_map(|part| &part.units);
    let started = units.filter(|unit| {
        let fact = facts.units.get(&unit.name);
        fact.is_some_and(|fact| fact.active == "active" && fact.file != "enabled")
    });
    started.map(|unit| facts.as_recorded(&unit.name)).collect()
}

/// Partitions that nobody can write to while a host is down; none: Kafka did not say, or has no broker there.
fn partitions(host: &str, desired: &Hosts, observed: &Observed) -> Option<Vec<String>> {
    let view = observed.kafka.as_deref()?;
    let members = nodes(desired);
    let member = members.get(host).filter(|member| member.address.is_some())?;
    Some(unavailable_without(view, member.id))
}
