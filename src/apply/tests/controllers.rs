//! Controllers come and go by editing the inventory: one vote after the other, and never without a majority.

use super::brokers::{brokers, check, speaking};
use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const UNIT: &str = "aesop-kafka.service";

/// An inventory with these brokers, and these controllers.
fn controlled(lab: &Lab, hosts: &[usize], controllers: &[usize]) -> Inventory {
    let names: Vec<String> = controllers.iter().map(|number| format!("k{number}")).collect();
    brokers(lab, hosts, &format!(", controllers: [{}]", names.join(", ")))
}

/// Who was restarted since the logs were cleared.
fn restarted(lab: &Lab) -> Vec<String> {
    let restarts = |name: &String| {
        lab.connect.host(name).with(|host| host.log.iter().any(|step| step.starts_with("restart")))
    };
    (1..=6).map(|number| format!("k{number}")).filter(restarts).collect()
}

/// What members are told that changes the cluster.
fn told(plan: &crate::plan::Plan) -> Vec<String> {
    let told = super::brokers::told(plan);
    told.into_iter().filter(|words| !words.ends_with("(no restart)")).collect()
}

async fn good(lab: &Lab, inventory: &Inventory, members: usize) -> crate::plan::Plan {
    lab.clear_logs(inventory);
    let (plan, report) = lab.apply(inventory).await;
    assert!(report.is_success() && plan.refused.is_empty(), "{report:#?}\n{:?}", plan.refused);
    check(lab, inventory, members).await;
    plan
}

#[test]
fn controllers_apart_from_the_first() {
    block_on(async {
        let lab = speaking();
        good(&lab, &controlled(&lab, &[1, 2, 3], &[4, 5, 6]), 3).await;
        lab.connect.host("k4").with(|host| {
            let (text, ..) = &host.files["/etc/aesop/kafka/server.properties"];
            let text = String::from_utf8_lossy(text);
            assert!(text.contains("process.roles=controller\n"), "{text}");
            assert!(text.contains("\nlisteners=CONTROLLER://10.0.0.4:9093\n"), "{text}");
        });
    });
}

#[test]
fn brokers_stop_before_the_controllers_that_they_need() {
    block_on(async {
        let lab = speaking();
        let inventory = controlled(&lab, &[4, 5, 6], &[1, 2, 3]);
        good(&lab, &inventory, 3).await;
        let prepared = lab.prepare(&inventory);
        let (_, observed) = observe(&lab.connect, &prepared.hosts, &prepared.desired, 4).await;
        let hosts = prepared.desired.keys().cloned().collect();
        let scope = crate::plan::Scope { hosts, services: vec!["kafka".to_owned()] };
        let stop = crate::plan::Operation::Stop;
        let plan = crate::plan::operate("shop", &prepared.desired, &observed, &scope, stop);
        let waves = plan.stages.iter().flat_map(|stage| &stage.waves);
        let order: Vec<&str> = waves.flat_map(|wave| wave.steps.keys()).map(String::as_str).collect();
        assert_eq!(order, ["k4", "k5", "k6", "k1", "k2", "k3"]);
    });
}

#[test]
fn they_move_to_hosts_of_their_own_and_back() {
    block_on(async {
        let lab = speaking();
        good(&lab, &brokers(&lab, &[1, 2, 3], ""), 3).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        let plan = good(&lab, &controlled(&lab, &[1, 2, 3], &[4, 5, 6]), 3).await;
        assert_eq!(
            told(&plan),
            [
                "k1: controller 4 (k4) gets a vote, controller 5 (k5) gets a vote, controller 6 (k6) gets a vote, controller 1 (k1) loses its vote, controller 2 (k2) loses its vote, controller 3 (k3) loses its vote, controllers are then 4, 5, 6"
            ]
        );
        let services: Vec<&str> = plan.stages.iter().map(|stage| stage.service.as_str()).collect();
        assert_eq!(services, ["base", "kafka", "kafka controllers", "kafka", "agent", "generation"]);
        good(&lab, &brokers(&lab, &[1, 2, 3], ", controllers: [k1, k2, k3]"), 3).await;
    });
}

#[test]
fn one_that_is_replaced_restarts_nobody_else() {
    block_on(async {
        let lab = speaking();
        good(&lab, &controlled(&lab, &[1, 2, 3], &[4, 5, 6]), 3).await;
        good(&lab, &controlled(&lab, &[1, 2, 3], &[4, 5, 1]), 3).await;
        assert_eq!(
            restarted(&lab),
            ["k1"],
            "it changes its role; the others find the active one by two they know"
        );
        good(&lab, &controlled(&lab, &[1, 2, 3], &[4, 2, 1]), 3).await;
        assert_eq!(restarted(&lab), ["k1", "k2", "k3", "k4"], "of those that they knew one is left");
    });
}

#[test]
fn one_three_one() {
    block_on(async {
        let lab = speaking();
        good(&lab, &brokers(&lab, &[1, 2], ""), 2).await;
        good(&lab, &controlled(&lab, &[1, 2], &[1, 3, 2]), 2).await;
        good(&lab, &controlled(&lab, &[1, 2], &[2]), 2).await;
    });
}

#[test]
fn in_place_of_a_controller_that_leaves_comes_another_broker() {
    block_on(async {
        let lab = speaking();
        good(&lab, &brokers(&lab, &[1, 2, 3, 4, 5], ""), 5).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        let plan = good(&lab, &brokers(&lab, &[1, 3, 4, 5], ""), 4).await;
        assert_eq!(
            told(&plan)[0],
            "k1: controller 4 (k4) gets a vote, controller 2 (k2) loses its vote, controllers are then 1, 3, 4"
        );
        // Below three there is one.
        lab.connect.kafka(|kafka| kafka.view.partitions.clear());
        let plan = good(&lab, &brokers(&lab, &[4, 5], ""), 2).await;
        assert!(told(&plan)[0].ends_with("controllers are then 4"), "{:?}", told(&plan));
    });
}

#[test]
fn a_broker_becomes_a_controller_alone_once_it_is_empty() {
    block_on(async {
        let lab = speaking();
        good(&lab, &brokers(&lab, &[1, 2, 3], ""), 3).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 8, 3, 2));
        let refused = lab.plan(&controlled(&lab, &[2, 3], &[1, 2, 3])).await.refused;
        assert_eq!(
            refused,
            [
                "broker 1 (k1) cannot leave: rows-0 has 3 replicas and only 2 brokers could hold them. Keep it under `kafka.hosts`, or add another broker first"
            ]
        );
        let apart = controlled(&lab, &[2, 3, 4], &[1, 2, 3]);
        // It is not touched while it holds anything.
        lab.clear_logs(&apart);
        lab.connect.host("k4").with(|host| host.fails = vec!["member|86400|kafka-brokers".to_owned()]);
        lab.connect.host("k2").with(|host| host.fails = vec!["member|86400|kafka-brokers".to_owned()]);
        assert!(!lab.apply(&apart).await.1.is_success());
        assert_eq!(restarted(&lab), [""; 0]);
        for host in ["k2", "k4"] {
            lab.connect.host(host).with(|host| host.fails.clear());
        }
        lab.clear_logs(&apart);
        let (plan, report) = lab.apply(&apart).await;
        assert!(report.is_success() && plan.refused.is_empty(), "{report:#?}\n{:?}", plan.refused);
        assert_eq!(
            told(&plan),
            [
                "k2: broker 1 (k1) is emptied of 8 replicas, broker 4 (k4) gets 8; at most 50 MiB a second at each broker",
                "k2: broker 1 (k1) is unregistered"
            ]
        );
        check(&lab, &apart, 3).await;
        assert_eq!(restarted(&lab), ["k1"]);
        // Another one, while a controller changes too; and one that never was a controller.
        good(&lab, &controlled(&lab, &[3, 4, 5], &[1, 2, 6]), 3).await;
        let refused = lab.plan(&controlled(&lab, &[3, 5, 6], &[1, 2, 4])).await.refused;
        assert!(refused[0].contains("only 2 brokers could hold them"), "k6 is one only later: {refused:?}");
        good(&lab, &controlled(&lab, &[1, 3, 5], &[1, 2, 4]), 3).await;
        good(&lab, &brokers(&lab, &[1, 2, 3, 4, 5], ""), 5).await;
    });
}

#[test]
fn a_controller_that_is_gone_is_forgotten_with_its_vote() {
    block_on(async {
        let lab = speaking();
        good(&lab, &controlled(&lab, &[1, 2, 3], &[4, 5, 6]), 3).await;
        let after = controlled(&lab, &[1, 2, 3], &[4, 5, 1]);
        let gone = || {
            let mut prepared = lab.prepare(&after);
            prepared.desired.remove("k6");
            prepared.hosts.remove("k6");
            prepared.lock.leave("k6");
            prepared
        };
        let refused = lab.plan_prepared(&after, &gone()).await.refused;
        assert!(
            refused[0].starts_with("controller 6 (k6) takes part in the quorum, on a host"),
            "{refused:?}"
        );
        lab.connect.host("k6").with(|host| {
            host.unreachable = true;
            host.active.clear();
        });
        lab.connect.kafka_notices();
        // An apply alone does not give it up.
        let plan = lab.plan(&after).await;
        assert_eq!(told(&plan), ["k1: controller 1 (k1) gets a vote, controllers are then 1, 4, 5"]);
        assert!(plan.notes.iter().any(|note| note.contains("`aesop forget k6`")), "{:?}", plan.notes);
        // Nor where another one is away: the two that stay would be one.
        lab.connect.host("k5").with(|host| host.active.remove(UNIT));
        lab.connect.kafka_notices();
        let refused = lab.plan_prepared(&after, &gone()).await.refused;
        assert!(refused[0].contains("no controller is active. Start what is down"), "{refused:?}");
        lab.connect.host("k5").with(|host| host.active.insert(UNIT.to_owned()));
        lab.connect.kafka(|kafka| kafka.controllers.insert(5));
        let prepared = gone();
        let (plan, report) = lab.apply_prepared(&after, &prepared).await;
        assert!(report.is_success() && plan.refused.is_empty(), "{report:#?} {:?}", plan.refused);
        assert_eq!(
            told(&plan),
            [
                "k1: controller 1 (k1) gets a vote, controller 6 (k6) loses its vote, controllers are then 1, 4, 5"
            ]
        );
        check(&lab, &after, 3).await;
    });
}

#[test]
fn what_would_endanger_the_controllers_is_refused() {
    block_on(async {
        let lab = speaking();
        good(&lab, &controlled(&lab, &[1, 2, 3], &[1, 4, 5]), 3).await;
        // With 4 away, 1 and 5 are needed.
        lab.connect.host("k4").with(|host| {
            host.active.remove(UNIT);
            host.unreachable = true;
        });
        lab.connect.kafka_notices();
        let refused = lab.plan(&controlled(&lab, &[1, 2, 3], &[4])).await.refused;
        assert!(
            refused[0].contains("must keep its vote now: of the 2 others 1 are caught up"),
            "{refused:?}"
        );
        // Who is to take over is not there.
        lab.connect.host("k6").with(|host| host.unreachable = true);
        let refused = lab.plan(&controlled(&lab, &[1, 2, 3], &[1, 4, 6])).await.refused;
        assert!(
            refused
                .iter()
                .any(|line| line.starts_with("5 would have to lose their votes before controller 6 (k6)")),
            "{refused:?}"
        );
        // Nobody can be asked.
        lab.connect.kafka(|kafka| kafka.speaks = false);
        let refused = lab.plan(&controlled(&lab, &[1, 2, 3], &[2])).await.refused;
        assert!(
            refused.iter().any(|line| line.starts_with("k1: it would be a controller no more")),
            "{refused:?}"
        );
    });
}

#[test]
fn first_controllers_that_came_late_still_found_the_quorum() {
    block_on(async {
        let lab = speaking();
        let three = brokers(&lab, &[1, 2, 3], "");
        lab.connect.host("k3").with(|host| host.fails = vec!["kafka-format".to_owned()]);
        assert!(!lab.apply(&three).await.1.is_success());
        lab.connect.host("k3").with(|host| host.fails.clear());
        good(&lab, &three, 3).await;
        let formats = |host: &str| lab.connect.host(host).with(|host| host.log.clone());
        assert!(formats("k3").iter().any(|step| step.starts_with("kafka-format")));
    });
}

/// An edit: the brokers and the controllers that there are, and where the apply dies.
type Edit = (BTreeSet<usize>, BTreeSet<usize>, Vec<usize>);

fn edit() -> impl Strategy<Value = Edit> {
    let controllers = prop_oneof![Just(1_usize), Just(3), Just(5)]
        .prop_flat_map(|count| prop::sample::subsequence((1..7_usize).collect::<Vec<_>>(), count));
    let hosts = prop::sample::subsequence((1..7_usize).collect::<Vec<_>>(), 3..6);
    let deaths = prop::collection::vec(0..150_usize, 0..3);
    (hosts, controllers, deaths).prop_map(|(hosts, controllers, deaths)| {
        (hosts.into_iter().collect(), controllers.into_iter().collect(), deaths)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn controllers_come_and_go_wherever_it_is_broken_off(edits in prop::collection::vec(edit(), 1..5)) {
        block_on(async {
            let lab = speaking();
            lab.apply(&brokers(&lab, &[1, 2, 3], "")).await;
            lab.connect.kafka(|kafka| kafka.create_topic("rows", 6, 3, 2));
            for (hosts, controllers, deaths) in edits {
                let numbers = |set: BTreeSet<usize>| set.into_iter().collect::<Vec<_>>();
                let count = hosts.len();
                let inventory = controlled(&lab, &numbers(hosts), &numbers(controllers));
                let refused = lab.plan(&inventory).await.refused;
                if !refused.is_empty() {
                    // Where none of the brokers stays there is nobody to ask.
                    let known = ["no broker answers the question", "brokers could hold them"];
                    let known = |line: &String| known.iter().any(|words| line.contains(words));
                    assert!(refused.iter().all(known), "{refused:?}");
                    continue;
                }
                lab.dies(&inventory, deaths).await;
                let (plan, report) = lab.apply(&inventory).await;
                assert!(report.is_success() && plan.refused.is_empty(), "{report:#?}\n{plan:#?}");
                check(&lab, &inventory, count).await;
                // Data of a node that left is moved away before its host comes back.
                for number in 1..7 {
                    lab.connect.host(&format!("k{number}")).with(|host| {
                        if !host.active.contains(UNIT) {
                            host.files.remove("/var/lib/aesop/kafka/meta.properties");
                        }
                    });
                }
            }
        });
    }
}
