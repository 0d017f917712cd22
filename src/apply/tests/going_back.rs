//! Rollback, hosts that left the inventory, and the end of a cluster.

use super::*;
use crate::plan::{destroy, plan as make_plan};
use crate::service::HostState;
use expect_test::expect;
use std::collections::{BTreeMap, BTreeSet};

async fn former_of(
    lab: &Lab,
    prepared: &Prepared,
    generation: Option<u64>,
    since: Option<u64>,
) -> Result<(Session, Former), FormerError> {
    let (session, observed) = observe(&lab.connect, &prepared.hosts, &prepared.desired, 4).await;
    let selected: BTreeSet<String> = prepared.desired.keys().cloned().collect();
    let former = former(&session, &observed, &selected, generation, since, 4).await?;
    Ok((session, former))
}

#[test]
fn a_rollback_is_a_plan_through_the_same_gates() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 2, false);
        lab.apply(&inventory).await;
        let before = lab.connect.host("k1").with(|host| host.disk());
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        lab.apply(&inventory).await;
        let prepared = lab.prepare(&inventory);
        assert_eq!(former_of(&lab, &prepared, Some(2), None).await.unwrap_err(), FormerError::Last(2));
        let kept = "1, 2".to_owned();
        let unknown = FormerError::NotKept { generation: 7, kept };
        assert_eq!(former_of(&lab, &prepared, Some(7), None).await.unwrap_err(), unknown);
        let (session, former) = former_of(&lab, &prepared, None, None).await.unwrap();
        assert_eq!(former.generation, 1);
        let observed = observe_again(&session, &former.desired, 4).await;
        let plan = make_plan("shop", &former.desired, &observed);
        assert_eq!((plan.summary().restarts, plan.generation), (3, 3));
        assert!(plan.stages[0].waves.iter().all(|wave| wave.steps.len() == 1 && wave.gates.len() == 2));
        let report = lab.carry_out(&prepared, &former.desired, &plan).await;
        assert!(report.is_success(), "{report:#?}");
        lab.connect.host("k1").with(|host| {
            assert_eq!(host.disk(), before);
            assert_eq!(host.started_with["aesop-kafka.service"], before);
            assert_eq!(host.generation, 3);
        });
        // The inventory still says otherwise, and a plan says so.
        assert_eq!(lab.plan(&inventory).await.summary().restarts, 3);
    });
}

/// Also where hosts that are back already have made room for their new snapshot.
#[test]
fn a_way_back_that_was_broken_off_anywhere_is_gone_to_its_end() {
    block_on(async {
        let mut deaths = vec![None];
        while let Some(death) = deaths.pop() {
            let lab = Lab::new();
            let mut inventory = inventory(lab.folder.path(), 3, 1, 1, true);
            let mut before = BTreeMap::new();
            for requests in 16..21 {
                let role = inventory.kafka.as_mut().unwrap();
                role.config.insert("queued.max.requests".to_owned(), requests.to_string());
                assert!(lab.apply(&inventory).await.1.is_success());
                if requests == 16 {
                    before = lab.connect.host("k2").with(|host| host.disk());
                }
            }
            let prepared = lab.prepare(&inventory);
            let back = async |since: Option<u64>, death: Option<usize>| {
                let (session, former) = former_of(&lab, &prepared, Some(1), since).await.unwrap();
                let observed = observe_again(&session, &former.desired, 4).await;
                let plan = make_plan("shop", &former.desired, &observed);
                lab.connect.dies_after(death);
                let report = lab.carry_out(&prepared, &former.desired, &plan).await;
                lab.connect.dies_after(None);
                (plan, report)
            };
            lab.connect.take_trace();
            back(None, death).await;
            let lines = lab.connect.take_trace().len();
            if death.is_none() {
                deaths = (0..lines).filter(|line| line % 11 == 0 || line + 12 > lines).map(Some).collect();
                assert!(deaths.len() > 12, "{lines}");
            }
            for name in inventory.hosts.keys() {
                lab.connect.host(name).with(|host| {
                    assert!(host.lock.is_none() || host.operation == "asked", "{}", host.operation);
                    host.lock = None;
                });
            }
            let (_, report) = back(Some(5), None).await;
            assert!(report.is_success(), "{death:?}: {report:#?}");
            assert_eq!(lab.connect.host("k2").with(|host| host.disk()), before, "{death:?}");
            assert!(back(Some(5), None).await.0.is_empty(), "{death:?}");
        }
    });
}

#[test]
fn no_rollback_changes_who_is_in_a_quorum() {
    block_on(async {
        let lab = Lab::new();
        lab.apply(&inventory(lab.folder.path(), 3, 1, 1, false)).await;
        let grown = inventory(lab.folder.path(), 4, 1, 1, false);
        lab.apply(&grown).await;
        let error = former_of(&lab, &lab.prepare(&grown), None, None).await.unwrap_err();
        assert!(
            matches!(error, FormerError::Forgotten { ref host, ref kept, .. } if host == "k4" && kept == "2"),
            "{error}"
        );
        // Nor is a member that was changed too often left as it is while the others go back.
        let shrunk = lab.prepare(&inventory(lab.folder.path(), 3, 1, 1, false));
        lab.connect.host("k2").with(|host| host.generations.pop_first());
        let error = former_of(&lab, &shrunk, Some(1), None).await.unwrap_err();
        assert!(matches!(error, FormerError::Forgotten { ref host, .. } if host == "k2"), "{error}");
    });
}

#[test]
fn what_cannot_be_gone_back_to_says_why() {
    block_on(async {
        let lab = Lab::new();
        let mut inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let prepared = lab.prepare(&inventory);
        let why =
            async |generation| former_of(&lab, &prepared, generation, None).await.unwrap_err().to_string();
        expect!["no host keeps a generation before the last (1); there is nothing to go back to"]
            .assert_eq(&why(None).await);
        inventory.kafka.as_mut().unwrap().config.insert("queued.max.requests".to_owned(), "16".to_owned());
        lab.apply(&inventory).await;
        expect!["generation 2 is the last one; to repair it, run `aesop apply`"]
            .assert_eq(&why(Some(2)).await);
        expect!["no host keeps generation 7; there are 1, 2"].assert_eq(&why(Some(7)).await);
        let snapshot = |host: &str| lab.connect.host(host).with(|state| state.generations[&1].clone());
        let replace = |with: (String, String)| {
            lab.connect.host("k2").with(|state| state.generations.insert(1, with));
        };
        let (relay, whole) = (snapshot("r1"), snapshot("k2"));
        replace(relay);
        expect!["k2 had no quorum service in generation 1 and has kafka and zookeeper now; members of a quorum come and go by the inventory, not by a rollback"].assert_eq(&why(Some(1)).await);
        replace(("{\"parts\":".to_owned(), whole.1));
        expect!["k2: generation 1 is not readable: EOF while parsing a value at line 1 column 9"]
            .assert_eq(&why(Some(1)).await);
    });
}

#[test]
fn a_host_that_left_the_inventory_is_emptied_and_then_forgotten() {
    block_on(async {
        let lab = Lab::new();
        lab.apply(&inventory(lab.folder.path(), 1, 1, 2, false)).await;
        let after = inventory(lab.folder.path(), 1, 1, 1, false);
        // It cannot be reached, and stays known.
        lab.connect.host("c2").with(|host| host.unreachable = true);
        let (plan, report) = lab.apply(&after).await;
        assert!(plan.unreachable.contains_key("c2") && !report.is_success());
        assert!(lab.prepare(&after).desired.contains_key("c2"));
        lab.connect.host("c2").with(|host| host.unreachable = false);
        let (plan, report) = lab.apply(&after).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(plan.hosts().into_iter().collect::<Vec<_>>(), ["c2"]);
        lab.connect.host("c2").with(|host| {
            assert!(host.active.is_empty() && host.files.is_empty() && host.links.is_empty(), "{host:#?}");
            assert!(host.artifacts.is_empty());
            assert_eq!(host.generations.len(), 1);
            let secret = |(text, _): &(String, String)| text.contains("content");
            assert!(!host.generations.values().any(secret), "no snapshot with secrets stays");
        });
        assert!(!lab.prepare(&after).desired.contains_key("c2"));
        assert!(lab.plan(&after).await.is_empty());
    });
}

#[test]
fn a_destroyed_cluster_leaves_its_data_unless_asked_twice() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 2, 1, 1, true);
        lab.apply(&inventory).await;
        let prepared = lab.prepare(&inventory);
        let desired: BTreeMap<String, HostState> =
            prepared.desired.keys().map(|host| (host.clone(), HostState::default())).collect();
        for data in [false, true] {
            let (_, observed) = observe(&lab.connect, &prepared.hosts, &desired, 4).await;
            let plan = destroy("shop", &desired, &observed, data);
            let order: Vec<&str> = plan.stages.iter().map(|stage| stage.service.as_str()).collect();
            let all = [
                "monitor",
                "agent",
                "consumer/kafka-json",
                "relay",
                "kafka",
                "zookeeper",
                "base",
                "generation",
            ];
            let expected: &[&str] = if data { &["data"] } else { &all };
            assert_eq!(order, expected);
            let report = lab.carry_out(&prepared, &desired, &plan).await;
            assert!(report.is_success(), "{report:#?}");
            lab.connect.host("k1").with(|host| {
                assert!(host.active.is_empty() && host.enabled.is_empty() && host.links.is_empty());
                let ours = ["/etc/aesop", "/opt/aesop"];
                let left = |path: &&String| ours.iter().any(|root| path.starts_with(root));
                assert_eq!(host.files.keys().chain(host.directories.keys()).find(left), None);
                let kept = host.directories.contains_key("/var/lib/aesop/kafka");
                assert_eq!(kept, !data);
                assert_eq!(host.files.keys().any(|path| path.ends_with("/meta.properties")), !data);
            });
        }
    });
}

#[test]
fn hosts_keep_copies_from_which_a_lost_lock_file_comes_back() {
    block_on(async {
        let lab = Lab::new();
        lab.apply(&inventory(lab.folder.path(), 3, 1, 1, false)).await;
        // k1 to r1 are not touched by what comes after, and so keep an older copy.
        let grown = inventory(lab.folder.path(), 3, 1, 2, false);
        let (_, report) = lab.apply(&grown).await;
        assert!(report.is_success(), "{report:#?}");
        let answers = lock_copies(&lab.connect, &grown.hosts, 4).await;
        let copies: BTreeMap<String, String> = answers
            .into_iter()
            .map(|(host, copy)| (host.clone(), copy.unwrap().unwrap_or_else(|| panic!("{host} has no copy"))))
            .collect();
        assert!(copies["k1"].starts_with("# generation 1\n"), "{}", copies["k1"]);
        let (generation, lock) = crate::lock::Lock::newest(&copies).unwrap().unwrap();
        assert_eq!(generation, 2);
        let path = crate::lock::path_for(&grown.path);
        assert_eq!(lock.to_text(), std::fs::read_to_string(path).unwrap());
    });
}

#[test]
fn a_broker_that_reads_its_logs_is_not_restarted_to_put_anything_back() {
    block_on(async {
        let lab = super::brokers::speaking();
        let inventory = |requests: &str| {
            super::brokers::brokers(
                &lab,
                &[1, 2, 3],
                &format!(", config: {{queued.max.requests: {requests}}}"),
            )
        };
        lab.apply(&inventory("500")).await;
        lab.connect.kafka(|kafka| kafka.killed.insert(1));
        let changed = inventory("400");
        lab.clear_logs(&changed);
        let (_, report) = lab.apply(&changed).await;
        let [failure] = report.failures.as_slice() else { panic!("{report:#?}") };
        assert!(
            failure.error.contains("the former files were not put back, as kafka must not be stopped for that: k1: broker 1 reads its logs"),
            "{}",
            failure.error
        );
        assert_eq!(lab.restarted(), ["k1"]);
        lab.connect.host("k1").with(|host| {
            assert_eq!(host.log.iter().filter(|step| step.starts_with("restart")).count(), 1);
            let text =
                String::from_utf8_lossy(&host.files["/etc/aesop/kafka/server.properties"].0).into_owned();
            assert!(text.contains("queued.max.requests=400"), "{text}");
        });
        // It is through: the others follow, and it is left as it is.
        lab.connect.kafka(|kafka| kafka.recovering.clear());
        lab.clear_logs(&changed);
        let (_, report) = lab.apply(&changed).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(lab.restarted(), ["k2", "k3"]);
        super::brokers::check(&lab, &changed, 3).await;
    });
}
