//! What a plan must not do.

use super::*;
use crate::inventory::model::KafkaMode;
use crate::plan::selection;
use std::collections::BTreeSet;

/// The refusals of a plan that say `words`.
fn about<'a>(refused: &'a [String], words: &str) -> Vec<&'a String> {
    refused.iter().filter(|line| line.contains(words)).collect()
}

#[test]
fn a_controller_leaves_only_where_the_others_can_be_a_majority() {
    block_on(async {
        let lab = Lab::new();
        lab.connect.kafka(|kafka| kafka.speaks = true);
        let three = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&three).await;
        let plan = lab.plan(&three).await;
        assert!(plan.refused.is_empty() && plan.notes.is_empty(), "{plan:#?}");

        let two = inventory(lab.folder.path(), 2, 1, 1, false);
        assert!(lab.plan(&two).await.refused.is_empty());
        lab.connect.host("k1").with(|host| host.active.remove("aesop-kafka.service"));
        lab.connect.kafka_notices();
        let refused = lab.plan(&two).await.refused;
        let words = "controller 3 must keep its vote now: of the 2 others 1 are caught up, 2 are needed";
        assert_eq!(about(&refused, words).len(), 1, "{refused:#?}");
    });
}

#[test]
fn an_older_version_is_refused_where_a_newer_one_runs() {
    block_on(async {
        let lab = Lab::new();
        let newer = inventory(lab.folder.path(), 3, 1, 1, false);
        let mut older = newer.clone();
        older.kafka.as_mut().unwrap().version = "4.1.1".to_owned();
        lab.apply(&older).await;
        assert!(lab.plan(&newer).await.refused.is_empty(), "newer is welcome");
        lab.apply(&newer).await;
        let refused = lab.plan(&older).await.refused;
        let words = "kafka 4.2.0 runs and the inventory says 4.1.1";
        assert_eq!(refused.iter().filter(|line| line.contains(words)).count(), 3, "{refused:#?}");
    });
}

#[test]
fn an_id_that_disagrees_with_the_lock_refuses_the_plan() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        lab.connect.host("k2").with(|state| {
            let myid = state.files.get_mut("/var/lib/aesop/zookeeper/myid").unwrap();
            myid.0 = b"7\n".to_vec();
        });
        let plan = lab.plan(&inventory).await;
        assert_eq!(
            plan.refused,
            [
                "k2: /var/lib/aesop/zookeeper/myid says 7, the lock file says 2; an id must never move. Bring the right lock file, or move the old data away"
            ]
        );
    });
}

#[test]
fn data_does_not_move_because_a_path_changes() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let kafka = inventory.kafka.as_mut().unwrap();
        kafka.data_dirs = vec!["/srv/kafka".into()];
        inventory.relays.as_mut().unwrap().data_dir = "/srv/relay".into();
        let refused = lab.plan(&inventory).await.refused;
        assert_eq!(about(&refused, "holds data of kafka").len(), 3, "{refused:#?}");
        assert_eq!(about(&refused, "holds data of relay").len(), 1, "{refused:#?}");
    });
}

#[test]
fn partitions_of_a_group_stay_and_those_of_topics_only_grow() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        let topic = |inventory: &mut Inventory, partitions| {
            inventory.consumers.get_mut("kafka-json").unwrap().sink.topic_partitions = partitions;
        };
        topic(&mut inventory, 8);
        lab.apply(&inventory).await;
        topic(&mut inventory, 12);
        let grown = lab.plan(&inventory).await;
        assert!(grown.refused.is_empty(), "{:#?}", grown.refused);
        assert_eq!(about(&grown.notes, "keys move to other partitions").len(), 1, "{:#?}", grown.notes);
        topic(&mut inventory, 4);
        let refused = lab.plan(&inventory).await.refused;
        assert_eq!(about(&refused, "Kafka cannot take partitions away").len(), 1, "{refused:#?}");
        topic(&mut inventory, 8);
        inventory.consumers.get_mut("kafka-json").unwrap().partitions += 1;
        let refused = lab.plan(&inventory).await.refused;
        assert_eq!(about(&refused, "fixed for its life").len(), 1, "{refused:#?}");
    });
}

#[test]
fn a_selection_does_not_tear_a_quorum() {
    block_on(async {
        let lab = Lab::new();
        let older = {
            let mut older = inventory(lab.folder.path(), 3, 1, 1, false);
            older.kafka.as_mut().unwrap().version = "4.1.1".to_owned();
            older
        };
        let refused = async |inventory: &Inventory, hosts: &[&str]| {
            let prepared = lab.prepare(inventory);
            let (_, observed) = observe(&lab.connect, &prepared.hosts, &prepared.desired, 4).await;
            let plan = plan(&inventory.cluster, &prepared.desired, &observed);
            let selected: BTreeSet<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            selection(&plan, &prepared.desired, &observed, &selected)
        };
        let words = "without k2, k3, which belongs to the same quorum";
        assert_eq!(about(&refused(&older, &["k1"]).await, words).len(), 2, "ZooKeeper and Kafka");
        assert_eq!(refused(&older, &["k1", "k2", "k3", "r1"]).await, [""; 0]);
        lab.apply(&older).await;
        // The jars of the newer version lie on no host yet.
        let newer = inventory(lab.folder.path(), 3, 1, 1, false);
        let prepared = lab.prepare(&newer);
        for host in ["k1", "k2", "k3"] {
            let parts = prepared.desired[host].parts.iter().flat_map(|part| &part.artifacts);
            let jars: Vec<String> =
                parts.filter(|jar| jar.name.starts_with("kafka")).map(|jar| jar.id.clone()).collect();
            lab.connect.host(host).with(|state| state.artifacts.retain(|id| !jars.contains(id)));
        }
        let (_, observed) = observe(&lab.connect, &prepared.hosts, &prepared.desired, 4).await;
        let plan = plan(&newer.cluster, &prepared.desired, &observed);
        let selected = BTreeSet::from(["k1".to_owned(), "k2".to_owned()]);
        let torn = selection(&plan, &prepared.desired, &observed, &selected);
        assert_eq!(
            about(&torn, "at two versions: the new one on k1, k2, the old one on k3").len(),
            1,
            "{torn:#?}"
        );
    });
}

/// Kafka with TLS, the ways of its authority and whether it has users as given.
fn secure(mut inventory: Inventory, tls: bool, sasl: bool, valid_days: u64) -> Inventory {
    use crate::inventory::model::{KafkaAuthority, KafkaSasl, KafkaTls, SecretRef};
    let day = std::time::Duration::from_hours(24);
    let kafka = inventory.kafka.as_mut().unwrap();
    let authority = KafkaAuthority::Own;
    kafka.tls =
        tls.then(|| KafkaTls { authority, valid: day * valid_days.try_into().unwrap(), renew: day * 20 });
    let own = (KafkaSasl::OWN.to_owned(), SecretRef::Generated("kafka-aesop".to_owned()));
    kafka.sasl = sasl.then(|| KafkaSasl { users: BTreeMap::from([own]) });
    inventory
}

#[test]
fn kafka_speaks_tls_from_its_beginning_or_from_a_standstill() {
    block_on(async {
        let turns =
            [((false, false), (true, false)), ((true, false), (true, true)), ((true, true), (false, false))];
        for (release, (before, after)) in
            ["3.9.1", "4.2.0"].into_iter().flat_map(|release| turns.map(|turn| (release, turn)))
        {
            let lab = Lab::new();
            let mut plain = inventory(lab.folder.path(), 3, 1, 1, false);
            let role = plain.kafka.as_mut().unwrap();
            (role.version, role.mode) = (release.to_owned(), KafkaMode::of(release));
            let after = secure(plain.clone(), after.0, after.1, 100);
            lab.apply(&secure(plain.clone(), before.0, before.1, 100)).await;
            let refused = lab.plan(&after).await.refused;
            assert_eq!(about(&refused, "Stop all of it").len(), 3, "{refused:#?}");
            for host in ["k1", "k2"] {
                lab.connect.host(host).with(|state| state.active.remove("aesop-kafka.service"));
            }
            let refused = lab.plan(&after).await.refused;
            assert_eq!(about(&refused, "Stop all of it").len(), 1, "one still runs: {refused:#?}");
            lab.connect.host("k3").with(|state| state.active.remove("aesop-kafka.service"));
            let (plan, _) = lab.apply(&after).await;
            assert!(plan.refused.is_empty(), "{:#?}", plan.refused);
            assert!(lab.plan(&after).await.is_empty());
        }
    });
}

#[test]
fn trust_and_certificates_change_one_after_the_other() {
    block_on(async {
        let lab = Lab::new();
        let inventory = secure(inventory(lab.folder.path(), 3, 1, 1, false), true, true, 100);
        lab.apply(&inventory).await;
        let file = |name: &str| lab.folder.path().join("shop.secrets/kafka-tls").join(name);
        let again = || {
            for host in 1..=3 {
                std::fs::remove_file(file(&format!("k{host}_10.0.0.1{host}.pem"))).unwrap();
            }
        };
        let restarts = |plan: &crate::plan::Plan| {
            plan.schedule().iter().filter(|turn| turn.unit == "aesop-kafka.service").count()
        };
        again();
        let plan = lab.plan(&inventory).await;
        assert!(plan.refused.is_empty(), "{:#?}", plan.refused);
        assert_eq!(restarts(&plan), 3, "a renewal, one broker after the other: {:#?}", plan.schedule());
        lab.apply(&inventory).await;
        std::fs::rename(file("ca.crt"), file("former.crt")).unwrap();
        std::fs::remove_file(file("ca.key")).unwrap();
        again();
        let refused = lab.plan(&inventory).await.refused;
        assert_eq!(about(&refused, "both its certificate and the authorities").len(), 3, "{refused:#?}");
    });
}
