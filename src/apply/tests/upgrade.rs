//! aesop's own versions: programs that are replaced, and what other versions have left on hosts.

use super::*;
use crate::plan::{Action, Operation, Scope, operate, parse};
use crate::service::{HostState, Role};
use std::collections::BTreeSet;

/// Other programs of the same names, as the next build brings them.
fn rebuild(lab: &Lab) {
    for name in ["aesop", "aesop-relay", "aesop-consumer"] {
        std::fs::write(lab.folder.path().join("bin").join(name), format!("another {name}")).unwrap();
    }
}

#[test]
fn new_programs_come_to_relays_before_consumers_one_after_the_other() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 2, 2, false);
        let first = lab.prepare(&inventory);
        lab.apply_prepared(&inventory, &first).await;
        rebuild(&lab);
        let store = |names: &[crate::service::WantedArtifact]| {
            let folder = lab.folder.path();
            Store::open_in(folder.join("cache"), folder.join("bin"), names)
        };
        let next = Prepared::with_store(&inventory, store).unwrap();
        let plan = lab.plan_prepared(&inventory, &next).await;
        assert!(plan.refused.is_empty(), "{:?}", plan.refused);
        let mut restarts: Vec<(Role, Vec<&str>)> = Vec::new();
        for stage in &plan.stages {
            for wave in &stage.waves {
                let hosts = wave.steps.iter().filter(|(_, steps)| {
                    steps.iter().any(|step| matches!(step.action(), Action::RestartUnit(_)))
                });
                let hosts: Vec<&str> = hosts.map(|(host, _)| host.as_str()).collect();
                restarts.extend((!hosts.is_empty()).then_some((stage.role, hosts)));
            }
        }
        let alone: Vec<(Role, Vec<&str>)> =
            [(Role::Relay, "r1"), (Role::Relay, "r2"), (Role::Consumer, "c1"), (Role::Consumer, "c2")]
                .map(|(role, host)| (role, vec![host]))
                .to_vec();
        let roles = [Role::Relay, Role::Consumer];
        assert_eq!(
            restarts.iter().filter(|(role, _)| roles.contains(role)).cloned().collect::<Vec<_>>(),
            alone
        );
        assert!(!restarts.iter().any(|(role, _)| [Role::Kafka, Role::ZooKeeper].contains(role)));
        lab.apply_prepared(&inventory, &next).await;
        assert!(lab.plan_prepared(&inventory, &next).await.is_empty());
    });
}

#[test]
fn a_host_of_a_newer_aesop_is_left_alone() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 1, 1, 1, false);
        lab.apply(&inventory).await;
        assert!(lab.plan(&inventory).await.refused.is_empty());
        lab.connect.host("r1").with(|state| {
            let text = state.lock_file.take().unwrap();
            assert!(text.contains(&format!("\naesop: {}\n", crate::lock::VERSION)), "{text}");
            state.lock_file = Some(text.replace(crate::lock::VERSION, "99.0.0"));
        });
        let expected = format!(
            "r1: it was deployed by aesop 99.0.0 and this is aesop {}; use 99.0.0 or newer",
            crate::lock::VERSION
        );
        assert_eq!(lab.plan(&inventory).await.refused, [expected.as_str()]);
        let prepared = lab.prepare(&inventory);
        let (_, observed) = observe(&lab.connect, &prepared.hosts, &prepared.desired, 4).await;
        let scope = Scope { hosts: BTreeSet::from(["r1".to_owned()]), services: Vec::new() };
        let plan = operate("shop", &prepared.desired, &observed, &scope, Operation::Stop);
        assert_eq!(plan.refused, [expected]);
    });
}

/// A newer aesop may say and keep what this one has no word for: its version is the reason that is told.
#[test]
fn what_a_newer_aesop_says_is_refused_by_its_version() {
    let refused = parse("aesop|1\ndeployed|99.0.0\nmanifest|new-role|x|unit|u|-\nend\n").unwrap_err();
    assert!(refused.starts_with("it was deployed by aesop 99.0.0"), "{refused}");
    let unknown = parse("aesop|1\ndeployed|0.0.1\nmanifest|new-role|x|unit|u|-\nend\n").unwrap_err();
    assert!(unknown.starts_with("unexpected line"), "{unknown}");
}

/// What hosts of the first version keep: manifest, generations, records, ids.
#[test]
fn a_host_of_version_1_is_understood() {
    let facts = parse(include_str!("../../../tests/fixtures/v1/observe.txt")).unwrap();
    assert_eq!((facts.deployed.as_str(), facts.generation), ("0.1.0", 12));
    assert_eq!(facts.generations.get(&12).map(Vec::len), Some(3));
    let record = facts.records.get("aesop-kafka.service").unwrap();
    assert!(record.ready && record.restart.len() == 64, "{record:?}");
    assert_eq!(facts.manifest.quorums(), BTreeSet::from(["kafka".to_owned(), "zookeeper".to_owned()]));
    assert_eq!(facts.ensemble.unwrap().version, 0x1_0000_0000);
    assert_eq!(facts.lock.unwrap().operator, "anna@laptop");
    assert_eq!(facts.ids.len(), 2);
}

/// A snapshot that cannot be read is a generation that cannot be gone back to.
#[test]
fn a_generation_of_version_1_is_understood() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/v1/generation.json");
    let stored: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let state: HostState = serde_json::from_value(stored.clone()).unwrap();
    let roles: Vec<Role> = state.parts.iter().map(|part| part.role).collect();
    assert_eq!(roles, [Role::Base, Role::ZooKeeper, Role::Kafka, Role::Agent]);
    assert!(within(&stored, &serde_json::to_value(&state).unwrap()), "a field was lost on the way");
}

/// Everything of `old` is in `new`, under the same names.
fn within(old: &serde_json::Value, new: &serde_json::Value) -> bool {
    match (old, new) {
        (serde_json::Value::Object(old), serde_json::Value::Object(new)) => {
            old.iter().all(|(key, value)| new.get(key).is_some_and(|other| within(value, other)))
        }
        (serde_json::Value::Array(old), serde_json::Value::Array(new)) => {
            old.len() == new.len() && old.iter().zip(new).all(|(old, new)| within(old, new))
        }
        _ => old == new,
    }
}
