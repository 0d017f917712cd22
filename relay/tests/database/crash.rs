//! The database is killed while it is written to: what it has afterwards is what the relay says, no row more or less.

use crate::program::{LIMIT, Relay, Settings};
use crate::random::Random;
use crate::server::{Kind, PASSWORD, Server, USER};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const WRITERS: u64 = 4;

/// A writer and the number of its row.
type Row = (u64, u64);

/// Commits transactions of one to three rows, rolls others back, and returns the rows whose commit was acknowledged.
async fn write(port: u16, writer: u64, commits: Arc<AtomicU64>, stop: CancellationToken) -> BTreeSet<Row> {
    let (mut acknowledged, mut number) = (BTreeSet::new(), 0);
    while !stop.is_cancelled() {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(port)
            .user(Some(USER))
            .pass(Some(PASSWORD))
            .prefer_socket(false);
        let Ok(mut conn) = Conn::new(options).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        while !stop.is_cancelled() {
            let rows: Vec<Row> = (0..=number % 3).map(|row| (writer, number + row)).collect();
            number += 3;
            match transaction(&mut conn, &rows, number % 15 == 0).await {
                Ok(true) => {
                    commits.fetch_add(1, Ordering::Relaxed);
                    acknowledged.extend(rows);
                }
                Ok(false) => {}
                // What became of it nobody knows.
                Err(_) => break,
            }
        }
    }
    acknowledged
}

async fn transaction(conn: &mut Conn, rows: &[Row], roll_back: bool) -> mysql_async::Result<bool> {
    conn.query_drop("BEGIN").await?;
    for (writer, number) in rows {
        conn.query_drop(format!("INSERT INTO crash.t VALUES ({writer}, {number})")).await?;
    }
    conn.query_drop(if roll_back { "ROLLBACK" } else { "COMMIT" }).await?;
    Ok(!roll_back)
}

pub(crate) async fn nothing_is_lost_or_made_up(kind: Kind) {
    let server = Server::start(kind, 31, "").await;
    server
        .run(&[
            "CREATE DATABASE crash",
            "CREATE TABLE crash.t (writer INT, number INT, PRIMARY KEY (writer, number))",
        ])
        .await;
    let dir = tempfile::tempdir().unwrap();
    let relay = Relay::start(dir.path(), &Settings::new(server.port, "crash.*"));
    let (commits, stop) = (Arc::new(AtomicU64::new(0)), CancellationToken::new());
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| tokio::spawn(write(server.port, writer, Arc::clone(&commits), stop.clone())))
        .collect();
    let mut random = Random::new(crate::oracle::seed());
    let crashes = if std::env::var_os("AESOP_LONG").is_some() { 40 } else { 4 };
    for _ in 0..crashes {
        // Somewhere in the traffic, and at times before the relay reads again.
        let wanted = commits.load(Ordering::Relaxed) + u64::try_from(random.below(150)).unwrap() + 1;
        let reached = async {
            while commits.load(Ordering::Relaxed) < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(LIMIT, reached).await.expect("the writers go on");
        server.crash().await;
    }
    stop.cancel();
    let mut acknowledged = BTreeSet::new();
    for writer in writers {
        acknowledged.append(&mut writer.await.unwrap());
    }
    let mut conn = server.connect().await;
    let there: BTreeSet<Row> =
        conn.query("SELECT writer, number FROM crash.t").await.unwrap().into_iter().collect();
    conn.disconnect().await.unwrap();
    assert!(acknowledged.is_subset(&there), "the server itself lost rows");
    let (file, offset) = server.end().await;
    let lines = relay.lines(&file, offset).await;
    let row = |line: &String| {
        let message: Value = serde_json::from_str(line).unwrap();
        Some((message["key"]["writer"].as_u64()?, message["key"]["number"].as_u64()?))
    };
    let said: Vec<Row> = lines.iter().filter_map(row).collect();
    let once: BTreeSet<Row> = said.iter().copied().collect();
    assert_eq!(once.len(), said.len(), "every row once");
    assert_eq!(once, there);
    for writer in 0..WRITERS {
        let numbers = said.iter().filter(|(of, _)| *of == writer);
        assert!(numbers.is_sorted(), "writer {writer} in the order of its commits");
    }
}
