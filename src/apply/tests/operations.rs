//! Starts, stops and reboots that a person asks for.

use super::brokers::{brokers, speaking};
use super::*;
use crate::plan::{Observation, Operation, Plan, Scope, operate, reboot, reboot_rest};
use std::collections::{BTreeMap, BTreeSet};

impl Lab {
    /// What an operation on these hosts and services would do.
    async fn operation(
        &self,
        inventory: &Inventory,
        operation: Operation,
        hosts: &[&str],
        services: &[&str],
    ) -> Plan {
        let prepared = self.prepare(inventory);
        let (_, observed) = observe(&self.connect, &prepared.hosts, &prepared.desired, 4).await;
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let scope = Scope { hosts: names(hosts).into_iter().collect(), services: names(services) };
        operate(&inventory.cluster, &prepared.desired, &observed, &scope, operation)
    }

    /// What a reboot of these hosts would do.
    async fn reboot(&self, inventory: &Inventory, hosts: &[&str]) -> Plan {
        let prepared = self.prepare(inventory);
        let (_, observed) = observe(&self.connect, &prepared.hosts, &prepared.desired, 4).await;
        let hosts: BTreeSet<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        reboot(&inventory.cluster, &prepared.desired, &observed, &hosts)
    }

    /// What is left of one that was broken off.
    async fn reboot_rest(&self, inventory: &Inventory, boots: &BTreeMap<String, String>) -> Plan {
        let prepared = self.prepare(inventory);
        let (_, observed) = observe(&self.connect, &prepared.hosts, &prepared.desired, 4).await;
        reboot_rest(&inventory.cluster, &prepared.desired, &observed, boots)
    }

    /// The boots that these hosts are in, as they say.
    async fn in_boots(&self, inventory: &Inventory, hosts: &[&str]) -> BTreeMap<String, String> {
        let prepared = self.prepare(inventory);
        let (_, observed) = observe(&self.connect, &prepared.hosts, &prepared.desired, 4).await;
        let boot = |host: &&str| match &observed.hosts[*host] {
            Observation::Facts(facts) => ((*host).to_owned(), facts.boot.clone()),
            Observation::Failed(why) => panic!("{why}"),
        };
        hosts.iter().map(boot).collect()
    }

    fn boots(&self, hosts: &[&str]) -> Vec<usize> {
        hosts.iter().map(|host| self.connect.host(host).with(|state| state.boots)).collect()
    }
}

/// The schedule in words.
fn schedule(plan: &Plan) -> Vec<String> {
    let turns = plan.schedule();
    let words = turns.iter().map(|turn| {
        let missed = turn.unavailable.clone().unwrap_or_else(|| "nothing".to_owned());
        format!("{} {} on {}: {missed}", turn.verb, turn.unit, turn.hosts.join(", "))
    });
    words.collect()
}

#[test]
fn a_stop_says_what_is_missed_and_counts_apart() {
    block_on(async {
        let lab = speaking();
        let inventory = brokers(&lab, &[1, 2, 3], "");
        lab.apply(&inventory).await;
        lab.connect.kafka(|kafka| kafka.create_topic("rows", 3, 3, 2));
        lab.connect.kafka(|kafka| kafka.create_topic("alone", 3, 1, 1));
        let one = lab.operation(&inventory, Operation::Stop, &["k2"], &["kafka"]).await;
        let no_replica = "no more replicas than must be in sync";
        let words = format!("stop aesop-kafka.service on k2: writing to alone-1: {no_replica}");
        assert_eq!(schedule(&one), [words]);
        assert_eq!(
            one.summary().to_string(),
            "Plan: 0 to add, 0 to change, 0 to destroy, 0 restarts, 1 stop"
        );
        // Who is stopped is missed by those that stop later.
        let two = lab.operation(&inventory, Operation::Stop, &["k1", "k2"], &["kafka"]).await;
        assert!(two.refused.len() == 1 && schedule(&two)[0].contains("rows-0, "), "{:?}", schedule(&two));
        let all = lab.operation(&inventory, Operation::Stop, &["k1", "k2", "k3"], &["kafka"]).await;
        let rows = "rows wait in the logs of the relays";
        assert!(all.refused.is_empty() && schedule(&all).iter().all(|line| line.ends_with(rows)));
        assert_eq!((all.summary().stops, all.summary().destroy), (3, 0));
        // As a restart says it of one.
        let restart = lab.operation(&inventory, Operation::Restart, &["k2"], &["kafka"]).await;
        assert!(schedule(&restart)[0].ends_with(no_replica), "{:?}", schedule(&restart));
    });
}

const ROLLED: [&str; 4] = ["k1", "k2", "k3", "r1"];

#[test]
fn hosts_are_rebooted_one_after_the_other_behind_the_gates_of_all() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let plan = lab.reboot(&inventory, &ROLLED).await;
        assert!(plan.refused.is_empty(), "{:?}", plan.refused);
        assert_eq!(
            plan.summary().to_string(),
            "Plan: 0 to add, 0 to change, 0 to destroy, 0 restarts, 4 reboots"
        );
        let words = schedule(&plan);
        assert_eq!(words.len(), 4);
        let waits = "the relay: rows wait in the binlogs of its sources; probes of this host";
        assert_eq!(words[0], format!("reboot host on r1: {waits}"));
        let gate = plan.schedule()[1].gate.clone().unwrap_or_default();
        for unit in ["aesop-zookeeper", "aesop-kafka", "aesop-agent"] {
            assert!(gate.contains(&format!("{unit}.service is ready (")), "{gate}");
        }
        let prepared = lab.prepare(&inventory);
        lab.connect.take_trace();
        let report = lab.carry_out(&prepared, &prepared.desired, &plan).await;
        assert!(report.is_success(), "{report:#?}");
        assert_eq!(lab.boots(&ROLLED), [1; 4]);
        assert_eq!(lab.boots(&["c1", "m1"]), [0; 2]);
        lab.connect.kafka(|kafka| assert_eq!(kafka.faults, [""; 0]));
        assert_eq!(lab.connect.broken(), [""; 0]);
        check_rolling(&lab.connect.take_trace());
        assert!(lab.plan(&inventory).await.is_empty(), "everything runs as before");
    });
}

/// Before each reboot, and after the last, both quorums are proven on all hosts; the monitor knows from before each until
/// after that; no lock is given back on the way.
fn check_rolling(trace: &[(String, String)]) {
    let units = ["gate|aesop-zookeeper", "gate|aesop-kafka"];
    let members = || ROLLED[..3].iter().flat_map(|host| units.map(|unit| (*host, unit)));
    let mut unproven: BTreeSet<(&str, &str)> = members().collect();
    let mut told = BTreeSet::new();
    let (mut rebooted, mut unlocked) = (0, 0);
    for (host, line) in trace {
        match line.split('|').collect::<Vec<_>>().as_slice() {
            ["reboot"] => {
                assert!(unproven.is_empty() && unlocked == 0, "{host}: {unproven:?}, {unlocked}");
                assert_eq!(told.iter().collect::<Vec<_>>(), [host], "the monitor knows of this host");
                if host.starts_with('k') {
                    unproven = members().collect();
                }
                rebooted += 1;
            }
            ["downtime", _, name, of, "*", ..] => {
                assert_eq!((host.as_str(), *name), ("m1", format!("apply-{of}-reboot").as_str()));
                told.insert((*of).to_owned());
            }
            ["downtime-end", ..] => {
                assert!(unproven.is_empty(), "{line}: {unproven:?}");
                told.clear();
            }
            ["unlock", ..] => unlocked += 1,
            _ => unproven.retain(|(of, unit)| of != host || !line.starts_with(unit)),
        }
    }
    assert!(rebooted == ROLLED.len() && unlocked > 0 && unproven.is_empty() && told.is_empty(), "{trace:#?}");
}

#[test]
fn where_something_is_not_ready_no_further_host_is_rebooted() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let prepared = lab.prepare(&inventory);
        let kafka = || vec!["gate|aesop-kafka".to_owned()];
        // A member that is not ready before, though it is not rebooted itself.
        lab.connect.host("k3").with(|host| host.fails = kafka());
        let plan = lab.reboot(&inventory, &["k1", "k2"]).await;
        let report = lab.carry_out(&prepared, &prepared.desired, &plan).await;
        assert!(!report.is_success());
        assert_eq!(lab.boots(&ROLLED), [0; 4]);
        // One that does not come back well.
        lab.connect.host("k3").with(|host| host.fails.clear());
        for host in ["k1", "k2", "k3"] {
            lab.connect.host(host).with(|host| host.fails_after_boot = kafka());
        }
        let plan = lab.reboot(&inventory, &["k1", "k2", "k3"]).await;
        let report = lab.carry_out(&prepared, &prepared.desired, &plan).await;
        assert_eq!(lab.boots(&ROLLED).iter().sum::<usize>(), 1, "{report:#?}");
        assert_eq!(report.failures.len(), 1, "{report:#?}");
        // One that nobody can ask.
        lab.connect.host("k2").with(|host| host.unreachable = true);
        let plan = lab.reboot(&inventory, &["k1"]).await;
        assert!(plan.refused[0].contains("k2 does not answer"), "{:?}", plan.refused);
        let strange = lab.reboot(&inventory, &["k1", "x"]).await;
        assert!(strange.refused[0].contains("x carries nothing"), "{:?}", strange.refused);
    });
}

/// Somebody has disabled a unit that runs: it is started where the reboot does not.
#[test]
fn what_does_not_start_with_its_host_is_started() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 1, 1, 1, false);
        lab.apply(&inventory).await;
        lab.connect.host("r1").with(|host| assert!(host.enabled.remove("aesop-relay.service")));
        let plan = lab.reboot(&inventory, &["r1"]).await;
        let prepared = lab.prepare(&inventory);
        let report = lab.carry_out(&prepared, &prepared.desired, &plan).await;
        assert!(report.is_success(), "{report:#?}");
        lab.connect.host("r1").with(|host| assert!(host.active.contains("aesop-relay.service")));
    });
}

/// As `resume` finishes it: who has booted since is proven and left alone, the others are rebooted behind the same gates.
#[test]
fn a_reboot_that_dies_anywhere_is_finished_with_those_that_are_left() {
    block_on(async {
        let mut deaths = vec![None];
        let (mut proven, mut rebooted) = (false, false);
        while let Some(death) = deaths.pop() {
            let lab = Lab::new();
            let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
            lab.apply(&inventory).await;
            // It does not start with its host.
            lab.connect.host("k2").with(|host| assert!(host.enabled.remove("aesop-kafka.service")));
            let prepared = lab.prepare(&inventory);
            let boots = lab.in_boots(&inventory, &ROLLED).await;
            let plan = lab.reboot(&inventory, &ROLLED).await;
            lab.connect.take_trace();
            lab.connect.dies_after(death);
            // It would wait for the host for long: a dead one does not.
            tokio::select! {
                _ = lab.carry_out(&prepared, &prepared.desired, &plan) => {}
                () = lab.connect.dead() => {}
            }
            lab.connect.dies_after(None);
            let lines = lab.connect.take_trace().len();
            if death.is_none() {
                deaths = (1..lines).step_by(3).map(Some).collect();
                assert!(deaths.len() > 20, "{lines}");
            }
            for name in inventory.hosts.keys() {
                lab.connect.host(name).with(|host| host.lock = None);
            }
            let before = lab.boots(&ROLLED);
            let rest = lab.reboot_rest(&inventory, &boots).await;
            assert!(rest.refused.is_empty(), "{death:?}: {:?}", rest.refused);
            assert_eq!(rest.summary().reboots, before.iter().filter(|boots| **boots == 0).count());
            let report = lab.carry_out(&prepared, &prepared.desired, &rest).await;
            assert!(report.is_success(), "{death:?}: {report:#?}");
            assert_eq!(lab.boots(&ROLLED), [1; 4], "{death:?}");
            assert_eq!(lab.boots(&["c1", "m1"]), [0; 2]);
            lab.connect.kafka(|kafka| assert_eq!(kafka.faults, [""; 0], "{death:?}"));
            assert_eq!(lab.connect.broken(), [""; 0], "{death:?}");
            lab.connect.host("k2").with(|host| {
                assert!(host.active.contains("aesop-kafka.service"), "{death:?}: it ran before");
                host.enabled.insert("aesop-kafka.service".to_owned());
            });
            let trace = lab.connect.take_trace();
            let back: Vec<&str> = ROLLED
                .into_iter()
                .zip(&before)
                .filter(|(_, boots)| **boots > 0)
                .map(|(host, _)| host)
                .collect();
            check_rest(&trace, &back);
            proven |= !back.is_empty();
            rebooted |= back.len() < ROLLED.len();
            assert!(lab.plan(&inventory).await.is_empty(), "{death:?}: everything runs as before");
            let again = lab.reboot_rest(&inventory, &boots).await;
            assert_eq!(again.summary().reboots, 0, "{death:?}");
        }
        assert!(proven && rebooted, "deaths before and after boots");
    });
}

/// Before a host goes down, what is on those that are back has been proven; the monitor, which may still believe in their
/// reboot, is told of its end.
fn check_rest(trace: &[(String, String)], back: &[&str]) {
    let mut unproven: BTreeSet<&str> = back.iter().copied().collect();
    let mut told: BTreeSet<String> = BTreeSet::new();
    for (host, line) in trace {
        match line.split('|').collect::<Vec<_>>().as_slice() {
            ["reboot"] => {
                assert!(!back.contains(&host.as_str()), "{host} is back already");
                assert!(unproven.is_empty(), "{host} goes down, and {unproven:?} are not proven");
            }
            ["downtime-end", _, name] => drop(told.insert((*name).to_owned())),
            _ if line.starts_with("gate|aesop-agent") => drop(unproven.remove(host.as_str())),
            _ => {}
        }
    }
    assert!(unproven.is_empty(), "{unproven:?}: {trace:#?}");
    for host in back {
        assert!(told.contains(&format!("apply-{host}-reboot")), "{host}: {told:?} {trace:#?}");
    }
}

#[test]
fn who_does_not_say_its_boot_is_not_guessed_at() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.apply(&inventory).await;
        let mut boots = lab.in_boots(&inventory, &["k1", "k2"]).await;
        boots.insert("k2".to_owned(), String::new());
        let rest = lab.reboot_rest(&inventory, &boots).await;
        assert!(rest.refused[0].starts_with("k2 does not say"), "{:?}", rest.refused);
        assert_eq!(rest.summary().reboots, 1);
        // Who does not answer may be on its way up.
        lab.connect.host("k1").with(|host| host.unreachable = true);
        let rest = lab.reboot_rest(&inventory, &boots).await;
        assert!(rest.refused.iter().any(|why| why.starts_with("k1 does not answer")), "{:?}", rest.refused);
    });
}

/// As `resume` finishes it: the same goal, planned anew.
#[test]
fn a_stop_or_a_destroy_that_dies_anywhere_is_finished_by_the_same() {
    use crate::plan::destroy;
    use crate::service::HostState;
    block_on(async {
        for stops in [true, false] {
            let mut deaths = vec![None];
            while let Some(death) = deaths.pop() {
                let lab = Lab::new();
                let inventory = inventory(lab.folder.path(), 3, 1, 1, true);
                lab.apply(&inventory).await;
                let prepared = lab.prepare(&inventory);
                let all: Vec<&str> = inventory.hosts.keys().map(String::as_str).collect();
                let nothing: BTreeMap<String, HostState> =
                    prepared.desired.keys().map(|host| (host.clone(), HostState::default())).collect();
                let go_on = async |death: Option<usize>| {
                    let (plan, desired) = if stops {
                        (lab.operation(&inventory, Operation::Stop, &all, &[]).await, &prepared.desired)
                    } else {
                        let (_, observed) = observe(&lab.connect, &prepared.hosts, &nothing, 4).await;
                        (destroy("shop", &nothing, &observed, false), &nothing)
                    };
                    assert!(plan.refused.is_empty(), "{:?}", plan.refused);
                    lab.connect.dies_after(death);
                    let report = lab.carry_out(&prepared, desired, &plan).await;
                    lab.connect.dies_after(None);
                    for name in &all {
                        lab.connect.host(name).with(|host| host.lock = None);
                    }
                    (plan, report)
                };
                lab.connect.take_trace();
                go_on(death).await;
                let lines = lab.connect.take_trace().len();
                if death.is_none() {
                    deaths = (0..lines).step_by(9).map(Some).collect();
                    assert!(deaths.len() > 4, "{lines}");
                }
                let (_, report) = go_on(None).await;
                assert!(report.is_success(), "{death:?}: {report:#?}");
                for name in &all {
                    let runs = lab.connect.host(name).with(|host| host.active.clone());
                    assert!(runs.is_empty(), "{death:?}, {name}: {runs:?}");
                }
                assert!(go_on(None).await.0.is_empty(), "{death:?}: nothing of it is left to do");
            }
        }
    });
}
