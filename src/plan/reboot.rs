//! Plans that reboot hosts, one after the other: before the first and after each all members of their services are
//! ready, and a member of a quorum goes down only where the others carry on without it.

use super::away::Away;
use super::brokers::nodes;
use super::operate::begun;
use super::order::turn;
use super::step::{Action, Reboot, Step, UnitStart};
use super::{HostFacts, Observation, Observed, Plan, Stage, TurnOf, UnitFact, Wave};
use crate::kafka::gate::unavailable_without;
use crate::service::{HostState, Part, Role};
use std::collections::{BTreeMap, BTreeSet};

type Hosts = BTreeMap<String, HostState>;

/// Plans it for these hosts.
pub fn reboot(cluster: &str, desired: &Hosts, observed: &Observed, hosts: &BTreeSet<String>) -> Plan {
    rolling(cluster, desired, observed, hosts, &BTreeSet::new())
}

/// Plans the rest of one that was broken off, for hosts by the boot that each was in when it began. Who is in another one
/// by now is not rebooted again: what should run there is proven, then it goes on with the others.
pub fn reboot_rest(
    cluster: &str,
    desired: &Hosts,
    observed: &Observed,
    boots: &BTreeMap<String, String>,
) -> Plan {
    let boot = |host: &String| match observed.hosts.get(host) {
        Some(Observation::Facts(facts)) => Some(&facts.boot),
        Some(Observation::Failed(_)) | None => None,
    };
    let unknown =
        |(host, before): &(&String, &String)| before.is_empty() || boot(host).is_some_and(String::is_empty);
    let back = |(host, before): &(&String, &String)| boot(host).is_some_and(|boot| boot != *before);
    let (unknown, known): (Vec<_>, Vec<_>) = boots.iter().partition(unknown);
    let (back, left): (Vec<_>, Vec<_>) = known.into_iter().partition(back);
    let names = |hosts: Vec<(&String, &String)>| hosts.into_iter().map(|(host, _)| host.clone()).collect();
    let mut plan = rolling(cluster, desired, observed, &names(left), &names(back));
    plan.refused.extend(unknown.into_iter().map(|(host, _)| {
        format!(
            "{host} does not say whether it has booted since; look there, then reboot yourself what is left"
        )
    }));
    plan
}

/// Reboots `hosts`, after those that are `back` from their own reboot are proven.
fn rolling(
    cluster: &str,
    desired: &Hosts,
    observed: &Observed,
    hosts: &BTreeSet<String>,
    back: &BTreeSet<String>,
) -> Plan {
    let (mut plan, answers) = begun(cluster, desired, observed);
    let with_services = |host: &&String| desired.get(*host).is_some_and(|state| services(state).count() > 0);
    plan.refused.extend(
        hosts
            .iter()
            .filter(|host| !with_services(host))
            .map(|host| format!("{host} carries nothing of aesop's; reboot it yourself")),
    );
    let members = hosts | back;
    let all = shared(members.iter().filter_map(|host| desired.get(host)).flat_map(services));
    let proofs = proofs(desired, &all, "");
    plan.unreachable.retain(|host, _| members.contains(host) || proofs.contains_key(host));
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
    waves.splice(0..0, (!waves.is_empty() && !proofs.is_empty()).then(|| Wave::of(proofs)));
    let returned = back.iter().filter_map(|host| {
        let ((host, state), facts) = (desired.get_key_value(host)?, answers.get(host.as_str())?);
        Some(returned(host, state, facts, desired))
    });
    waves.splice(0..0, returned.collect::<Vec<_>>());
    if !waves.is_empty() {
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
    let runs = by_hand(state, facts).filter(|(_, fact)| fact.active == "active");
    let starts: Vec<UnitStart> = runs.map(|(unit, _)| facts.as_recorded(unit)).collect();
    steps.extend(comes_up(state, starts.clone(), starts));
    Wave {
        gates: proofs(desired, &shared(services(state)), host),
        // Of two quorums the one that moves more is asked who goes first.
        turn: turns.into_iter().next_back().map(|(_, turn)| turn),
        unavailable: partitions.map(|lost| (host.to_owned(), lost)).into_iter().collect(),
        ..Wave::of(BTreeMap::from([(host.to_owned(), steps)]))
    }
}

/// A host that has had its turn, and of which nobody saw that it came up well.
fn returned(host: &str, state: &HostState, facts: &HostFacts, desired: &Hosts) -> Wave {
    // What nobody has ever started did not run before.
    let (mut starts, mut seen) = (Vec::new(), Vec::new());
    for (unit, fact) in by_hand(state, facts) {
        let Some(record) = facts.records.get(unit) else { continue };
        let start = facts.as_recorded(unit);
        if fact.active == "inactive" {
            starts.push(start.clone());
        } else if record.ready {
            continue;
        }
        seen.push(start);
    }
    Wave {
        gates: proofs(desired, &shared(services(state)), host),
        returned: true,
        ..Wave::of(BTreeMap::from([(host.to_owned(), comes_up(state, starts, seen))]))
    }
}

/// What a host that has booted is left with: all that ran before, ready, and `seen` so for the first time.
fn comes_up(state: &HostState, starts: Vec<UnitStart>, seen: Vec<UnitStart>) -> Vec<Step> {
    let mut steps: Vec<Step> =
        starts.into_iter().map(|start| Step::plain(Action::StartUnit(start))).collect();
    steps.extend(services(state).filter_map(proof));
    steps.extend(seen.into_iter().map(|start| Step::plain(Action::RecordReady(start))));
    steps
}

/// Units that do not start with their host, because somebody has disabled them.
fn by_hand<'a>(
    state: &'a HostState,
    facts: &'a HostFacts,
) -> impl Iterator<Item = (&'a String, &'a UnitFact)> {
    let units = services(state).flat_map(|part| &part.units);
    let facts = units.filter_map(|unit| Some((&unit.name, facts.units.get(&unit.name)?)));
    facts.filter(|(_, fact)| fact.file != "enabled")
}

/// Partitions that nobody can write to while a host is down; none: Kafka did not say, or has no broker there.
fn partitions(host: &str, desired: &Hosts, observed: &Observed) -> Option<Vec<String>> {
    let view = observed.kafka.as_deref()?;
    let members = nodes(desired);
    let member = members.get(host).filter(|member| member.address.is_some())?;
    Some(unavailable_without(view, member.id))
}
