//! Kafka 3.9: its metadata is in ZooKeeper, and stays there.

use super::brokers::{brokers, check, speaking, told};
use super::*;
use std::collections::BTreeSet;

const THREE: [usize; 3] = [1, 2, 3];

fn version(lab: &Lab, version: &str) -> Inventory {
    brokers(lab, &THREE, &format!(", version: {version}"))
}

fn settings(lab: &Lab, host: &str) -> String {
    lab.connect
        .host(host)
        .with(|host| String::from_utf8(host.files["/etc/aesop/kafka/server.properties"].0.clone()).unwrap())
}

#[test]
fn brokers_meet_in_zookeeper_and_nothing_is_formatted() {
    block_on(async {
        let lab = speaking();
        let three = version(&lab, "3.9.0");
        let (plan, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        check(&lab, &three, 3).await;
        let services: Vec<&str> = plan.stages.iter().map(|stage| stage.service.as_str()).collect();
        assert_eq!(services[..3], ["base", "zookeeper", "kafka"]);
        let text = settings(&lab, "k2");
        for line in [
            "broker.id=2",
            "zookeeper.connect=10.0.0.1:2181,10.0.0.2:2181,10.0.0.3:2181/kafka",
            "inter.broker.protocol.version=3.9",
            "zookeeper.set.acl=true",
            "listeners=PLAINTEXT://10.0.0.2:9092",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        for unknown in ["process.roles", "node.id", "controller", "CONTROLLER", "share."] {
            assert!(!text.contains(unknown), "{unknown}: {text}");
        }
        lab.connect.host("k1").with(|host| {
            assert!(!host.log.iter().any(|step| step.starts_with("kafka-format")), "{:?}", host.log);
        });
    });
}

/// Both sides have the password in a file of their own, and nowhere else; who needs none has none.
#[test]
fn brokers_log_in_at_zookeeper() {
    block_on(async {
        let lab = speaking();
        lab.apply(&version(&lab, "3.9.1")).await;
        let password = lab.folder.path().join("shop.secrets/zookeeper-kafka");
        let password = std::fs::read_to_string(password).unwrap().trim().to_owned();
        let of = |host: &str| {
            lab.connect.host(host).with(|host| {
                let text = |(bytes, ..): &(Vec<u8>, String, String, String)| {
                    String::from_utf8_lossy(bytes).into_owned()
                };
                let told = host.files.iter().filter(|(_, file)| text(file).contains(&password));
                let told: Vec<_> =
                    told.map(|(path, file)| (path.clone(), file.1.clone(), file.2.clone())).collect();
                let unit =
                    |name: &str| text(&host.files[&format!("/etc/systemd/system/aesop-{name}.service")]);
                (told, ["kafka", "zookeeper"].map(unit))
            })
        };
        let (told, units) = of("k2");
        let file =
            |user: &str| (format!("/etc/aesop/secrets/{user}-login"), "600".to_owned(), user.to_owned());
        assert_eq!(told, ["kafka", "zookeeper"].map(file));
        for (unit, user) in units.iter().zip(["kafka", "zookeeper"]) {
            let option = format!("-Djava.security.auth.login.config=/etc/aesop/secrets/{user}-login");
            assert!(unit.contains(&option), "{unit}");
        }
        let lab = speaking();
        lab.apply(&version(&lab, "4.2.0")).await;
        lab.connect.host("k2").with(|host| {
            assert!(!host.files.keys().any(|path| path.ends_with("-login")), "{:?}", host.files.keys());
        });
    });
}

#[test]
fn another_release_of_the_series_is_a_rolling_restart_alone() {
    block_on(async {
        let lab = speaking();
        lab.apply(&version(&lab, "3.9.0")).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
        let newer = version(&lab, "3.9.1");
        let (plan, report) = lab.apply(&newer).await;
        assert!(report.is_success() && plan.refused.is_empty(), "{report:#?} {:?}", plan.refused);
        assert_eq!((plan.summary().restarts, told(&plan).len()), (3, 0), "{plan:#?}");
        assert_eq!(plan.notes, [""; 0]);
        check(&lab, &newer, 3).await;
        let refused = lab.plan(&version(&lab, "3.9.0")).await.refused;
        assert!(refused[0].contains("kafka 3.9.1 runs and the inventory says 3.9.0"), "{refused:?}");
    });
}

#[test]
fn metadata_does_not_move() {
    block_on(async {
        for (runs, wanted, words) in [
            ("3.9.1", "4.2.0", "Kafka keeps its metadata in ZooKeeper, and the version in the inventory has"),
            ("4.2.0", "3.9.1", "Kafka has controllers of its own, and the version in the inventory keeps"),
        ] {
            let lab = speaking();
            lab.apply(&version(&lab, runs)).await;
            lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
            let refused = lab.plan(&version(&lab, wanted)).await.refused;
            assert_eq!(refused.len(), 3, "each host, and for nothing else: {refused:#?}");
            assert!(refused[0].starts_with(&format!("k1: {words}")), "{refused:?}");
            assert!(refused[0].contains("Put the version back"), "{refused:?}");
            // Nor where nobody can be asked.
            lab.connect.kafka(|kafka| kafka.speaks = false);
            assert_eq!(lab.plan(&version(&lab, wanted)).await.refused, refused);
        }
    });
}

#[test]
fn a_lost_disk_is_refused_until_said_so() {
    block_on(async {
        let lab = speaking();
        let three = version(&lab, "3.9.1");
        lab.apply(&three).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
        lab.connect.host("k3").with(|host| {
            host.active.remove("aesop-kafka.service");
            host.files.retain(|path, _| !path.starts_with("/var/lib/aesop/kafka/"));
        });
        lab.connect.kafka_notices();
        let refused = lab.plan(&three).await.refused;
        assert_eq!(refused.len(), 1, "{refused:?}");
        assert!(
            refused[0].starts_with("k3: /var/lib/aesop/kafka/meta.properties is not there, and broker 3 has"),
            "{refused:?}"
        );
        let path = crate::lock::path_for(&three.path);
        let mut lock = crate::lock::Lock::load(&path, "shop").unwrap();
        lock.lose_disk("k3", "kafka");
        lock.save(&path).unwrap();
        // Not while it alone has something, also where that comes to be after the plan: it is left without a mark.
        let prepared = lab.prepare(&three);
        let plan = lab.plan_prepared(&three, &prepared).await;
        assert_eq!(plan.refused, [""; 0]);
        lab.connect.kafka(|kafka| kafka.view.partitions[0].in_sync = BTreeSet::from([3]));
        let report = lab.carry_out(&prepared, &prepared.desired, &plan).await;
        assert!(!report.is_success());
        lab.connect.host("k3").with(|host| {
            assert!(!host.files.contains_key("/var/lib/aesop/kafka/broker.id"));
            assert!(!host.active.contains("aesop-kafka.service"));
        });
        lab.connect.kafka(|kafka| kafka.view.partitions[0].in_sync = BTreeSet::from([1, 2]));
        let (_, report) = lab.apply(&three).await;
        assert!(report.is_success(), "{report:#?}");
        check(&lab, &three, 3).await;
    });
}

#[test]
fn a_mark_that_is_gone_is_no_lost_disk() {
    block_on(async {
        let lab = speaking();
        let three = version(&lab, "3.9.1");
        lab.apply(&three).await;
        lab.connect.host("k3").with(|host| host.files.remove("/var/lib/aesop/kafka/broker.id").unwrap());
        let (plan, report) = lab.apply(&three).await;
        assert!(report.is_success() && plan.refused.is_empty(), "{report:#?} {:?}", plan.refused);
        assert_eq!(plan.summary().restarts, 0);
        check(&lab, &three, 3).await;
    });
}

#[test]
fn brokers_do_not_start_without_a_majority_of_zookeeper() {
    block_on(async {
        for (release, starts) in [("3.9.1", false), ("4.2.0", true)] {
            let lab = speaking();
            let mut inventory = version(&lab, "3.9.1");
            let role = inventory.kafka.as_mut().unwrap();
            role.mode = crate::inventory::model::KafkaMode::of(release);
            release.clone_into(&mut role.version);
            for name in ["k1", "k2"] {
                lab.connect.host(name).with(|state| state.fails = vec!["gate|aesop-zookeeper".to_owned()]);
            }
            let (_, report) = lab.apply(&inventory).await;
            assert!(!report.is_success());
            let runs = lab.connect.host("k3").with(|state| state.active.contains("aesop-kafka.service"));
            assert_eq!(runs, starts, "{release}");
        }
    });
}

/// Brokers must know the members that stay before others leave.
#[test]
fn brokers_hear_of_new_members_before_old_ones_leave() {
    block_on(async {
        let lab = speaking();
        let mut inventory = version(&lab, "3.9.1");
        lab.apply(&inventory).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
        inventory.zookeeper.as_mut().unwrap().members.pop();
        inventory.zookeeper.as_mut().unwrap().members.pop();
        let plan = lab.plan(&inventory).await;
        let at = |service: &str, removes: bool| {
            let found =
                plan.stages.iter().position(|stage| stage.service == service && stage.removes == removes);
            found.unwrap_or_else(|| panic!("{service}: {:#?}", plan.stages))
        };
        assert!(at("kafka", false) < at("zookeeper", true), "{:#?}", plan.stages);
        // A broker that does not come back keeps them.
        lab.connect.host("k2").with(|host| host.fails = vec!["gate|aesop-kafka".to_owned()]);
        let (_, report) = lab.apply(&inventory).await;
        assert!(!report.is_success());
        lab.connect.host("k3").with(|host| assert!(host.active.contains("aesop-zookeeper.service")));
        lab.connect.host("k2").with(|host| host.fails.clear());
        let (_, report) = lab.apply(&inventory).await;
        assert!(report.is_success(), "{report:#?}");
        check(&lab, &inventory, 3).await;
        assert!(settings(&lab, "k3").contains("zookeeper.connect=10.0.0.1:2181/kafka"));
    });
}

#[test]
fn data_of_the_other_mode_is_not_taken() {
    block_on(async {
        for (release, data) in [("3.9.1", "version=1\nnode.id=1\n"), ("4.2.0", "version=0\nbroker.id=1\n")] {
            let lab = speaking();
            lab.connect.host("k1").with(|host| {
                let file = (data.as_bytes().to_vec(), "600".into(), "kafka".into(), "kafka".into());
                host.files.insert("/var/lib/aesop/kafka/meta.properties".to_owned(), file);
            });
            let refused = lab.plan(&version(&lab, release)).await.refused;
            assert_eq!(refused.len(), 1, "{refused:?}");
            assert!(refused[0].contains("kept its metadata elsewhere"), "{refused:?}");
            assert!(refused[0].ends_with("Move /var/lib/aesop/kafka away"), "{refused:?}");
        }
    });
}

#[test]
fn the_lock_file_has_no_cluster_id_and_no_controllers() {
    let lab = speaking();
    let kafka = lab.prepare(&version(&lab, "3.9.1")).lock.kafka.unwrap();
    assert_eq!((kafka.cluster_id.as_str(), kafka.controllers.len(), kafka.directory_ids.len()), ("", 0, 0));
    assert_eq!(kafka.nodes.ids.len(), 3);
}
