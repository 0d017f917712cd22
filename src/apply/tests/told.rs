//! Every mutation has a line in the plan, also the small ones, and is counted; what a person did is told as drift.

use super::*;
use crate::plan::{Plan, Step};

/// Steps of a host that have lines of their own.
fn told(plan: &Plan, host: &str) -> Vec<String> {
    let steps = plan.steps().filter(|(name, step)| *name == host && step.is_told());
    steps.map(|(_, step)| format!("{} {}", step.sign(), step.action())).collect()
}

fn drift(plan: &Plan) -> Vec<(&str, &str, &str)> {
    plan.drift.iter().map(|drift| (drift.host.as_str(), drift.name.as_str(), drift.found)).collect()
}

/// Whoever has work has a line of it, and a plan that is not empty counts something.
pub(super) fn check_lines(plan: &Plan) {
    let waves = plan.stages.iter().flat_map(|stage| &stage.waves);
    for (host, steps) in waves.flat_map(|wave| &wave.steps) {
        assert!(!told(plan, host).is_empty(), "{host}: {steps:#?}");
    }
    let counts = |step: &Step| step.change() != crate::plan::Change::Nothing;
    assert!(plan.is_empty() || plan.steps().any(|(_, step)| counts(step)), "{plan:#?}");
}

#[test]
fn what_a_person_disabled_is_drift_and_has_a_line() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 3, 1, 1, false);
        let (first, _) = lab.apply(&inventory).await;
        assert!(first.drift.is_empty());
        assert!(told(&first, "k2").iter().all(|line| !line.contains("enable")), "it goes with the start");
        lab.connect.host("k2").with(|host| assert!(host.enabled.remove("aesop-kafka.service")));
        let plan = lab.plan(&inventory).await;
        assert_eq!(drift(&plan), [("k2", "aesop-kafka.service", "disabled")]);
        assert_eq!(told(&plan, "k2"), ["~ enable aesop-kafka.service"]);
        assert_eq!((plan.summary().change, plan.summary().restarts), (1, 0));
        check_lines(&plan);
        let (_, report) = lab.apply(&inventory).await;
        assert_eq!(report.hosts["k2"].changed, 1, "{report:#?}");
        lab.connect.host("k2").with(|host| assert!(host.enabled.contains("aesop-kafka.service")));
        assert!(lab.plan(&inventory).await.is_empty());
    });
}

#[test]
fn what_systemd_has_not_read_is_drift_and_has_a_line() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 1, 1, 1, false);
        lab.apply(&inventory).await;
        lab.connect.host("r1").with(|host| host.unread.insert("aesop-relay.service".to_owned()));
        let plan = lab.plan(&inventory).await;
        assert_eq!(drift(&plan), [("r1", "aesop-relay.service", "changed since systemd read it")]);
        assert_eq!(told(&plan, "r1"), ["~ systemd reads its units"]);
        check_lines(&plan);
        lab.apply(&inventory).await;
        assert!(lab.plan(&inventory).await.is_empty());
    });
}

/// A host that has forgotten something of its own.
#[test]
fn a_list_that_is_mended_has_a_line() {
    block_on(async {
        let lab = Lab::new();
        let inventory = inventory(lab.folder.path(), 1, 1, 1, false);
        lab.apply(&inventory).await;
        lab.connect.host("r1").with(|host| {
            let keep = |line: &&str| !line.contains("relay.yml");
            let kept: Vec<&str> = host.manifest.lines().filter(keep).collect();
            let kept = kept.join("\n") + "\n";
            assert!(kept.len() < host.manifest.len());
            host.manifest = kept;
        });
        let plan = lab.plan(&inventory).await;
        assert!(!plan.is_empty());
        check_lines(&plan);
        lab.apply(&inventory).await;
        assert!(lab.plan(&inventory).await.is_empty());
    });
}
