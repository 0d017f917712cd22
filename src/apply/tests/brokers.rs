//! Brokers come and go by editing the inventory: partitions follow, and nothing is lost wherever it is broken off.

use super::*;
use crate::kafka::view::View;
use crate::plan::{Action, Plan};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// An inventory of these brokers alone.
pub(super) fn brokers(lab: &Lab, hosts: &[usize], more: &str) -> Inventory {
    let names: Vec<String> = hosts.iter().map(|number| format!("k{number}")).collect();
    let mut text = "cluster: shop\nhosts:\n".to_owned();
    for number in 1..=6 {
        let rack = if number % 2 == 0 { "even" } else { "odd" };
        writeln!(text, "  k{number}: {{address: 10.0.0.{number}, rack: {rack}}}").unwrap();
    }
    writeln!(text, "kafka: {{hosts: [{}]{more}}}", names.join(", ")).unwrap();
    // A version that may need it.
    if more.contains("version: ") {
        text.push_str("zookeeper: {hosts: [k1, k2, k3]}\n");
    }
    let path = lab.folder.path().join("shop.yml");
    std::fs::write(&path, text).unwrap();
    crate::inventory::load(&path).unwrap()
}

/// Hosts of which the brokers say what they hold.
pub(super) fn speaking() -> Lab {
    let lab = Lab::new();
    lab.connect.kafka(|kafka| kafka.speaks = true);
    lab
}

fn view(lab: &Lab) -> View {
    lab.connect.kafka(|kafka| kafka.view.clone())
}

/// Replicas by broker.
fn held(view: &View) -> Vec<(i32, usize)> {
    view.brokers.keys().map(|id| (*id, view.on(*id).count())).collect()
}

pub(super) fn told(plan: &Plan) -> Vec<String> {
    let changes = plan.steps().filter(|(_, step)| matches!(step.action(), Action::ChangeMember(_)));
    changes.map(|(host, step)| format!("{host}: {}", step.action())).collect()
}

/// What holds once an apply has ended well.
pub(super) async fn check(lab: &Lab, inventory: &Inventory, members: usize) {
    let plan = lab.plan(inventory).await;
    assert!(
        plan.is_empty() && plan.refused.is_empty(),
        "{:#?} {:?}",
        plan.steps().collect::<Vec<_>>(),
        plan.refused
    );
    let lock = lab.prepare(inventory).lock;
    let controllers = lock.kafka.iter().flat_map(|kafka| &kafka.controllers);
    let controllers: BTreeSet<u32> = controllers.filter_map(|host| lock.node_id(host)).collect();
    lab.connect.kafka(|kafka| {
        assert_eq!(kafka.faults, [""; 0]);
        let ids = |ids: &mut dyn Iterator<Item = &i32>| ids.map(|id| u32::try_from(*id).unwrap()).collect();
        let voters: BTreeSet<u32> = ids(&mut kafka.voters.keys());
        assert_eq!(voters, controllers, "who votes");
        let running: BTreeSet<u32> = ids(&mut kafka.controllers.iter());
        assert_eq!(running, controllers, "who runs as a controller");
        let registered = kafka.registered();
        assert_eq!(registered.len(), members, "{registered:?}");
        assert!(kafka.view.throttled.is_empty() && kafka.view.moving.is_empty());
        for partition in &kafka.view.partitions {
            assert_eq!(partition.in_sync, partition.replicas.iter().copied().collect(), "{partition}");
            assert!(partition.replicas.iter().all(|id| registered.contains_key(id)), "{partition}");
        }
    });
}

#[test]
fn three_four_three() {
    block_on(async {
        let lab = speaking();
        let three = brokers(&lab, &[1, 2, 3], "");
        lab.apply(&three).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        check(&lab, &three, 3).await;

        let four = brokers(&lab, &[1, 2, 3, 4], "");
        let plan = lab.plan(&four).await;
        assert_eq!(told(&plan), ["k1: broker 4 (k4) gets 6; at most 50 MiB a second at each broker"]);
        assert_eq!(plan.hosts().into_iter().collect::<Vec<_>>(), ["k1", "k4"], "nobody else is touched");
        assert_eq!(plan.summary().restarts, 0);
        let (_, report) = lab.apply(&four).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(held(&view(&lab)), [(1, 6), (2, 6), (3, 6), (4, 6)]);
        check(&lab, &four, 4).await;

        let three = brokers(&lab, &[1, 2, 3], "");
        let plan = lab.plan(&three).await;
        assert_eq!(
            told(&plan),
            [
                "k1: broker 4 (k4) is emptied of 6 replicas, broker 1 (k1) gets 2, broker 2 (k2) gets 2, broker 3 (k3) gets 2; at most 50 MiB a second at each broker",
                "k1: broker 4 (k4) is unregistered"
            ]
        );
        let services: Vec<&str> = plan.stages.iter().map(|stage| stage.service.as_str()).collect();
        assert_eq!(services[..services.len() - 2], ["kafka partitions", "agent", "kafka", "kafka members"]);
        let (_, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(held(&view(&lab)), [(1, 8), (2, 8), (3, 8)]);
        check(&lab, &three, 3).await;
        lab.connect.host("k4").with(|host| assert!(host.active.is_empty()));
    });
}

#[test]
fn a_broker_that_cannot_be_emptied_stays() {
    block_on(async {
        let lab = speaking();
        let three = brokers(&lab, &[1, 2, 3, 4], "");
        lab.apply(&three).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 4, 4, 2));
        let refused = lab.plan(&brokers(&lab, &[1, 2, 3], "")).await.refused;
        assert_eq!(
            refused,
            [
                "broker 4 (k4) cannot leave: rows-0 has 4 replicas and only 3 brokers could hold them. Keep it under `kafka.hosts`, or add another broker first"
            ]
        );
        // Nobody can be asked.
        lab.connect.kafka(|kafka| kafka.view.brokers.values_mut().for_each(|broker| broker.fenced = true));
        let refused = lab.plan(&brokers(&lab, &[1, 2, 3], "")).await.refused;
        assert_eq!(refused.len(), 1);
        assert!(refused[0].starts_with("k4: its broker would be stopped with its replicas, and no broker"));
    });
}

#[test]
fn who_is_down_and_alone_has_what_was_written_does_not_leave() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1, 2, 3, 4], "")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("single", 4, 1, 1));
        lab.connect.host("k4").with(|host| host.active.remove("aesop-kafka.service"));
        lab.connect.kafka_notices();
        let plan = lab.plan(&brokers(&lab, &[1, 2, 3], "")).await;
        assert_eq!(
            plan.refused,
            [
                "broker 4 (k4) is down and alone has what was last acknowledged of single-3. Start it, then apply"
            ]
        );
    });
}

#[test]
fn a_broker_is_stopped_for_good_only_when_it_is_empty() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1, 2, 3, 4], "")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        // The emptying fails: nothing of k4 goes, and it runs on.
        lab.connect.host("k1").with(|host| host.fails = vec!["member|86400|kafka-brokers".to_owned()]);
        let three = brokers(&lab, &[1, 2, 3], "");
        let (_, report) = lab.apply(&three).await;
        assert!(!report.is_success());
        lab.connect.host("k4").with(|host| {
            assert!(host.active.contains("aesop-kafka.service"));
            assert!(host.files.contains_key("/etc/aesop/kafka/server.properties"));
            assert!(host.links.contains_key("/opt/aesop/bin/aesop"), "{:?}", host.links);
            host.fails.clear();
        });
        lab.connect.host("k1").with(|host| host.fails.clear());
        let (_, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        check(&lab, &three, 3).await;
    });
}

#[test]
fn partitions_stay_where_they_are_when_that_is_wished() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1, 2, 3], "")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        let never = ", rebalance: never";
        let (plan, report) = lab.apply(&brokers(&lab, &[1, 2, 3, 4], never)).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(plan.notes, ["broker 4 (k4) joins without partitions: `kafka.rebalance` is `never`"]);
        check(&lab, &brokers(&lab, &[1, 2, 3, 4], never), 4).await;
        assert_eq!(view(&lab).on(4).count(), 0);
        // Empty, it may go.
        let three = brokers(&lab, &[1, 2, 3], never);
        assert!(lab.apply(&three).await.1.is_success());
        check(&lab, &three, 3).await;
    });
}

#[test]
fn the_feature_level_follows_the_version() {
    block_on(async {
        let lab = speaking();
        let older = brokers(&lab, &[1, 2, 3], ", version: 4.1.1");
        lab.apply(&older).await;
        check(&lab, &older, 3).await;
        let newer = brokers(&lab, &[1, 2, 3], ", version: 4.2.0");
        lab.connect.host("k2").with(|host| host.fails = vec!["gate|aesop-kafka".to_owned()]);
        let (plan, report) = lab.apply(&newer).await;
        assert!(!report.is_success());
        assert_eq!(told(&plan), ["k1: metadata.version is raised to what Kafka 4.2.0 brings, for good"]);
        assert_eq!(view(&lab).feature.unwrap().finalized, 27, "not before all of them run it");
        lab.connect.host("k2").with(|host| host.fails.clear());
        assert!(lab.apply(&newer).await.1.is_success());
        assert_eq!(view(&lab).feature.unwrap().finalized, 29);
        check(&lab, &newer, 3).await;
    });
}

#[test]
fn what_a_restart_makes_unavailable_is_named() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1, 2, 3], "")).await;
        lab.connect.kafka(|kafka| {
            kafka.create_topic("rows", 3, 3, 2);
            kafka.create_topic("single", 2, 1, 1);
        });
        let plan = lab.plan(&brokers(&lab, &[1, 2, 3], ", config: {queued.max.requests: 400}")).await;
        let turns = plan.schedule();
        let unavailable: Vec<Option<&str>> = turns.iter().map(|turn| turn.unavailable.as_deref()).collect();
        assert_eq!(
            unavailable,
            [
                Some("writing to single-0: no more replicas than must be in sync"),
                Some("writing to single-1: no more replicas than must be in sync"),
                None
            ]
        );
    });
}

#[test]
fn an_empty_disk_is_taken_only_when_somebody_says_that_it_was_lost() {
    block_on(async {
        let lab = speaking();
        let three = brokers(&lab, &[1, 2, 3], "");
        lab.apply(&three).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
        let marker = "/var/lib/aesop/kafka/meta.properties";
        lab.connect.host("k3").with(|host| {
            host.active.remove("aesop-kafka.service");
            host.files.remove(marker).unwrap();
        });
        lab.connect.kafka_notices();
        let refused = lab.plan(&three).await.refused;
        assert_eq!(
            refused,
            [
                "k3: /var/lib/aesop/kafka/meta.properties is not there, and broker 3 has lived on this host: its disk was lost, replaced or not mounted. Mount it; or, if its data is gone for good, say so with `aesop lost-disk k3 kafka`: the next apply gives it an empty one, and it copies all from the other brokers"
            ]
        );
        let path = crate::lock::path_for(&three.path);
        let mut lock = crate::lock::Lock::load(&path, "shop").unwrap();
        assert_eq!(lock.with_data("k3"), ["kafka"]);
        lock.lose_disk("k3", "kafka");
        lock.save(&path).unwrap();
        let prepared = lab.prepare(&three);
        // Said while an apply goes on, it stays said; one that was planned before does not begin.
        lock.lose_disk("k2", "kafka");
        lock.save(&path).unwrap();
        prepared.settle(&prepared.desired, &Report::default()).unwrap();
        assert_eq!(crate::lock::Lock::load(&path, "shop").unwrap().kafka.unwrap().lost_disks.len(), 2);
        assert!(prepared.save_lock().is_err());
        prepared.lock.save(&path).unwrap();
        // Not while it alone has something.
        lab.connect.kafka(|kafka| kafka.view.partitions[0].in_sync = BTreeSet::from([3]));
        let refused = lab.plan_prepared(&three, &prepared).await.refused;
        assert!(refused[0].contains("alone had what was last acknowledged of rows-0"), "{refused:?}");
        lab.connect.kafka(|kafka| kafka.view.partitions[0].in_sync = BTreeSet::from([1, 2]));
        // It dies between the format and the vote, and goes on from there.
        let mut lines = 0;
        while lab.connect.host("k3").with(|host| !host.active.contains("aesop-kafka.service")) {
            lines += 1;
            lab.connect.dies_after(Some(lines));
            lab.apply_prepared(&three, &prepared).await;
            lab.connect.dies_after(None);
            for name in ["k1", "k2", "k3"] {
                lab.connect.host(name).with(|host| host.lock = None);
            }
        }
        let (plan, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(told(&plan).last().unwrap(), "k1: controller 3 (k3) votes again, with its new disk");
        lab.connect.host("k3").with(|host| {
            assert_eq!(host.log.iter().filter(|line| line.starts_with("kafka-format")).count(), 2);
        });
        check(&lab, &three, 3).await;
    });
}

/// The others may restart only once its dead vote is exchanged.
#[test]
fn a_lost_disk_and_a_restart_of_all_go_together() {
    block_on(async {
        let lab = speaking();
        let three = brokers(&lab, &[1, 2, 3], "");
        lab.apply(&three).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
        lab.connect.host("k1").with(|host| {
            host.active.remove("aesop-kafka.service");
            host.files.remove("/var/lib/aesop/kafka/meta.properties").unwrap();
        });
        lab.connect.kafka_notices();
        let path = crate::lock::path_for(&three.path);
        let mut lock = crate::lock::Lock::load(&path, "shop").unwrap();
        lock.lose_disk("k1", "kafka");
        lock.save(&path).unwrap();
        let next = brokers(&lab, &[1, 2, 3], ", config: {queued.max.requests: 501}");
        let (plan, report) = lab.apply(&next).await;
        assert!(report.is_success() && plan.refused.is_empty(), "{report:#?}");
        assert_eq!(plan.summary().restarts, 2, "{plan:#?}");
        check(&lab, &next, 3).await;
    });
}

#[test]
fn a_host_that_is_gone_is_forgotten_from_the_surviving_side() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1, 2, 3, 4], "")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        let three = brokers(&lab, &[1, 2, 3], "");
        let gone = |prepared: &mut Prepared| {
            prepared.desired.remove("k4");
            prepared.hosts.remove("k4");
            prepared.lock.leave("k4");
        };
        let mut prepared = lab.prepare(&three);
        gone(&mut prepared);
        let refused = lab.plan_prepared(&three, &prepared).await.refused;
        assert!(refused[0].starts_with("broker 4 (k4) takes part in the cluster"), "{refused:?}");
        lab.connect.host("k4").with(|host| {
            host.unreachable = true;
            host.active.clear();
        });
        lab.connect.kafka_notices();
        let plan = lab.plan(&three).await;
        assert_eq!(told(&plan), [""; 0], "an apply alone does not give it up");
        assert!(plan.notes.iter().any(|note| note.contains("`aesop forget k4`")), "{:?}", plan.notes);
        let (plan, report) = lab.apply_prepared(&three, &prepared).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(told(&plan).len(), 2, "{plan:#?}");
        assert!(!prepared.lock.hosts.contains_key("k4"));
        check(&lab, &three, 3).await;
    });
}

#[test]
fn what_a_dead_broker_alone_had_is_lost_only_where_somebody_says_so() {
    block_on(async {
        let lab = speaking();
        lab.apply(&brokers(&lab, &[1, 2, 3, 4], "")).await;
        lab.connect.kafka(|kafka| {
            kafka.create_topic("rows", 4, 3, 2);
            kafka.create_topic("single", 4, 1, 1);
        });
        lab.connect.host("k4").with(|host| {
            host.unreachable = true;
            host.active.clear();
        });
        lab.connect.kafka_notices();
        // Of rows-1 the others are behind.
        lab.connect.kafka(|kafka| {
            let partition = &mut kafka.view.partitions[1];
            (partition.leader, partition.in_sync) = (None, BTreeSet::from([4]));
        });
        let three = brokers(&lab, &[1, 2, 3], "");
        let forgetting = |accepts: bool| {
            let mut prepared = lab.prepare(&three);
            prepared.desired.remove("k4");
            prepared.hosts.remove("k4");
            prepared.lock.leave("k4");
            let parts = prepared.desired.values_mut().flat_map(|state| &mut state.parts);
            for broker in parts.filter_map(|part| part.broker.as_mut()).filter(|_| accepts) {
                broker.given_up.insert("k4".to_owned());
            }
            prepared
        };
        let refused = lab.plan_prepared(&three, &forgetting(false)).await.refused;
        assert_eq!(
            refused,
            [
                "broker 4 (k4) is down and alone has what was last acknowledged of rows-1 and 1 more. Bring it back with its disk; or give up what nobody else has, with `aesop forget k4 --accept-data-loss`"
            ]
        );
        let plan = lab.plan_prepared(&three, &forgetting(true)).await;
        assert_eq!(plan.refused, [""; 0]);
        assert_eq!(
            plan.notes,
            [
                "single-3 is LOST whole, and begins anew with nothing; broker 4 (k4) alone had it",
                "rows-1 LOSES what was written last: a broker that is behind leads it from then on; broker 4 (k4) alone had it"
            ]
        );
        // Whoever carries it out dies at each of its steps.
        let mut lines = 0;
        while lab.connect.kafka(|kafka| kafka.view.brokers.contains_key(&4)) {
            lines += 1;
            lab.connect.dies_after(Some(lines));
            lab.apply_prepared(&three, &forgetting(true)).await;
            lab.connect.dies_after(None);
            for name in ["k1", "k2", "k3"] {
                lab.connect.host(name).with(|host| host.lock = None);
            }
        }
        lab.apply_prepared(&three, &forgetting(true)).await;
        check(&lab, &three, 3).await;
        let lost = lab.connect.kafka(|kafka| kafka.lost.clone());
        assert_eq!(lost, BTreeSet::from(["rows-1".to_owned(), "single-3".to_owned()]));
    });
}

#[test]
fn a_new_broker_does_not_take_the_data_of_one_that_left() {
    block_on(async {
        let lab = speaking();
        let three = brokers(&lab, &[1, 2, 3], "");
        lab.apply(&three).await;
        lab.connect.host("k4").with(|host| {
            let file = (b"cluster.id=x\nnode.id=4\n".to_vec(), "600".into(), "kafka".into(), "kafka".into());
            host.files.insert("/var/lib/aesop/kafka/meta.properties".to_owned(), file);
        });
        let mut prepared = lab.prepare(&brokers(&lab, &[1, 2, 3, 4], ""));
        for part in &mut prepared.desired.get_mut("k4").unwrap().parts {
            part.broker.iter_mut().for_each(|broker| broker.id = 5);
        }
        let refused = lab.plan_prepared(&three, &prepared).await.refused;
        assert!(refused.iter().any(|line| line.ends_with("move /var/lib/aesop/kafka away")), "{refused:?}");
    });
}

/// An edit: which of the brokers that are no controllers there are, a topic that comes before it, and where the apply
/// dies.
type Edit = (BTreeSet<usize>, Option<(usize, usize)>, Vec<usize>);

fn edit() -> impl Strategy<Value = Edit> {
    let topic = prop::option::of((1..9_usize, 1..4_usize));
    (prop::collection::btree_set(4..7_usize, 0..4), topic, prop::collection::vec(0..150_usize, 0..3))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn brokers_come_and_go_wherever_it_is_broken_off(
        edits in prop::collection::vec(edit(), 1..4), on_zookeeper in any::<bool>(),
    ) {
        block_on(async {
            let lab = speaking();
            let version = if on_zookeeper { ", version: 3.9.1" } else { "" };
            lab.apply(&brokers(&lab, &[1, 2, 3], version)).await;
            for (number, (more, topic, deaths)) in edits.into_iter().enumerate() {
                if let Some((partitions, factor)) = topic {
                    let needed = factor.saturating_sub(1).max(1);
                    lab.connect.kafka(|kafka| kafka.create_topic(&format!("t{number}"), partitions, factor, needed));
                }
                let hosts: Vec<usize> = (1..4).chain(more).collect();
                let inventory = brokers(&lab, &hosts, version);
                lab.dies(&inventory, deaths).await;
                let (plan, report) = lab.apply(&inventory).await;
                assert!(report.is_success(), "{report:#?}\n{plan:#?}");
                check(&lab, &inventory, hosts.len()).await;
            }
        });
    }
}
