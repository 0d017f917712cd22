//! The hosts of both quorums are rebooted one after the other, under traffic; aesop dies on the way, and goes on.

use crate::cluster::{Cluster, cluster};
use crate::plans::killed;
use std::net::TcpStream;

const BROKERS: [&str; 3] = ["kafka1", "kafka2", "kafka3"];
const OTHERS: [&str; 3] = ["relay1", "consumer1", "monitor1"];

pub(crate) fn three_brokers_are_rolled_under_traffic() {
    let cluster = cluster();
    let boots = |hosts: [&str; 3]| hosts.map(|host| boot(&cluster, host).expect("systemd's folder"));
    let before = (boots(BROKERS), boots(OTHERS));
    // Of what was killed before this story there may be mails still to come.
    let counts = |subject: &str| !subject.contains("lag") && !subject.contains("restarted by systemd");
    let alerts = || -> Vec<String> {
        let subjects = cluster.mails().into_iter().map(|mail| mail.subject.to_lowercase());
        subjects.filter(|subject| counts(subject)).collect()
    };
    let mailed = alerts();
    let mut once = before.0.clone();
    let said = cluster.sell_while(|| {
        let is_back = || BROKERS.iter().zip(&before.0).any(|(host, boot)| has_booted(&cluster, host, boot));
        killed(&cluster, &["reboot", "--yes", "--on", "kafka*"], "the first host to be back", is_back);
        once = boots(BROKERS);
        cluster.aesop_ok(&["resume", "--yes"])
    });
    let after = (boots(BROKERS), boots(OTHERS));
    let alone = |index: usize| once[index] == before.0[index] || once[index] == after.0[index];
    assert!((0..3).all(alone) && once != before.0, "nobody boots twice: {before:?} {once:?} {after:?}");
    assert!(before.0.iter().zip(&after.0).all(|(before, after)| before != after), "{before:?} {after:?}");
    assert_eq!(before.1, after.1, "only those that were named");
    for words in ["Schedule", "reboot kafka", "gate: aesop-zookeeper.service is ready", ", 2 reboots"] {
        assert!(said.stdout.contains(words), "{words}: {}", said.stdout);
    }
    cluster.aesop_ok(&["exec", "--on", "kafka1", "--", "echo", "a|b"]);
    let audit = cluster.aesop_ok(&["audit", "--hosts"]).stdout;
    for words in
        ["exec done  story: echo a b on kafka1", "exec: echo a b", "reboot on kafka1, kafka2, kafka3: reboot"]
    {
        assert!(audit.contains(words), "{words}: {audit}");
    }
    for host in BROKERS {
        let line = |line: &str| line.starts_with(&format!("{host}: ")) && line.contains("reboot the host");
        assert!(audit.lines().any(line), "{host}: {audit}");
    }
    cluster.kafka_equals_select();
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(0), "all is as it was");
    assert_eq!(alerts(), mailed, "announced work is not mailed");
}

/// When systemd began on a host; none: it is down.
fn boot(cluster: &Cluster, host: &str) -> Option<String> {
    cluster.host(host).run(&["stat", "-c", "%Y.%Z", "/run/systemd"]).ok()
}

/// It has, since `before`, and answers again.
fn has_booted(cluster: &Cluster, host: &str, before: &str) -> bool {
    boot(cluster, host).is_some_and(|boot| boot != before)
        && TcpStream::connect((cluster.address(host).as_str(), 22)).is_ok()
}
