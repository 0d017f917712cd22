//! Kafka's defaults follow the number of brokers, and topics follow the defaults.

use super::brokers::{brokers, check, speaking, told};
use super::*;
use crate::kafka::raise::{OFFSETS, TRANSACTIONS};
use crate::lock::{Defaults, Lock};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn lock(inventory: &Inventory) -> crate::lock::KafkaLock {
    Lock::load(&crate::lock::path_for(&inventory.path), "shop").unwrap().kafka.unwrap()
}

/// Numbers of replicas by topic.
fn replicas(lab: &Lab) -> BTreeMap<String, BTreeSet<usize>> {
    let mut found: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    lab.connect.kafka(|kafka| {
        for partition in &kafka.view.partitions {
            found.entry(partition.topic.clone()).or_default().insert(partition.replicas.len());
        }
    });
    found
}

/// Hosts whose brokers were restarted since the logs were cleared.
fn restarted(lab: &Lab) -> Vec<&'static str> {
    let restart = "restart aesop-kafka.service".to_owned();
    let has = |name: &&str| lab.connect.host(name).with(|host| host.log.contains(&restart));
    ["k1", "k2", "k3"].into_iter().filter(has).collect()
}

fn minimum(lab: &Lab, topic: &str) -> usize {
    lab.connect.kafka(|kafka| kafka.view.min_in_sync[topic])
}

fn exactly(topics: &[(&str, usize)]) -> BTreeMap<String, BTreeSet<usize>> {
    topics.iter().map(|(topic, count)| ((*topic).to_owned(), BTreeSet::from([*count]))).collect()
}

#[test]
fn one_broker_becomes_three_and_its_topics_follow() {
    block_on(async {
        for version in ["", ", version: 3.9.1"] {
            let lab = speaking();
            lab.apply(&brokers(&lab, &[1], version)).await;
            lab.connect.kafka(|kafka| {
                kafka.create_topic("rows", 4, 1, 1);
                kafka.create_topic(OFFSETS, 5, 1, 1);
                kafka.create_topic(TRANSACTIONS, 2, 1, 1);
                kafka.view.own_min_in_sync.insert(TRANSACTIONS.to_owned());
            });
            let three = brokers(&lab, &[1, 2, 3], version);
            let plan = lab.plan(&three).await;
            let changes: Vec<String> =
                told(&plan).into_iter().filter(|words| words.contains("MiB")).collect();
            assert_eq!(
                changes,
                [
                    "k1: __consumer_offsets, __transaction_state, rows get 3 replicas instead of 1: broker 2 (k2) gets 11, broker 3 (k3) gets 11; at most 50 MiB a second at each broker",
                    "k1: partitions made meanwhile follow, then min.insync.replicas is 2 instead of 1; at most 50 MiB a second at each broker"
                ]
            );
            let turns = plan.schedule();
            let at =
                |verb: &str| turns.iter().position(|turn| turn.verb == verb && turn.unit.contains("kafka"));
            assert!(at("start") < at("member") && at("member") < at("restart"), "{turns:#?}");
            let restart = &turns[at("restart").unwrap()];
            assert_eq!((&restart.hosts[..], restart.unavailable.as_deref()), (&["k1".to_owned()][..], None));

            // Where the copies do not come about, who has the only ones is left alone.
            lab.connect.host("k1").with(|host| host.fails = vec!["member|86400|kafka-brokers".to_owned()]);
            lab.clear_logs(&three);
            let (_, report) = lab.apply(&three).await;
            assert!(!report.is_success());
            assert_eq!(restarted(&lab), [""; 0]);
            assert!(lock(&three).raised_from.is_some(), "it is still to be done");
            lab.connect.host("k1").with(|host| host.fails.clear());
            let (_, report) = lab.apply(&three).await;
            assert!(report.is_success(), "{report:#?}");
            assert_eq!(restarted(&lab), ["k1"]);
            assert_eq!(replicas(&lab), exactly(&[("rows", 3), (OFFSETS, 3), (TRANSACTIONS, 3)]));
            assert_eq!(["rows", OFFSETS, TRANSACTIONS].map(|topic| minimum(&lab, topic)), [2, 2, 2]);
            assert_eq!(lock(&three).raised_from, None);
            check(&lab, &three, 3).await;

            // What somebody makes with one replica from now on is left to them, and fewer brokers lower nothing.
            lab.connect.kafka(|kafka| kafka.create_topic("scratch", 1, 1, 2));
            check(&lab, &three, 3).await;
            let lower = lab.prepare(&brokers(&lab, &[1, 2], version)).lock.kafka.unwrap();
            assert_eq!(lower.defaults(), Defaults { replication_factor: 3, min_insync_replicas: 2 });
        }
    });
}

#[test]
fn what_somebody_has_chosen_stays() {
    block_on(async {
        let lab = speaking();
        let one = inventory(lab.folder.path(), 1, 1, 1, false);
        lab.apply(&one).await;
        lab.connect.kafka(|kafka| {
            kafka.create_topic("shop.shop.users", 2, 1, 1);
            kafka.create_topic("rows", 2, 1, 1);
        });
        let mut three = inventory(lab.folder.path(), 3, 1, 1, false);
        three.consumers.values_mut().for_each(|group| group.sink.replication_factor = Some(1));
        let (plan, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        assert!(
            plan.notes
                .iter()
                .any(|note| note.starts_with("kafka: shop.shop.users keep fewer replicas than 3: ")),
            "{:?}",
            plan.notes
        );
        assert_eq!(replicas(&lab), exactly(&[("rows", 3), ("shop.shop.users", 1)]));
        check(&lab, &three, 3).await;
    });
}

#[test]
fn what_the_inventory_says_itself_is_not_raised() {
    block_on(async {
        let lab = speaking();
        let says = ", config: {default.replication.factor: 1, offsets.topic.replication.factor: 1}";
        lab.apply(&brokers(&lab, &[1], says)).await;
        lab.connect.kafka(|kafka| {
            for topic in ["rows", OFFSETS, TRANSACTIONS] {
                kafka.create_topic(topic, 2, 1, 1);
            }
        });
        let three = brokers(&lab, &[1, 2, 3], says);
        let (_, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(replicas(&lab), exactly(&[("rows", 1), (OFFSETS, 1), (TRANSACTIONS, 3)]));
        assert_eq!(minimum(&lab, "rows"), 1);
        check(&lab, &three, 3).await;
    });
}

#[test]
fn where_partitions_stay_so_do_the_defaults() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1], "")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 3, 1, 1));
        let never = brokers(&lab, &[1, 2, 3], ", rebalance: never");
        let (plan, report) = lab.apply(&never).await;
        assert!(report.is_success(), "{report:#?}");
        let note = "kafka: topics have 1 replica by default, from when there were fewer brokers; with `kafka.rebalance: auto` an apply makes that 3";
        assert!(plan.notes.iter().any(|found| found == note), "{:?}", plan.notes);
        assert_eq!(plan.summary().restarts, 0);
        assert_eq!(replicas(&lab), exactly(&[("rows", 1)]));
        check(&lab, &never, 3).await;
        let auto = brokers(&lab, &[1, 2, 3], "");
        assert!(lab.apply(&auto).await.1.is_success());
        assert_eq!((replicas(&lab), minimum(&lab, "rows")), (exactly(&[("rows", 3)]), 2));
        check(&lab, &auto, 3).await;
    });
}

#[test]
fn with_too_few_brokers_up_the_minimum_stays() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1], "")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 3, 1, 1));
        let three = brokers(&lab, &[1, 2, 3], "");
        lab.connect.host("k3").with(|host| host.unreachable = true);
        let (_, report) = lab.apply(&three).await;
        assert!(report.failures.iter().any(|failure| failure.error.contains("should have more replicas")));
        assert_eq!((replicas(&lab), minimum(&lab, "rows")), (exactly(&[("rows", 2)]), 1));
        lab.connect.host("k3").with(|host| host.unreachable = false);
        let (_, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!((replicas(&lab), minimum(&lab, "rows")), (exactly(&[("rows", 3)]), 2));
        check(&lab, &three, 3).await;
    });
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn topics_follow_wherever_it_is_broken_off(
        first in 1..3_usize, then in 1..7_usize, topics in prop::collection::vec((1..9_usize, 1..3_usize), 1..4),
        deaths in prop::collection::vec(0..150_usize, 0..4), on_zookeeper in any::<bool>(),
    ) {
        block_on(async {
            let lab = speaking();
            let version = if on_zookeeper { ", version: 3.9.1" } else { "" };
            let then = then.max(first);
            let hosts: Vec<usize> = (1..=then).collect();
            lab.apply(&brokers(&lab, &hosts[..first], version)).await;
            let topics: Vec<(String, usize, usize)> = topics.into_iter().zip(0..)
                .map(|((partitions, factor), number)| (format!("t{number}"), partitions, factor.min(first))).collect();
            for (name, partitions, factor) in &topics {
                lab.connect.kafka(|kafka| kafka.create_topic(name, *partitions, *factor, 1));
            }
            let inventory = brokers(&lab, &hosts, version);
            lab.dies(&inventory, deaths).await;
            let (plan, report) = lab.apply(&inventory).await;
            assert!(report.is_success(), "{report:#?}\n{plan:#?}");
            check(&lab, &inventory, then).await;
            let (former, now) = (Defaults::of(first), Defaults::of(then));
            for (name, _, factor) in topics {
                let follows = factor == usize::from(former.replication_factor);
                let wanted = if follows { usize::from(now.replication_factor) } else { factor };
                assert_eq!(replicas(&lab)[&name], BTreeSet::from([wanted]), "{name}");
                assert_eq!(minimum(&lab, &name), usize::from(now.min_insync_replicas), "{name}");
            }
        });
    }
}

#[test]
fn a_topic_s_replicas_are_a_group_s_own_only_where_it_says_so() {
    let lab = speaking();
    let mut three = inventory(lab.folder.path(), 1, 1, 1, false);
    lab.prepare(&three).save_lock().unwrap();
    three = inventory(lab.folder.path(), 3, 1, 1, false);
    let own = |inventory: &Inventory| {
        let prepared = lab.prepare(inventory);
        let mut parts = prepared.desired.values().flat_map(|state| &state.parts);
        parts.find_map(|part| part.broker.clone()?.raise).unwrap().own
    };
    assert_eq!(own(&three), BTreeSet::new());
    three.consumers.values_mut().for_each(|group| group.sink.replication_factor = Some(2));
    assert_eq!(own(&three), BTreeSet::from(["shop.*.*".to_owned()]));
    let elsewhere =
        |group: &mut crate::inventory::model::ConsumerGroup| group.sink.bootstrap = vec!["b:9092".to_owned()];
    three.consumers.values_mut().for_each(elsewhere);
    assert_eq!(own(&three), BTreeSet::new());
}
