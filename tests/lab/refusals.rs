//! Hosts that cannot be worked on: each is named with its reason, and costs the others nothing.

use crate::cluster::{Said, cluster};
use aesop::lab::{HostSpec, Sudo};
use std::fs;
use std::process::Command;

/// A host that is not there, one that refuses the connection, one without sudo, and a good one.
pub(crate) fn hosts_that_refuse_are_named_with_the_reason() {
    let cluster = cluster();
    let strict = cluster.lab.add(&HostSpec::new("nosudo").sudo(Sudo::None), &|_| ()).expect("one more host");
    let inventory = cluster.path("refusals.yml");
    let text = format!(
        "cluster: refusals
ssh: {{user: deploy, identity_file: {key}, known_hosts: {known_hosts}}}
hosts:
  gone: {{address: {gone}}}
  closed: {{address: {closed}, ssh: {{port: 2222}}}}
  nosudo: {{address: {nosudo}}}
  good: {{address: {good}}}
  unknown: {{address: {unknown}, ssh: {{known_hosts: {dir}/nobody}}}}
zookeeper: {{hosts: [gone, closed, nosudo, good, unknown]}}
",
        key = cluster.lab.ssh_key().display(),
        known_hosts = cluster.lab.known_hosts().display(),
        gone = cluster.lab.subnet().address(250),
        closed = cluster.address("monitor1"),
        nosudo = strict.address(),
        good = cluster.address("relay1"),
        unknown = cluster.address("consumer1"),
        dir = cluster.path("").display(),
    );
    fs::write(&inventory, text).expect("the inventory is written");
    fs::write(cluster.path("nobody"), "").expect("an empty known_hosts");
    let output = Command::new(env!("CARGO_BIN_EXE_aesop"))
        .arg("-i")
        .arg(&inventory)
        .args(["plan", "--summary"])
        .output()
        .expect("aesop runs");
    let code = output.status.code();
    let said = Said::from(output);
    assert_eq!(code, Some(1), "{}", said.stderr);
    for (host, reason) in [
        ("gone", "no answer"),
        ("closed", "refused"),
        ("nosudo", "sudo"),
        ("unknown", "its host key is unknown"),
    ] {
        let line = said.stderr.lines().find(|line| line.contains("error") && line.contains(host));
        let line = line.unwrap_or_else(|| panic!("{host} is not named:\n{}", said.stderr));
        assert!(said.stderr.contains(reason), "{host}: {line} does not say {reason}:\n{}", said.stderr);
    }
    assert!(said.stdout.contains("good"), "the good host is planned:\n{}", said.stdout);
    cluster.lab.remove("nosudo").expect("the host is removed");
}

/// A source without row binlog fails the apply at once, with the SQL; once it is mended the next apply finishes.
pub(crate) fn a_mended_source_is_finished_by_the_next_apply() {
    let cluster = cluster();
    let inventory = cluster.path("story.yml");
    let before = fs::read_to_string(&inventory).expect("the inventory");
    // Something for the relay to restart for.
    let changed =
        before.replace("relays: {hosts: [relay1]}", "relays: {hosts: [relay1], retention: {age: 25h}}");
    assert_ne!(before, changed);
    fs::write(&inventory, changed).expect("the inventory is written");
    cluster.host("db1").sql("SET GLOBAL binlog_format = 'STATEMENT'").expect("the format changes");
    let refused = cluster.aesop(&["apply", "--yes"]);
    cluster.host("db1").sql("SET GLOBAL binlog_format = 'ROW'").expect("the format changes back");
    let code = refused.status.code();
    let said = Said::from(refused);
    let all = format!("{}{}", said.stdout, said.stderr);
    assert_eq!(code, Some(1), "{all}");
    for words in ["relay1", "source shop has stopped", "binlog_format = 'ROW'"] {
        assert!(all.contains(words), "{words:?} is not in\n{all}");
    }
    cluster.aesop_ok(&["apply", "--yes"]);
    assert_eq!(cluster.aesop(&["plan", "--exit-code"]).status.code(), Some(0));
    cluster.sell(20);
    cluster.kafka_equals_select();
}
