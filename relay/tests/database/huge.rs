//! More than 4 GiB: a transaction of that size, and transactions that start beyond it in the same file, where the
//! protocol's own offsets end.

use crate::server::{Kind, Server};
use crate::tail;
use mysql_async::prelude::Queryable;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_mins(5);
/// Bytes of each of four values that stand in both images of each update.
const PIECE: u64 = 30_000_000;
const ROWS: u64 = 4;
/// Updates of all rows: together more than 4 GiB.
const UPDATES: u64 = 20;

/// Who can tell no GTIDs is reached by another way: MySQL `without_gtids`.
pub(crate) async fn transactions_begin_beyond_4_gib(kind: Kind, without_gtids: bool) {
    let mut extra = match kind {
        Kind::MySql => "innodb_redo_log_capacity = 1G\n".to_owned(),
        Kind::MariaDb => "innodb_log_file_size = 512M\n".to_owned(),
    };
    if without_gtids {
        extra.push_str("gtid_mode = OFF\nenforce_gtid_consistency = OFF\n");
    }
    let server = Server::start(kind, 61, &extra).await;
    server
        .run(&[
            "CREATE DATABASE big",
            "CREATE TABLE big.t (id INT PRIMARY KEY, n INT, v LONGBLOB)",
            "CREATE TABLE big.s (id INT PRIMARY KEY)",
        ])
        .await;
    let fill: Vec<String> =
        (1..=ROWS).map(|id| format!("INSERT INTO big.t VALUES ({id}, 0, REPEAT('x', {PIECE}))")).collect();
    server.run(&fill.iter().map(String::as_str).collect::<Vec<_>>()).await;
    server.run(&["FLUSH BINARY LOGS"]).await;
    let start = tail::end_of_binlog(&server).await;
    write(&server).await;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("place");
    let keep =
        ["--tables", "big.*", "--exclude-columns", "big.t.v", "--max-row-bytes", "100000000", "--checkpoint"];
    let read = |from: &[&str]| {
        let args = [&keep[..], &[path.to_str().unwrap()], from].concat();
        let lines = tail::try_lines(&server.url(), &args).unwrap_or_else(|error| panic!("{error}"));
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let all = read(&["--from", &start]);
    let expected = ROWS * UPDATES;
    let large = all.iter().filter(|m| m["table"] == "t").count();
    assert_eq!(u64::try_from(large).unwrap(), expected);
    let beyond: Vec<&Value> =
        all.iter().filter(|m| m["position"]["offset"].as_u64().unwrap() > u64::from(u32::MAX)).collect();
    let ids = |messages: &[Value]| -> Vec<u64> {
        messages.iter().filter_map(|m| m["after"]["id"].as_u64().filter(|_| m["table"] == "s")).collect()
    };
    let count: Vec<u64> = (1..=u64::try_from(ids(&all).len()).unwrap()).collect();
    assert_eq!(ids(&all), count);
    let Some(first) = beyond.first() else { panic!("no transaction starts beyond 4 GiB: {:?}", all.last()) };
    // On behind that very transaction, as after a crash: nothing missing, nothing twice.
    let mut place: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let file = first["position"]["file"].as_str().unwrap();
    let gtid = first["txn"]["id"].as_str().filter(|_| !without_gtids);
    place["after"] = json!({
        "position": {"epoch": 1, "file": number(file), "offset": first["position"]["offset"]},
        "file_name": file,
        "gtid": gtid,
    });
    place["covered"] = Value::Null;
    std::fs::write(&path, place.to_string()).unwrap();
    let at = all.iter().position(|m| m == *first).unwrap();
    server.run(&["INSERT INTO big.s VALUES (1000000)"]).await;
    let rest = read(&[]);
    assert_eq!(rest[..rest.len() - 1], all[at + 1..]);
    assert_eq!(rest.last().unwrap()["after"]["id"], 1_000_000);
    if without_gtids {
        return;
    }
    // By GTIDs that end with the large transaction, which the server passes over.
    let large = all.iter().find(|m| m["table"] == "t").unwrap()["txn"]["id"].as_str().unwrap();
    let set = match kind {
        Kind::MySql => {
            let (server, number) = large.split_once(':').unwrap();
            format!("{server}:1-{number}")
        }
        Kind::MariaDb => large.to_owned(),
    };
    let behind = all.iter().rposition(|m| m["table"] == "t").unwrap() + 1;
    let rest = read(&["--from", &set]);
    assert_eq!(rest[..rest.len() - 1], all[behind..], "from {set}");
}

fn number(file: &str) -> u32 {
    file.rsplit_once('.').unwrap().1.parse().unwrap()
}

/// One transaction of more than 4 GiB, and small ones that are committed in the same group, behind it: the file is
/// ended after the whole group.
async fn write(server: &Server) {
    let group = match server.kind {
        Kind::MySql => "SET GLOBAL binlog_group_commit_sync_delay = 1000000",
        Kind::MariaDb => "SET GLOBAL binlog_commit_wait_count = 2, GLOBAL binlog_commit_wait_usec = 20000000",
    };
    let mut large = server.connect().await;
    large.query_drop("START TRANSACTION").await.unwrap();
    for _ in 0..UPDATES {
        large.query_drop("UPDATE big.t SET n = n + 1").await.unwrap();
    }
    server.run(&[group]).await;
    let committed = tokio::spawn(async move { large.query_drop("COMMIT").await.unwrap() });
    let mut small = server.connect().await;
    let start = Instant::now();
    let committing =
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'COMMIT' AND TIME_MS > 500";
    let committing = match server.kind {
        Kind::MariaDb => committing,
        Kind::MySql => "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE INFO = 'COMMIT'",
    };
    while small.query_first::<u64, _>(committing).await.unwrap() == Some(0) {
        assert!(start.elapsed() < LIMIT, "the commit does not begin");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut id = 0;
    while !committed.is_finished() {
        id += 1;
        small.query_drop(format!("INSERT INTO big.s VALUES ({id})")).await.unwrap();
        assert!(start.elapsed() < LIMIT, "the commit does not end");
    }
    committed.await.unwrap();
    let calm = match server.kind {
        Kind::MySql => "SET GLOBAL binlog_group_commit_sync_delay = 0",
        Kind::MariaDb => "SET GLOBAL binlog_commit_wait_count = 0",
    };
    server.run(&[calm]).await;
}
