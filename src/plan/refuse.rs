//! What a plan must not do: settings that cannot change on a living cluster, and selections that would leave it in two
//! halves.

use super::manifest::{Kind, file_value};
use super::step::{Action, Step};
use super::{HostFacts, Observation, Observed, Plan, Stage};
use crate::inventory::model::KafkaMode;
use crate::service::{HostState, Part, Role, paths, users_of};
use relay::config::ConsumerConfig;
use std::collections::{BTreeMap, BTreeSet};

/// What is wrong with a part on a host where it lives, and what a person should know.
pub(super) fn immutable(
    host: &str,
    part: &Part,
    facts: &HostFacts,
    refused: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    if part.units.iter().any(|unit| facts.records.contains_key(&unit.name)) {
        data(host, part, facts, refused);
        partitions(host, part, facts, refused, notes);
        if let Some(why) = moves_metadata(part, facts) {
            refused.push(format!("{host}: {why}"));
            return;
        }
        listeners(host, part, facts, refused);
        downgrade(host, part, facts, refused);
    }
}

/// Why a version cannot follow the one that is there: a cluster's metadata stays in ZooKeeper, or with controllers.
pub(super) fn moves_metadata(part: &Part, facts: &HostFacts) -> Option<String> {
    let wanted = part.broker.as_ref()?.mode;
    let mode = |text: &String| {
        let has = |name: &str| text.lines().any(|line| line.starts_with(name));
        match (has("process.roles="), has("zookeeper.connect=")) {
            (true, _) => Some(KafkaMode::Kraft),
            (false, true) => Some(KafkaMode::ZooKeeper),
            (false, false) => None,
        }
    };
    let runs = part.files.iter().filter_map(|file| facts.contents.get(&file.path)).find_map(mode)?;
    let (now, advice) = match (runs, wanted) {
        (KafkaMode::ZooKeeper, KafkaMode::Kraft) => (
            "Kafka keeps its metadata in ZooKeeper, and the version in the inventory has controllers of its own",
            "aesop does not carry them over. Put the version back; to leave 3.9, deploy a second cluster from an inventory of its own, let consumer groups write to it too (`sink.kafka.bootstrap`), and `aesop destroy` this one once its readers have moved",
        ),
        (KafkaMode::Kraft, KafkaMode::ZooKeeper) => (
            "Kafka has controllers of its own, and the version in the inventory keeps its metadata in ZooKeeper",
            "there is no way back. Put the version back",
        ),
        _ => return None,
    };
    Some(format!("{now}; {advice}"))
}

/// An older version may not read what a newer one has written. What runs is what its unit file names.
fn downgrade(host: &str, part: &Part, facts: &HostFacts, refused: &mut Vec<String>) {
    if !part.role.gates_all_members() {
        return;
    }
    if let (Some(runs), Some(wanted)) = releases(part, facts)
        && wanted < runs
    {
        refused.push(format!(
            "{host}: {} {} runs and the inventory says {}; an older version may not read what a newer one has written. Put the version back",
            part.service,
            dotted(&runs),
            dotted(&wanted)
        ));
    }
}

/// The release that a part will run instead of an older one.
pub(super) fn new_release(part: &Part, facts: &HostFacts) -> Option<String> {
    let (runs, wanted) = releases(part, facts);
    let (runs, wanted) = (runs?, wanted?);
    (runs < wanted).then(|| dotted(&wanted))
}

/// What runs, where that is not what is wanted, and what is wanted.
fn releases(part: &Part, facts: &HostFacts) -> (Option<Vec<u32>>, Option<Vec<u32>>) {
    let texts = part.files.iter().filter_map(|file| facts.contents.get(&file.path));
    let runs = texts.filter_map(|text| {
        let (_, after) = text.split_once(&format!("{}/{}-", paths::ARTIFACTS, part.service))?;
        release(after)
    });
    let wanted = part
        .artifacts
        .iter()
        .filter_map(|artifact| release(artifact.name.strip_prefix(&part.service)?.strip_prefix('-')?));
    (runs.max(), wanted.max())
}

fn dotted(release: &[u32]) -> String {
    release.iter().map(u32::to_string).collect::<Vec<_>>().join(".")
}

/// The numbers that a text begins with: `4.2.0-1f…` is 4, 2, 0.
fn release(text: &str) -> Option<Vec<u32>> {
    let numbers = text.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    numbers.split('.').map(|number| number.parse().ok()).collect()
}

/// Nodes of Kafka that speak another protocol, or show what the others do not trust yet, are strangers to those that
/// have not restarted.
fn listeners(host: &str, part: &Part, facts: &HostFacts, refused: &mut Vec<String>) {
    let runs =
        |unit: &crate::service::Unit| facts.units.get(&unit.name).is_some_and(|fact| fact.active == "active");
    if part.role != Role::Kafka || !part.units.iter().any(runs) {
        return;
    }
    let map = |text: &str| {
        text.lines().find_map(|line| line.strip_prefix("listener.security.protocol.map=")).map(str::to_owned)
    };
    for file in &part.files {
        let before = facts.contents.get(&file.path).and_then(|text| map(text));
        let after = map(&String::from_utf8_lossy(&file.content));
        if before.is_some() && before != after {
            refused.push(format!(
                "{host}: Kafka runs, and `kafka.tls` or `kafka.sasl` is another than it was started with; nodes that speak differently do not find each other. Stop all of it (`aesop stop kafka`), then apply: rows wait in the logs of the relays meanwhile"
            ));
        }
    }
    // What somebody edited is put back; what the inventory changes is the question.
    let differs = |path: &str| {
        let file = part.files.iter().find(|file| file.path == path);
        let found = facts.sha256.get(path).zip(facts.stats.get(path));
        file.zip(found).is_some_and(|(file, (sum, stat))| {
            let found = file_value(sum, &stat.mode, &stat.owner, &stat.group);
            *sum != file.sha256() && !facts.manifest.drifted(path, &found)
        })
    };
    if differs(paths::KAFKA_KEYS) && differs(paths::KAFKA_TRUSTED) {
        refused.push(format!(
            "{host}: Kafka runs, and both its certificate and the authorities it trusts change; nodes would not trust each other until the last has restarted. Change one after the other: first trust both authorities, then the certificates, then the new authority alone (docs/operations.md, \"Kafka's certificates\")"
        ));
    }
}

/// Data does not move because a path changes.
fn data(host: &str, part: &Part, facts: &HostFacts, refused: &mut Vec<String>) {
    let wanted: BTreeSet<&String> = part.directories.iter().map(|directory| &directory.path).collect();
    let lost = facts.manifest.of_service(&part.service, Kind::Data).filter(|path| !wanted.contains(path));
    refused.extend(lost.map(|path| {
        format!(
            "{host}: {path} holds data of {}, and the inventory no longer names it; data does not move by itself. Put the directory back into the inventory; to move it for good, stop the service, move the directory, then apply",
            part.service
        )
    }));
}

/// Keys are spread over partitions: another number of them is another place for each key.
fn partitions(
    host: &str,
    part: &Part,
    facts: &HostFacts,
    refused: &mut Vec<String>,
    notes: &mut Vec<String>,
) {
    if part.role != Role::Consumer {
        return;
    }
    for file in &part.files {
        let Some(before) = facts.contents.get(&file.path) else { continue };
        let parse = |text: &str| serde_yaml::from_str::<ConsumerConfig>(text).ok();
        let (Some(before), Some(after)) = (parse(before), parse(&String::from_utf8_lossy(&file.content)))
        else {
            continue;
        };
        if before.partitions != after.partitions {
            refused.push(format!(
                "{host}: {} runs with {} partitions and the inventory says {}; a group's number of partitions is fixed for its life. Put it back, or make a group of another name and start it where this one stands",
                part.service, before.partitions, after.partitions
            ));
        }
        let (then, now) = (before.sink.kafka.topic_partitions, after.sink.kafka.topic_partitions);
        if now < then {
            refused.push(format!(
                "{host}: {}: topics have {then} partitions and `topic_partitions` says {now}; Kafka cannot take partitions away. Put it back, or write to topics of another name",
                part.service
            ));
        } else if now > then {
            notes.push(format!(
                "{}: new topics get {now} partitions instead of {then}; topics that are there keep theirs. Where you raise those by hand, keys move to other partitions, and the order of a key's rows across that moment is lost",
                part.service
            ));
        }
    }
}

/// Members of ZooKeeper come and go with all who have to do with it: those who carry it out, and those who must know the
/// new ones before the old ones stop.
fn members(
    plan: &Plan,
    desired: &BTreeMap<String, HostState>,
    selected: &BTreeSet<String>,
) -> Option<String> {
    let changes = |step: &Step| matches!(step.action(), Action::ChangeMember(change) if change.membership);
    let zookeeper = plan.stages.iter().filter(|stage| stage.role == Role::ZooKeeper);
    let mut waves = zookeeper.flat_map(|stage| &stage.waves);
    if !waves.any(|wave| wave.steps.values().flatten().any(changes)) {
        return None;
    }
    let users = users_of(desired, Role::ZooKeeper);
    let uses = |stage: &&Stage| stage.role == Role::ZooKeeper || users.contains(&stage.role);
    let waves = plan.stages.iter().filter(uses).flat_map(|stage| &stage.waves);
    let hosts: BTreeSet<&String> = waves.flat_map(|wave| wave.steps.keys()).collect();
    let (chosen, left): (Vec<&String>, Vec<&String>) =
        hosts.into_iter().partition(|host| selected.contains(*host));
    let names = |hosts: Vec<&String>| hosts.into_iter().cloned().collect::<Vec<_>>().join(", ");
    (!chosen.is_empty() && !left.is_empty()).then(|| {
        format!(
            "--on would change members of ZooKeeper, or who knows them, on {} without {}; select them all, or leave out --on",
            names(chosen),
            names(left)
        )
    })
}

/// What applying to `selected` alone would leave inconsistent: a quorum that is half built, a service at two versions.
pub fn selection(
    plan: &Plan,
    desired: &BTreeMap<String, HostState>,
    observed: &Observed,
    selected: &BTreeSet<String>,
) -> Vec<String> {
    let mut refused: Vec<String> = members(plan, desired, selected).into_iter().collect();
    for stage in plan.stages.iter().filter(|stage| !stage.removes && stage.role.gates_all_members()) {
        let mut first = BTreeSet::new();
        let mut newer = BTreeSet::new();
        let mut touched = BTreeSet::new();
        for (host, steps) in stage.waves.iter().flat_map(|wave| &wave.steps) {
            let Some(Observation::Facts(facts)) = observed.hosts.get(host) else { continue };
            touched.insert(host.clone());
            let starts = steps.iter().filter_map(|step| {
                if let Action::StartUnit(start) = step.action() { Some(start) } else { None }
            });
            first.extend(
                starts
                    .into_iter()
                    .any(|start| !facts.records.contains_key(&start.unit))
                    .then(|| host.clone()),
            );
            let parts = desired.get(host).into_iter().flat_map(|state| &state.parts);
            let lacks = parts.filter(|part| part.role == stage.role).flat_map(|part| &part.artifacts);
            newer.extend(
                lacks
                    .into_iter()
                    .any(|artifact| !facts.artifacts.contains(&artifact.id))
                    .then(|| host.clone()),
            );
        }
        let split = |hosts: &BTreeSet<String>| {
            let (chosen, left): (Vec<_>, Vec<_>) =
                hosts.iter().cloned().partition(|host| selected.contains(host));
            (!chosen.is_empty() && !left.is_empty()).then(|| (chosen.join(", "), left.join(", ")))
        };
        // A member that joins is the business of those that are there; what they have to do must be chosen with it.
        let joining = first.iter().any(|host| selected.contains(host)).then(|| split(&touched)).flatten();
        if let Some((chosen, left)) = joining {
            refused.push(format!(
                "--on would start {} on {chosen} without {left}, which belongs to the same quorum and has changes of its own; select both",
                stage.service
            ));
        } else if let Some((chosen, left)) = split(&newer) {
            refused.push(format!(
                "--on would leave {} at two versions: the new one on {chosen}, the old one on {left}; select both",
                stage.service
            ));
        }
    }
    refused
}
