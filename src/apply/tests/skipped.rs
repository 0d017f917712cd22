//! What is left out says why.

use super::*;
use std::collections::BTreeSet;

impl Lab {
    /// Applies; what failed, and what was left out with its reason.
    pub(super) async fn apply_in_part(&self, inventory: &Inventory) -> (Report, BTreeSet<(String, String)>) {
        let prepared = self.prepare(inventory);
        let (events, mut receiver) = tokio::sync::mpsc::channel(4096);
        let (_, report) = run(inventory, &prepared, &self.connect, &options(), events).await.unwrap();
        let mut skipped = BTreeSet::new();
        while let Ok(event) = receiver.try_recv() {
            if let ApplyEvent::Skipped { service, reason, .. } = event {
                skipped.insert((service, reason));
            }
        }
        (report, skipped)
    }
}

fn told(skipped: &BTreeSet<(String, String)>, service: &str, reason: &str) -> bool {
    skipped.contains(&(service.to_owned(), reason.to_owned()))
}

#[test]
fn who_needs_a_quorum_that_did_not_come_up_is_left_out() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        for host in ["k1", "k2"] {
            lab.connect.host(host).with(|state| state.fails = vec!["gate|aesop-zookeeper".to_owned()]);
        }
        let (report, skipped) = lab.apply_in_part(&inventory).await;
        assert!(!report.is_success());
        assert!(told(&skipped, "relay", "relay needs zookeeper, which is not ready"), "{skipped:#?}");
        assert!(!lab.connect.host("r1").with(|state| state.active.contains("aesop-relay.service")));
        for host in ["k1", "k2"] {
            lab.connect.host(host).with(|state| state.fails.clear());
        }
        let (report, skipped) = lab.apply_in_part(&inventory).await;
        assert!(report.is_success() && skipped.is_empty(), "{report:#?}\n{skipped:#?}");
    });
}

#[test]
fn a_lock_that_is_not_free_leaves_all_of_it_out() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        lab.connect.host("k2").with(|state| state.lock = Some("other".to_owned()));
        let (report, skipped) = lab.apply_in_part(&inventory).await;
        let failures: Vec<(&str, &str)> =
            report.failures.iter().map(|failure| (failure.host.as_str(), failure.step.as_str())).collect();
        assert_eq!(failures, [("k2", "take the lock")]);
        assert!(
            skipped.iter().all(|(_, reason)| reason == "the lock was not free on every host"),
            "{skipped:#?}"
        );
        assert!(told(&skipped, "kafka", "the lock was not free on every host"), "{skipped:#?}");
        lab.connect.host("k1").with(|state| assert!(state.files.is_empty() && state.lock.is_none()));
        lab.connect
            .host("k2")
            .with(|state| assert_eq!(state.lock.as_deref(), Some("other"), "it stays theirs"));
    });
}
