use super::*;
use crate::inventory;
use proptest::prelude::*;
use std::path::Path;

/// Bytes that differ from call to call and not from run to run.
fn counter() -> impl FnMut() -> [u8; 16] {
    let mut next: u128 = 0x1234_5678_9abc_def0_1122_3344_5566_7788;
    move || {
        next = next.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(1);
        next.to_le_bytes()
    }
}

fn hosts(numbers: &BTreeSet<u8>) -> String {
    numbers.iter().map(|n| format!("10.0.0.{n}")).collect::<Vec<_>>().join(", ")
}

fn inventory(zookeeper: &BTreeSet<u8>, kafka: &BTreeSet<u8>, relays: &BTreeSet<u8>) -> Inventory {
    let role = |name: &str, numbers: &BTreeSet<u8>, sources: &str| {
        if numbers.is_empty() {
            return String::new();
        }
        format!(
            "{name}: {{hosts: [{}]}}
{sources}",
            hosts(numbers)
        )
    };
    let sources = "sources:\n  a: {mysql: {host: db, user: u}}\n  b: {mysql: {host: db, user: u}}\n";
    let text = format!(
        "cluster: shop\nhosts: {{other: {{address: 10.9.9.9}}}}\n{}{}{}",
        // Relays need it, always; what varies comes after its first host.
        role("zookeeper", &zookeeper.iter().copied().chain([200]).collect(), ""),
        role("kafka", kafka, ""),
        role("relays", relays, sources)
    );
    inventory::parse(Path::new("shop.yml"), text.as_bytes(), &|_| unreachable!())
        .unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn some(numbers: &[u8]) -> BTreeSet<u8> {
    numbers.iter().copied().collect()
}

/// Every id in use: kind, name, id.
fn in_use(lock: &Lock) -> Vec<(&'static str, String, u32)> {
    let kafka = lock.kafka.clone().unwrap_or_default();
    [("zookeeper", &lock.zookeeper), ("kafka", &kafka.nodes), ("mysql", &lock.server_ids)]
        .into_iter()
        .flat_map(|(kind, ids)| ids.ids.iter().map(move |(name, id)| (kind, name.clone(), *id)))
        .collect()
}

#[test]
fn a_first_lock() {
    let wanted = inventory(&some(&[1, 2]), &some(&[1, 2, 3, 4]), &some(&[5]));
    let (lock, changes) = Lock::new("shop").assign(&wanted, &mut counter()).unwrap();
    expect_test::expect![[r#"
        # Written by aesop. Ids that must never change: commit this file beside the inventory and do not edit it.
        # An id of a host that is gone stays under `retired` and is never given again.
        aesop: [VERSION]
        cluster: shop
        zookeeper:
          ids:
            10.0.0.1: 1
            10.0.0.2: 2
            10.0.0.200: 3
        kafka:
          cluster_id: qefaM4BWyBb-YzTQPT386A
          replication_factor: 3
          min_insync_replicas: 2
          controllers:
          - 10.0.0.1
          - 10.0.0.2
          - 10.0.0.3
          known_controllers:
            10.0.0.1: 10.0.0.1
            10.0.0.2: 10.0.0.2
            10.0.0.3: 10.0.0.3
          nodes:
            ids:
              10.0.0.1: 1
              10.0.0.2: 2
              10.0.0.3: 3
              10.0.0.4: 4
          directory_ids:
            10.0.0.1: jtZI5rh_mLyeMrk-CZtDPg
            10.0.0.2: R0j2OuVaVAen4Mcu7jEV5g
            10.0.0.3: JLVpP1POa4r-qAC-GPjbSA
            10.0.0.4: tWo-YC3p1GfSQG8NhHezvg
        server_ids:
          ids:
            10.0.0.5/a: 2660806856
            10.0.0.5/b: 2660806860
    "#]]
    .assert_eq(&lock.to_text().replace(VERSION, "[VERSION]"));
    assert!(changes.iter().any(|change| change.to_string() == "kafka node.id 4 for 10.0.0.4"), "{changes:?}");
}

#[test]
fn nothing_new_changes_nothing_and_asks_for_no_randomness() {
    let wanted = inventory(&some(&[1]), &some(&[1, 2, 3]), &some(&[5]));
    let (lock, _) = Lock::new("shop").assign(&wanted, &mut counter()).unwrap();
    let (again, changes) = lock.assign(&wanted, &mut || panic!("asked for randomness")).unwrap();
    assert_eq!((again, changes), (lock, Vec::new()));
}

#[test]
fn a_host_that_comes_back_gets_a_new_id() {
    let with = inventory(&some(&[]), &some(&[1, 2]), &some(&[]));
    let without = inventory(&some(&[]), &some(&[1]), &some(&[]));
    let mut random = counter();
    let (lock, _) = Lock::new("shop").assign(&with, &mut random).unwrap();
    let directory = lock.kafka.clone().unwrap().directory_ids["10.0.0.2"].clone();
    let (lock, changes) = lock.assign(&without, &mut random).unwrap();
    assert_eq!(changes, [Change::Retired { kind: "kafka node.id", name: "10.0.0.2".to_owned(), id: 2 }]);
    let (lock, _) = lock.assign(&with, &mut random).unwrap();
    assert_eq!((lock.node_id("10.0.0.1"), lock.node_id("10.0.0.2")), (Some(1), Some(3)));
    assert_ne!(lock.kafka.unwrap().directory_ids["10.0.0.2"], directory);
}

#[test]
fn myids_run_out_with_an_error() {
    let mut lock = Lock::new("shop");
    lock.zookeeper.retired.insert(255, "gone".to_owned());
    let error = lock.assign(&inventory(&some(&[]), &some(&[]), &some(&[])), &mut counter()).unwrap_err();
    expect_test::expect![
        "no zookeeper myid is left for 10.0.0.200: the highest possible is 255 and used ones never come back"
    ]
    .assert_eq(&error.to_string());
}

#[test]
fn server_ids_lie_high_and_leave_room_for_look_back() {
    let wanted = inventory(&some(&[]), &some(&[]), &some(&[5, 6]));
    let (lock, _) = Lock::new("shop").assign(&wanted, &mut counter()).unwrap();
    let mut ids: Vec<u32> = lock.server_ids.ids.values().copied().collect();
    ids.sort_unstable();
    assert_eq!(ids.len(), 4);
    assert!(ids[0] >= 1 << 31);
    assert!(ids.windows(2).all(|pair| pair[1] - pair[0] == SERVER_ID_BLOCK));
    assert_eq!(lock.server_id("10.0.0.5", "a"), Some(ids[0]));
    assert_eq!(lock.server_id("10.0.0.7", "a"), None);
}

#[test]
fn a_lock_file_is_written_whole_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = path_for(&folder.path().join("shop.yml"));
    assert_eq!(path, folder.path().join("shop.lock"));
    assert_eq!(Lock::load(&path, "shop").unwrap(), Lock::new("shop"), "no file is an empty lock");
    let wanted = inventory(&some(&[1]), &some(&[1, 2, 3]), &some(&[5]));
    let (lock, _) = Lock::new("shop").assign(&wanted, &mut counter()).unwrap();
    lock.save(&path).unwrap();
    assert_eq!(Lock::load(&path, "shop").unwrap(), lock);
    let names: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["shop.lock"], "no temporary file is left");
}

proptest! {
    /// Whatever hosts come and go: an id stays with its name while the name stays, and no id is given twice.
    #[test]
    fn ids_never_move_and_never_come_back(
        steps in prop::collection::vec(
            (prop::collection::btree_set(1u8..9, 0..5), prop::collection::btree_set(1u8..9, 0..5), prop::collection::btree_set(1u8..9, 0..4)),
            1..12,
        )
    ) {
        let mut random = counter();
        let mut lock = Lock::new("shop");
        let mut ever: BTreeMap<(&'static str, u32), String> = BTreeMap::new();
        for (zookeeper, kafka, relays) in steps {
            let before = in_use(&lock);
            let wanted = inventory(&zookeeper, &kafka, &relays);
            lock = lock.assign(&wanted, &mut random).unwrap().0;
            let after = in_use(&lock);
            for (kind, name, id) in &after {
                if let Some((_, _, old)) = before.iter().find(|(k, n, _)| k == kind && n == name) {
                    prop_assert_eq!(old, id, "{} {} moved", kind, name);
                } else {
                    let owner = ever.insert((*kind, *id), name.clone());
                    prop_assert_eq!(owner, None, "{} {} was used before", kind, id);
                }
            }
            let relay_names: BTreeSet<String> =
                relays.iter().flat_map(|n| ["a", "b"].map(|source| format!("10.0.0.{n}/{source}"))).collect();
            prop_assert_eq!(lock.server_ids.ids.keys().cloned().collect::<BTreeSet<_>>(), relay_names);
            // What is written can be read, and says the same.
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("shop.lock");
            lock.save(&path).unwrap();
            prop_assert_eq!(&Lock::load(&path, "shop").unwrap(), &lock);
        }
    }
}

#[test]
fn the_newest_copy_is_the_lock() {
    let lock = |myid: u32| {
        let mut lock = Lock::new("shop");
        lock.zookeeper.ids.insert("k1".to_owned(), myid);
        lock
    };
    let copy = |generation: u64, lock: &Lock| format!("# generation {generation}\n{}", lock.to_text());
    let copies = |list: &[(&str, String)]| {
        list.iter().map(|(host, text)| ((*host).to_owned(), text.clone())).collect::<BTreeMap<_, _>>()
    };
    assert_eq!(Lock::newest(&BTreeMap::new()).unwrap(), None);
    let (old, new) = (lock(1), lock(2));
    let found = copies(&[("k1", copy(9, &old)), ("k2", copy(10, &new)), ("k3", copy(10, &new))]);
    assert_eq!(Lock::newest(&found).unwrap(), Some((10, new.clone())));
    let torn = copies(&[("k1", copy(10, &old)), ("k2", copy(10, &new))]);
    let error = Lock::newest(&torn).unwrap_err().to_string();
    assert!(error.starts_with("the copies of generation 10 on k1 and k2 differ"), "{error}");
    let error = Lock::newest(&copies(&[("k1", old.to_text())])).unwrap_err().to_string();
    assert!(error.starts_with("the copy on k1 is not a lock file of aesop"), "{error}");
}

/// As the first version has written it: ids that are not read are ids that are given twice.
#[test]
fn a_lock_file_of_version_1_is_understood() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/shop.lock");
    let lock = Lock::load(&path, "shop").unwrap();
    assert_eq!(
        (lock.myid("k1"), lock.node_id("k2"), lock.server_id("r1", "shop")),
        (Some(1), Some(3), Some(1 << 31))
    );
    assert_eq!(lock.zookeeper.retired.get(&2).map(String::as_str), Some("k9"));
    assert_eq!(lock.kafka.as_ref().unwrap().nodes.retired.get(&2).map(String::as_str), Some("k9"));
    assert!(lock.ensemble.contains("k1"));
    assert_eq!(lock.hosts.get("k1").unwrap().port, Some(2222));
    assert_eq!(lock.to_text(), std::fs::read_to_string(path).unwrap());
}

#[test]
fn more_brokers_raise_the_defaults_and_fewer_lower_nothing() {
    let defaults =
        |replication_factor, min_insync_replicas| Defaults { replication_factor, min_insync_replicas };
    let mut random = counter();
    let mut lock = Lock::new("shop");
    for (brokers, now, from, words) in [
        (&[1][..], defaults(1, 1), None, None),
        (
            &[1, 2],
            defaults(2, 1),
            Some(defaults(1, 1)),
            Some("replication factor 1 to 2, min.insync.replicas 1 to 1"),
        ),
        // The lowest counts until topics have followed.
        (
            &[1, 2, 3],
            defaults(3, 2),
            Some(defaults(1, 1)),
            Some("replication factor 2 to 3, min.insync.replicas 1 to 2"),
        ),
        (&[1, 2, 3, 4, 5], defaults(3, 2), Some(defaults(1, 1)), None),
        (&[1], defaults(3, 2), Some(defaults(1, 1)), None),
    ] {
        let (next, changes) =
            lock.assign(&inventory(&some(&[]), &some(brokers), &some(&[])), &mut random).unwrap();
        let kafka = next.kafka.clone().unwrap();
        assert_eq!((kafka.defaults(), kafka.raised_from), (now, from), "{brokers:?}");
        let raised = changes.iter().filter(|change| matches!(change, Change::Raised { .. }));
        let raised: Vec<String> = raised.map(ToString::to_string).collect();
        let words: Vec<String> =
            words.iter().map(|words| format!("kafka defaults raised: {words}")).collect();
        assert_eq!(raised, words, "{brokers:?}");
        lock = next;
    }
}

#[test]
fn what_somebody_else_wrote_since_is_not_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("shop.lock");
    let mut random = counter();
    let mut made = |kafka: &[u8]| {
        let read = Lock::load(&path, "shop").unwrap();
        let wanted = inventory(&some(&[1]), &some(kafka), &some(&[5]));
        (read.clone(), read.assign(&wanted, &mut random).unwrap().0)
    };
    let (first, second) = (made(&[1]), made(&[2]));
    second.1.save_over(&second.0, &path).unwrap();
    let error = first.1.save_over(&first.0, &path).unwrap_err();
    assert!(matches!(error, LockError::Changed { .. }), "{error}");
    assert_eq!(Lock::load(&path, "shop").unwrap(), second.1);
    // Once more the same, and on from there.
    second.1.save_over(&second.0, &path).unwrap();
    let third = made(&[2, 3]);
    third.1.save_over(&third.0, &path).unwrap();
    assert_eq!(Lock::load(&path, "shop").unwrap(), third.1);
}
