//! Starts, stops and reboots that a person asks for.

use super::brokers::{brokers, speaking};
use super::*;
use crate::plan::{Operation, Plan, Scope, operate};

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
