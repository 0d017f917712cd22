//! A report as a text table, for terminals and for mails.

use super::{Distance, LagReport, Status};
use crate::probe::to_value;
use crate::rule::human;

/// The whole report.
pub fn text(report: &LagReport) -> String {
    let mut lines = vec![format!(
        "LEVEL-{}  lag of cluster {} at {}",
        report.level,
        report.cluster,
        report.at.strftime("%Y-%m-%d %H:%M:%S UTC")
    )];
    lines.push(headline(report));
    for problem in &report.problems {
        lines.push(format!("! {problem}"));
    }
    for group in &report.groups {
        if group.members == 0 || group.unowned > 0 {
            let plural =
                |count: usize, word: &str| format!("{count} {word}{}", if count == 1 { "" } else { "s" });
            lines.push(format!(
                "! group {}: {}, {} without an owner",
                group.group,
                plural(group.members, "member"),
                plural(group.unowned, "partition"),
            ));
        }
    }
    for (table, empty) in [
        (source_table(report), report.sources.is_empty()),
        (partition_table(report), report.partitions.is_empty()),
    ] {
        if !empty {
            lines.push(String::new());
            lines.extend(table);
        }
    }
    lines.join("\n")
}

/// How many partitions do how, and the worst distance.
pub(super) fn headline(report: &LagReport) -> String {
    let worst_first = [Status::Stalled, Status::High, Status::Unknown, Status::Medium, Status::Ok];
    let counts: Vec<String> = worst_first
        .into_iter()
        .map(|status| (report.count(status), status))
        .filter(|(count, _)| *count > 0)
        .map(|(count, status)| format!("{count} {status}"))
        .collect();
    if counts.is_empty() {
        return "no partition could be read".to_owned();
    }
    let worst = report.worst();
    format!("{} partitions: {}; worst {}", report.partitions.len(), counts.join(", "), distance(worst))
}

fn source_table(report: &LagReport) -> Vec<String> {
    let mut rows =
        vec![["SOURCE", "BINLOG END", "RELAY", "RELAY SCN", "SOURCE>RELAY", "STATUS"].map(str::to_owned)];
    for source in &report.sources {
        let end = match (&source.file, source.offset) {
            (Some(file), Some(offset)) => format!("{file}:{offset}"),
            _ => "unknown".to_owned(),
        };
        for relay in &source.relays {
            rows.push([
                source.source.clone(),
                end.clone(),
                relay.relay.clone(),
                scn(relay.scn),
                distance(relay.behind),
                with_reason(relay.status, &relay.reason),
            ]);
        }
        if source.relays.is_empty() {
            let none = "no relay serves it".to_owned();
            rows.push([source.source.clone(), end, "-".to_owned(), "-".to_owned(), "-".to_owned(), none]);
        }
    }
    table(&rows)
}

fn partition_table(report: &LagReport) -> Vec<String> {
    let head = [
        "GROUP",
        "SOURCE",
        "PART",
        "OWNER",
        "RELAY SCN",
        "CONSUMER SCN",
        "RELAY>CONSUMER",
        "TOTAL",
        "STATUS",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for lag in &report.partitions {
        rows.push([
            lag.group.clone(),
            lag.source.clone(),
            lag.partition.to_string(),
            lag.owner.clone().unwrap_or_else(|| "-".to_owned()),
            scn(lag.relay_scn),
            scn(lag.consumer_scn),
            distance(lag.relay_to_consumer),
            distance(lag.total),
            with_reason(lag.status, &lag.reason),
        ]);
    }
    table(&rows)
}

fn with_reason(status: Status, reason: &str) -> String {
    if reason.is_empty() { status.to_string() } else { format!("{status} {reason}") }
}

pub(crate) fn scn(scn: Option<u64>) -> String {
    scn.map_or_else(|| "-".to_owned(), |scn| scn.to_string())
}

/// `1.2 KiB, 3.4 s`; what is not known is a question mark.
pub(crate) fn distance(distance: Distance) -> String {
    match (distance.bytes, distance.seconds) {
        (None, None) => "?".to_owned(),
        (bytes, seconds) => {
            let bytes = bytes.map_or_else(|| "?".to_owned(), |bytes| human::bytes(to_value(bytes)));
            let seconds = seconds.map_or_else(|| "?".to_owned(), human::seconds);
            format!("{bytes}, {seconds}")
        }
    }
}

/// Columns as wide as their widest cell, two spaces apart; the last is not padded.
fn table<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &[String; N]| {
        let cells = row.iter().enumerate().map(|(column, cell)| format!("{cell:0$}", width(column)));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::super::compute::tests::{now, scene, thresholds};
    use super::*;
    use crate::lag::compute;
    use expect_test::expect;

    #[test]
    fn worst_first() {
        let (groups, readings) = scene();
        let report = compute("shop", &groups, &readings, thresholds(), now());
        expect![[r#"
            LEVEL-HIGH  lag of cluster shop at 2026-11-22 15:00:00 UTC
            8 partitions: 1 STALLED, 1 HIGH, 3 UNKNOWN, 1 MEDIUM, 2 OK; worst 1.1 MiB, 14 m 58 s
            ! group kafka-json: 1 member, 1 partition without an owner

            SOURCE  BINLOG END      RELAY  RELAY SCN    SOURCE>RELAY         STATUS
            shop    b.000004:20000  r1     17179889184  0 B, 0.0 s           OK
            shop    b.000004:20000  r2     12885302888  116.2 KiB, 1 m 20 s  MEDIUM behind by 1 m 20 s

            GROUP       SOURCE  PART  OWNER  RELAY SCN    CONSUMER SCN  RELAY>CONSUMER      TOTAL               STATUS
            kafka-json  shop    3     c1     17179889184  17179879184   9.8 KiB, 3 m 18 s   9.8 KiB, 3 m 18 s   STALLED checkpoint has not moved for 2 m 30 s
            kafka-json  shop    2     c1     17179889184  8590334592    1.1 MiB, 14 m 58 s  1.1 MiB, 14 m 58 s  HIGH behind by 14 m 58 s
            kafka-json  shop    4     c1     17179889184  -             ?                   ?                   UNKNOWN no checkpoint
            kafka-json  shop    5     c1     17179889184  -             ?                   ?                   UNKNOWN nothing done yet, begins at earliest
            kafka-json  shop    6     c1     17179889184  38654705668   ?                   ?                   UNKNOWN checkpoint is of epoch 0, the relay in 1: the source failed over
            kafka-json  shop    1     c1     17179889184  17179879184   8.8 KiB, 1 m 30 s   8.8 KiB, 1 m 30 s   MEDIUM behind by 1 m 30 s
            kafka-json  shop    0     c1     17179889184  17179888184   0 B, 0.0 s          0 B, 0.0 s          OK
            kafka-json  shop    7     -      17179889184  17179889184   0 B, 0.0 s          0 B, 0.0 s          OK"#]].assert_eq(&text(&report));
    }

    #[test]
    fn an_outage_is_in_it() {
        let (groups, mut readings) = scene();
        readings.zookeeper = None;
        readings.zookeeper_error = Some("no session with 10.0.0.11:2181".to_owned());
        let report = compute("shop", &groups, &readings, thresholds(), now());
        expect![[r#"
            LEVEL-HIGH  lag of cluster shop at 2026-11-22 15:00:00 UTC
            no partition could be read
            ! could not read relays and checkpoints from ZooKeeper: no session with 10.0.0.11:2181"#]]
        .assert_eq(&text(&report));
    }
}
