//! From clean hosts to a resolved mail, each step checked with tools that are not aesop's.

use crate::cluster::{Cluster, Mail, SOURCES, Said, cluster, wait};
use relay::format::fold::Fold;
use std::process::Command;
use std::time::Duration;

/// Deploys, sells, reads Kafka with kcat, znodes with a plain client, mails as files.
pub(crate) fn from_nothing_to_a_resolved_mail() {
    let cluster = cluster();
    a_second_plan_is_empty_and_a_second_apply_restarts_nothing(&cluster);
    rows_arrive_with_before_and_after(&cluster);
    checkpoints_are_in_zookeeper(&cluster);
    tail_prints_the_same_rows(&cluster);
    tail_brings_a_snapshot_and_what_follows_to_kafka(&cluster);
    a_source_without_row_binlog_is_refused(&cluster);
    the_lag_mail_names_every_partition(&cluster);
    crate::offline::other_builds_roll_out(&cluster);
    a_stopped_broker_gives_one_mail_and_one_resolved_mail(&cluster);
}

fn a_second_plan_is_empty_and_a_second_apply_restarts_nothing(cluster: &Cluster) {
    let hosts = ["kafka1", "kafka2", "kafka3", "relay1", "consumer1", "consumer2", "monitor1"];
    let before = cluster.pids(&hosts);
    let plan = cluster.aesop(&["plan", "--exit-code"]);
    assert_eq!(plan.status.code(), Some(0), "{}", String::from_utf8_lossy(&plan.stdout));
    cluster.aesop_ok(&["apply", "--yes"]);
    assert_eq!(cluster.pids(&hosts), before, "processes of the units");
}

fn rows_arrive_with_before_and_after(cluster: &Cluster) {
    cluster.sell(150);
    for (fold, (source, _)) in cluster.kafka_equals_select().iter().zip(SOURCES) {
        assert!(fold.messages() > 150, "{source}: {} records", fold.messages());
        assert_eq!(fold.repeats(), 0, "{source}: nothing has crashed yet");
    }
}

fn checkpoints_are_in_zookeeper(cluster: &Cluster) {
    let checkpoints = "/aesop/story/groups/kafka-json/checkpoints";
    let generation = cluster.znode_children(checkpoints).pop().expect("a generation of checkpoints");
    for (source, _) in SOURCES {
        let relay = format!("/aesop/story/relays/{source}/relay1");
        // Idle partitions advance too, so all of them reach what the relay has read.
        for partition in 0..8 {
            let path = format!("{checkpoints}/{generation}/{source}/{partition}");
            wait(&format!("{path} to reach what the relay has read"), || {
                let (checkpoint, relay) = (cluster.znode_json(&path)?, cluster.znode_json(&relay)?);
                let same = |field: &str| checkpoint[field] == relay[field];
                (same("file") && same("end_offset")).then_some(())
            });
        }
    }
}

fn tail_prints_the_same_rows(cluster: &Cluster) {
    for (source, _) in SOURCES {
        let server = cluster.database(source);
        let relay = std::path::Path::new(env!("CARGO_BIN_EXE_aesop")).with_file_name("aesop-relay");
        let output = Command::new(relay)
            .args(["tail", "--tables", "shop.*", "--from", "earliest", "--until-caught-up"])
            .arg(format!("mysql://aesop@{}:{}/", server.host, server.port))
            .env("AESOP_PASSWORD", "reader-secret")
            .output()
            .expect("aesop-relay runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let mut fold = Fold::default();
        for line in text.lines() {
            fold.push(line).expect("every line follows those before it");
        }
        assert_eq!(
            crate::oracle::tables(&fold),
            cluster.block_on(crate::oracle::select(&server)),
            "{source}"
        );
    }
}

/// Without ZooKeeper, groups or relays: all rows first, then from its checkpoint what has changed since.
fn tail_brings_a_snapshot_and_what_follows_to_kafka(cluster: &Cluster) {
    let place = |source: &str| cluster.path(&format!("{source}.place"));
    let tail = |source: &str, from: &[&str]| {
        let server = cluster.database(source);
        let relay = std::path::Path::new(env!("CARGO_BIN_EXE_aesop")).with_file_name("aesop-relay");
        let output = Command::new(relay)
            .args(["tail", "--tables", "shop.*", "--until-caught-up", "--kafka", &cluster.bootstrap()])
            .args(["--source", &format!("tail-{source}"), "--checkpoint"])
            .arg(place(source))
            .args(from)
            .arg(format!("mysql://{}@{}:{}/", server.user, server.host, server.port))
            .env("AESOP_PASSWORD", &server.password)
            .output()
            .expect("aesop-relay runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty(), "rows go to Kafka alone");
    };
    for (source, _) in SOURCES {
        tail(source, &["--from", "snapshot"]);
    }
    cluster.sell(30);
    for (source, _) in SOURCES {
        tail(source, &[]);
        let expected = cluster.block_on(crate::oracle::select(&cluster.database(source)));
        let fold = crate::oracle::kafka_equals_select(
            &cluster.bootstrap(),
            &format!("tail-{source}"),
            &expected,
            Duration::from_secs(30),
        );
        assert_eq!(fold.repeats(), 0, "{source}: nothing comes twice");
    }
}

fn a_source_without_row_binlog_is_refused(cluster: &Cluster) {
    let server = cluster.database("shop");
    let relay = std::path::Path::new(env!("CARGO_BIN_EXE_aesop")).with_file_name("aesop-relay");
    cluster.host("db1").sql("SET GLOBAL binlog_format = 'STATEMENT'").expect("the format changes");
    let output = Command::new(relay)
        .args(["tail", "--until-caught-up"])
        .arg(format!("mysql://aesop@{}:{}/", server.host, server.port))
        .env("AESOP_PASSWORD", "reader-secret")
        .output()
        .expect("aesop-relay runs");
    cluster.host("db1").sql("SET GLOBAL binlog_format = 'ROW'").expect("the format changes back");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("binlog_format = 'ROW'"), "the remedy is named: {error}");
}

fn the_lag_mail_names_every_partition(cluster: &Cluster) {
    let timers =
        cluster.host("monitor1").run(&["systemctl", "is-active", "aesop-lag-report.timer"]).expect("timer");
    assert_eq!(timers.trim(), "active");
    cluster
        .host("monitor1")
        .run(&["systemctl", "start", "aesop-lag-report.service"])
        .expect("the report runs");
    let mail = wait("the lag mail", || {
        cluster.mails().into_iter().find(|mail| mail.subject.to_lowercase().contains("lag"))
    });
    for (source, _) in SOURCES {
        assert!(mail.text.contains(source), "{}", mail.text);
    }
    let lag = cluster.aesop_ok(&["lag", "--format", "json"]);
    let report: serde_json::Value = serde_json::from_str(&lag.stdout).expect("JSON");
    let partitions = report["partitions"].as_array().expect("partitions");
    assert_eq!(partitions.len(), 16, "{}", lag.stdout);
}

/// Mails about alerts.
fn alerts(cluster: &Cluster) -> Vec<Mail> {
    cluster.mails().into_iter().filter(|mail| !mail.subject.to_lowercase().contains("lag")).collect()
}

/// A broker that stops in a maintenance is known to be down, and nobody is told until it is over.
fn a_broker_stops_in_a_maintenance(cluster: &Cluster) {
    cluster.aesop_ok(&["maintenance", "kafka2", "--for", "1h"]);
    let status = cluster.aesop_ok(&["status", "--on", "kafka2"]);
    assert!(status.stdout.contains("(maintenance until "), "{}", status.stdout);
    cluster.host("kafka2").run(&["systemctl", "stop", "aesop-kafka"]).expect("the broker stops");
    wait("the alert, kept quiet", || {
        let alerts = cluster.aesop_ok(&["alerts"]);
        let quiet =
            |line: &str| line.contains("kafka2") && line.contains("in a downtime: maintenance, said by");
        alerts.stdout.lines().any(|line| line.starts_with("firing") && quiet(line)).then_some(())
    });
    assert!(alerts(cluster).is_empty(), "{:?}", alerts(cluster));
    cluster.aesop_ok(&["maintenance", "kafka2", "--end"]);
    let status = Said::from(cluster.aesop(&["status", "--on", "kafka2"]));
    assert!(!status.stdout.contains("maintenance"), "{}", status.stdout);
}

fn a_stopped_broker_gives_one_mail_and_one_resolved_mail(cluster: &Cluster) {
    let before = alerts(cluster).len();
    assert_eq!(before, 0, "a healthy cluster has no alert: {:?}", alerts(cluster));
    a_broker_stops_in_a_maintenance(cluster);
    let problem = wait("the alert mail", || alerts(cluster).into_iter().next());
    assert!(problem.text.contains("kafka2"), "{}", problem.text);
    // The rest of the cluster goes on without it.
    cluster.sell(20);
    cluster.kafka_equals_select();
    cluster.host("kafka2").run(&["systemctl", "start", "aesop-kafka"]).expect("the broker starts");
    let resolved = wait("the resolved mail", || alerts(cluster).into_iter().nth(1));
    assert!(resolved.subject.to_lowercase().contains("resolved"), "{}", resolved.subject);
    assert!(
        resolved.references.contains(problem.message_id.trim()),
        "{:?} answers {:?}",
        resolved.references,
        problem.message_id
    );
    // Two polls later nothing more has come.
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(alerts(cluster).len(), 2, "{:#?}", alerts(cluster));
}
