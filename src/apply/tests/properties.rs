//! Whatever the inventory, whatever is found on the hosts, and wherever it was broken off: the next apply leaves nothing
//! to do, and on its way never takes two members of a quorum down.

use super::*;
use crate::host::fake::State;
use crate::inventory::model::KafkaMode;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// What decides an inventory.
#[derive(Clone, Copy, Debug)]
struct Shape {
    kafka: usize,
    relays: usize,
    consumers: usize,
    shared: bool,
    /// A setting of Kafka that a running broker takes in.
    threads: usize,
    /// One that needs a restart.
    requests: usize,
    /// Kafka 3.9, which keeps its metadata in ZooKeeper.
    on_zookeeper: bool,
}

fn shape() -> impl Strategy<Value = Shape> {
    (1..5_usize, 1..3_usize, 1..4_usize, any::<[bool; 2]>(), 8..10_usize, 500..502_usize).prop_map(
        |(kafka, relays, consumers, [shared, on_zookeeper], threads, requests)| Shape {
            kafka,
            relays,
            consumers,
            shared,
            threads,
            requests,
            on_zookeeper,
        },
    )
}

impl Shape {
    fn inventory(self, lab: &Lab) -> Inventory {
        let mut made = inventory(lab.folder.path(), self.kafka, self.relays, self.consumers, self.shared);
        let role = made.kafka.as_mut().unwrap();
        if self.on_zookeeper {
            (role.version, role.mode) = ("3.9.1".to_owned(), KafkaMode::ZooKeeper);
        }
        role.config.insert("num.io.threads".to_owned(), self.threads.to_string());
        role.config.insert("queued.max.requests".to_owned(), self.requests.to_string());
        made
    }
}

/// What somebody or something did to a host. The numbers choose among what is there.
#[derive(Clone, Copy, Debug)]
enum Damage {
    RemoveFile(usize),
    EditFile(usize),
    OpenFile(usize),
    RemoveLink(usize),
    MoveLink(usize),
    RemoveDirectory(usize),
    StopUnit(usize),
    DisableUnit(usize),
    ForgetRecord(usize),
    RemoveUser(usize),
    RemoveArtifact(usize),
    Reinstall,
}

fn damage() -> impl Strategy<Value = (usize, Damage)> {
    use Damage::*;
    let one = (0..12_u8, any::<prop::sample::Index>()).prop_map(|(kind, index)| {
        let index = index.index(1 << 16);
        match kind {
            0 => RemoveFile(index),
            1 => EditFile(index),
            2 => OpenFile(index),
            3 => RemoveLink(index),
            4 => MoveLink(index),
            5 => RemoveDirectory(index),
            6 => StopUnit(index),
            7 => DisableUnit(index),
            8 => ForgetRecord(index),
            9 => RemoveUser(index),
            10 => RemoveArtifact(index),
            _ => Reinstall,
        }
    });
    (0..16_usize, one)
}

fn nth<'a, T>(mut items: impl Iterator<Item = &'a T> + Clone, index: usize) -> Option<&'a T> {
    let count = items.clone().count();
    (count > 0).then(|| items.nth(index % count)).flatten()
}

impl Damage {
    fn happens_to(self, host: &mut State) {
        // An id that moved is refused, not healed: another test.
        let is_id = |path: &str| path.ends_with("/myid") || path.ends_with("/meta.properties");
        let file = |host: &State, index| nth(host.files.keys(), index).cloned().filter(|path| !is_id(path));
        match self {
            Self::RemoveFile(index) => {
                if let Some(path) = file(host, index) {
                    host.files.remove(&path);
                }
            }
            Self::EditFile(index) => {
                if let Some(file) = file(host, index).and_then(|path| host.files.get_mut(&path)) {
                    file.0.extend_from_slice(b"# edited\n");
                }
            }
            Self::OpenFile(index) => {
                if let Some(file) = file(host, index).and_then(|path| host.files.get_mut(&path)) {
                    "666".clone_into(&mut file.1);
                }
            }
            Self::RemoveLink(index) => {
                if let Some(path) = nth(host.links.keys(), index).cloned() {
                    host.links.remove(&path);
                }
            }
            Self::MoveLink(index) => {
                if let Some(path) = nth(host.links.keys(), index).cloned() {
                    host.links.insert(path, "/nowhere".to_owned());
                }
            }
            Self::RemoveDirectory(index) => {
                if let Some(path) = nth(host.directories.keys(), index).cloned() {
                    host.directories.remove(&path);
                }
            }
            Self::StopUnit(index) => {
                if let Some(unit) = nth(host.active.iter(), index).cloned() {
                    host.active.remove(&unit);
                }
            }
            Self::DisableUnit(index) => {
                if let Some(unit) = nth(host.enabled.iter(), index).cloned() {
                    host.enabled.remove(&unit);
                }
            }
            Self::ForgetRecord(index) => {
                if let Some(unit) = nth(host.records.keys(), index).cloned() {
                    host.records.remove(&unit);
                }
            }
            Self::RemoveUser(index) => {
                if let Some(user) = nth(host.users.iter(), index).cloned() {
                    host.users.remove(&user);
                }
            }
            // Jars come from a network that tests do not use; they are put back by `with_jars`.
            Self::RemoveArtifact(index) => {
                if let Some(id) = nth(host.artifacts.iter(), index).cloned() {
                    host.artifacts.remove(&id);
                }
            }
            Self::Reinstall => *host = State::default(),
        }
    }
}

/// A member of a quorum that runs is restarted only while all others that ran are proven ready.
fn check_turns(trace: &[(String, String)], mut running: BTreeMap<&'static str, BTreeSet<String>>) {
    let mut unproven: BTreeMap<&'static str, BTreeSet<String>> = BTreeMap::new();
    let mut learners = BTreeSet::new();
    for (host, line) in trace {
        let fields: Vec<&str> = line.split('|').collect();
        // Without a vote a server takes nothing away.
        match fields.as_slice() {
            ["member", _, args] if args.starts_with("zookeeper-config") => drop(learners.insert(host)),
            ["member", _, args] if args.starts_with("zookeeper-join") => drop(learners.remove(host)),
            _ => {}
        }
        let votes = |unit: &&str| *unit != QUORUMS[0] || !learners.contains(host);
        for unit in QUORUMS.into_iter().filter(votes) {
            match fields.as_slice() {
                ["restart" | "stop", name, ..] if *name == unit => {
                    let others = unproven.entry(unit).or_default();
                    assert!(
                        others.is_empty() || !running[unit].contains(host),
                        "{unit} of {host} goes down while that of {others:?} is not ready"
                    );
                    others.insert(host.clone());
                }
                ["retire", name, ..] if *name == unit => {
                    let others = unproven.get(unit).map_or(0, BTreeSet::len);
                    assert!(others == 0, "{unit} of {host} leaves while another is not ready");
                    running.get_mut(unit).unwrap().remove(host);
                }
                ["start", name, ..] if *name == unit => {
                    unproven.entry(unit).or_default().insert(host.clone());
                    running.get_mut(unit).unwrap().insert(host.clone());
                }
                ["gate", name, ..] if *name == unit => {
                    unproven.entry(unit).or_default().remove(host);
                }
                _ => {}
            }
        }
    }
}

const QUORUMS: [&str; 2] = ["aesop-zookeeper.service", "aesop-kafka.service"];

fn running(lab: &Lab, inventory: &Inventory) -> BTreeMap<&'static str, BTreeSet<String>> {
    QUORUMS
        .into_iter()
        .map(|unit| {
            let runs = |name: &&String| lab.connect.host(name).with(|host| host.active.contains(unit));
            (unit, inventory.hosts.keys().filter(runs).cloned().collect())
        })
        .collect()
}

async fn apply_leaves_nothing(lab: &Lab, inventory: &Inventory) {
    finish(lab, inventory, &lab.prepare(inventory)).await;
    // By what the lock file says then.
    nothing_is_left(lab, inventory, &lab.prepare(inventory)).await;
}

async fn finish(lab: &Lab, inventory: &Inventory, prepared: &Prepared) {
    lab.connect.take_trace();
    lab.connect.meet();
    let before = running(lab, inventory);
    let (plan, report) = lab.apply_prepared(inventory, prepared).await;
    super::told::check_lines(&plan);
    assert!(report.is_success(), "{report:#?}\n{plan:#?}");
    check_turns(&lab.connect.take_trace(), before);
    assert_eq!(lab.connect.broken(), [""; 0], "{plan:#?}");
    let about_zookeeper = |line: &&String| line.contains("ZooKeeper");
    assert_eq!(plan.refused.iter().find(about_zookeeper), None);
}

async fn nothing_is_left(lab: &Lab, inventory: &Inventory, prepared: &Prepared) {
    let rest = lab.plan_prepared(inventory, prepared).await;
    assert!(rest.is_empty(), "{:#?}", rest.steps().collect::<Vec<_>>());
    check_units(lab, prepared);
}

/// Whose disk was lost has nothing; somebody says that it is.
fn say_what_is_lost(lab: &Lab, inventory: &Inventory) {
    let path = crate::lock::path_for(&inventory.path);
    let mut lock = crate::lock::Lock::load(&path, &inventory.cluster).unwrap();
    lock.ensemble.retain(|host| lab.connect.host(host).with(|state| state.ensemble.is_some()));
    lock.save(&path).unwrap();
}

/// Does it all, but for what no ensemble stands: most of its disks are never lost at once.
fn damage_hosts(lab: &Lab, former: &Inventory, damages: Vec<(usize, Damage)>) {
    let names: Vec<&String> = former.hosts.keys().collect();
    let members = former.zookeeper.iter().flat_map(|role| &role.members).count();
    let mut lost = BTreeSet::new();
    for (host, damage) in damages {
        let name = names[host % names.len()];
        if matches!(damage, Damage::Reinstall) && name.starts_with('k') && !lost.contains(name) {
            if (lost.len() + 1) * 2 >= members {
                continue;
            }
            lost.insert(name);
        }
        lab.connect.host(name).with(|state| damage.happens_to(state));
    }
    say_what_is_lost(lab, former);
}

/// Every unit runs with what lies on the disk: the plan's own records are not asked.
fn check_units(lab: &Lab, prepared: &Prepared) {
    for (name, desired) in &prepared.desired {
        let host = lab.connect.host(name).with(|host| host.clone());
        let disk = host.disk();
        let declared: BTreeSet<&String> = desired.files().map(|file| &file.path).collect();
        let strange = |path: &&String| !declared.contains(path) && !path.ends_with("/meta.properties");
        assert_eq!(host.files.keys().find(strange), None, "{name} has a file that nothing declares");
        for unit in desired.parts.iter().flat_map(|part| &part.units) {
            assert!(host.active.contains(&unit.name), "{name}: {} does not run", unit.name);
            // What a running unit takes in by itself need not be what it was started with.
            let adopts = |path: &&String| unit.adopt.is_some() && unit.reload_on.contains(path);
            let started: Vec<&String> = unit.restart_on.iter().filter(|path| !adopts(path)).collect();
            let known = [(started, &host.started_with), (unit.reload_on.iter().collect(), &host.loaded_with)];
            for (paths, with) in known {
                for path in paths {
                    assert_eq!(
                        with[&unit.name].get(path),
                        disk.get(path),
                        "{name}: {} and {path}",
                        unit.name
                    );
                }
            }
        }
    }
}

fn cases(count: u32) -> ProptestConfig {
    // A failing case prints its input; a file of seeds beside the sources would only grow.
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(count) }
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn an_apply_leaves_nothing_to_do(
        former in shape(), damages in prop::collection::vec(damage(), 0..10), next in shape(),
    ) {
        block_on(async {
            let lab = Lab::new();
            // Metadata never moves between the two.
            let next = Shape { on_zookeeper: former.on_zookeeper, ..next };
            let former = former.inventory(&lab);
            let (first, report) = lab.apply(&former).await;
            assert!(report.is_success(), "{report:#?}");
            assert_eq!(first.summary().restarts, 0, "nothing runs yet");
            assert!(lab.plan(&former).await.is_empty());
            damage_hosts(&lab, &former, damages);
            apply_leaves_nothing(&lab, &next.inventory(&lab)).await;
        });
    }

    #[test]
    fn an_apply_that_died_anywhere_is_finished_by_the_next(
        former in shape(), next in shape(), damages in prop::collection::vec(damage(), 0..4),
        deaths in prop::collection::vec(0..400_usize, 1..4),
    ) {
        block_on(async {
            let lab = Lab::new();
            let next = Shape { on_zookeeper: former.on_zookeeper, ..next };
            let former = former.inventory(&lab);
            lab.apply(&former).await;
            damage_hosts(&lab, &former, damages);
            let next = next.inventory(&lab);
            for lines in deaths {
                lab.connect.dies_after(Some(lines));
                lab.apply(&next).await;
                lab.connect.dies_after(None);
                lab.leases_end(&former);
                lab.leases_end(&next);
            }
            apply_leaves_nothing(&lab, &next).await;
        });
    }

    #[test]
    fn an_apply_that_fails_anywhere_is_finished_by_the_next(
        step in prop::sample::select(vec![
            "user kafka", "directory", "artifact-end", "file", "commit", "daemon-reload", "kafka-format",
            "start", "started", "gate", "ready", "generation",
        ]),
        host in prop::sample::select(vec!["k1", "k2", "r1", "c1", "m1"]),
    ) {
        block_on(async {
            let lab = Lab::new();
            let inventory = inventory(lab.folder.path(), 3, 1, 2, false);
            let failing = step.replace(' ', "|");
            lab.connect.host(host).with(|state| state.fails = vec![failing]);
            let (_, report) = lab.apply(&inventory).await;
            let others = report.failures.iter().filter(|failure| failure.host != host).count();
            assert_eq!(others, 0, "one failing host never fails another: {report:#?}");
            lab.connect.host(host).with(|state| {
                state.fails.clear();
                // A lock is given up also where something failed.
                assert_eq!(state.lock, None);
            });
            apply_leaves_nothing(&lab, &inventory).await;
        });
    }
}

/// Not a sample of the places where it may die: all of them, in a first apply and in one that restarts.
#[test]
fn an_apply_that_dies_at_any_step_is_finished_by_the_next() {
    block_on(async {
        let small = Shape {
            kafka: 1,
            relays: 1,
            consumers: 1,
            shared: true,
            threads: 8,
            requests: 500,
            on_zookeeper: false,
        };
        let former = Shape { kafka: 2, ..small };
        let next = Shape { threads: 16, requests: 501, consumers: 2, ..former };
        for (former, next) in [(None, small), (Some(former), next)] {
            let mut lab = Lab::new();
            let former = former.map(|shape| shape.inventory(&lab));
            let former = former.map(|inventory| (lab.prepare(&inventory), inventory));
            let inventory = next.inventory(&lab);
            let prepared = lab.prepare(&inventory);
            let (mut lines, mut done) = (0, false);
            while !done {
                lab.connect = FakeConnect::default();
                if let Some((prepared, inventory)) = &former {
                    Lab::rewind(prepared);
                    lab.apply_prepared(inventory, prepared).await;
                }
                Lab::rewind(&prepared);
                lab.connect.dies_after(Some(lines));
                done = lab.apply_prepared(&inventory, &prepared).await.1.is_success();
                lab.connect.dies_after(None);
                lab.leases_end(&inventory);
                Lab::rewind(&prepared);
                finish(&lab, &inventory, &prepared).await;
                nothing_is_left(&lab, &inventory, &prepared).await;
                lines += 1;
            }
            assert!(lines > 50, "{lines}: it died at every one of its steps");
        }
    });
}
