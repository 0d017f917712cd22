//! XA: rows come with their XA COMMIT, at its place, through restarts of the reader; never after an XA ROLLBACK.

use crate::server::{Kind, Server};
use crate::tail;
use mysql_async::prelude::Queryable;
use serde_json::Value;

pub(crate) async fn rows_come_with_their_commit(server: &Server) {
    server
        .run(&[
            "DROP DATABASE IF EXISTS xa",
            "CREATE DATABASE xa",
            "CREATE TABLE xa.t (id INT PRIMARY KEY, v VARCHAR(20))",
            "CREATE TABLE xa.u (id INT PRIMARY KEY, b LONGBLOB)",
        ])
        .await;
    let start = tail::end_of_binlog(server).await;
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("place").display().to_string();
    let read = |from: Option<&str>| {
        let mut args = vec!["--tables", "xa.*", "--checkpoint", &checkpoint];
        if let Some(from) = from {
            args.extend(["--from", from]);
        }
        let lines = tail::try_lines(&server.url(), &args).unwrap_or_else(|error| panic!("{error}"));
        lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap()).collect::<Vec<_>>()
    };
    let ids = |messages: &[Value]| {
        let id = |m: &Value| {
            format!("{} {} {}", m["op"].as_str().unwrap(), m["table"].as_str().unwrap(), m["key"]["id"])
        };
        messages.iter().map(id).collect::<Vec<_>>()
    };
    // Two branches, both prepared; other rows between them.
    prepare(
        server,
        "a",
        &[
            "INSERT INTO xa.t VALUES (1, 'a'), (2, 'b')",
            "INSERT INTO xa.u VALUES (1, REPEAT('x', 300000))",
            "UPDATE xa.t SET v = 'c' WHERE id = 2",
        ],
    )
    .await;
    server.run(&["INSERT INTO xa.t VALUES (10, 'plain')"]).await;
    prepare(server, "b", &["INSERT INTO xa.t VALUES (3, 'gone')"]).await;
    assert_eq!(ids(&read(Some(&start))), ["insert t 10"]);
    server.run(&["INSERT INTO xa.t VALUES (11, 'plain')", "XA ROLLBACK 'b'", "XA COMMIT 'a'"]).await;
    let later = read(None);
    assert_eq!(ids(&later), ["insert t 11", "insert t 1", "insert t 2", "insert u 1", "update t 2"]);
    assert!(later[1]["scn"].as_u64() > later[0]["scn"].as_u64(), "rows stand where they were committed");
    assert_eq!(later[4]["before"]["v"], "b");
    assert_eq!(later[4]["txn"]["rows"], 4);
    // The name again, with one phase, and prepared anew.
    prepare(server, "a", &["DELETE FROM xa.t WHERE id = 1"]).await;
    server
        .run(&[
            "XA COMMIT 'a'",
            "XA START 'a'",
            "INSERT INTO xa.t VALUES (4, 'one')",
            "XA END 'a'",
            "XA COMMIT 'a' ONE PHASE",
        ])
        .await;
    assert_eq!(ids(&read(None)), ["delete t 1", "insert t 4"]);
    // From before everything: the first branch of the name and the second keep apart.
    let all = read(Some(&start));
    let expected = [
        "insert t 10",
        "insert t 11",
        "insert t 1",
        "insert t 2",
        "insert u 1",
        "update t 2",
        "delete t 1",
        "insert t 4",
    ];
    assert_eq!(ids(&all), expected);
    // A branch prepared before reading began: its rows are found.
    prepare(server, "z", &["INSERT INTO xa.t VALUES (5, 'z')"]).await;
    server.run(&["FLUSH BINARY LOGS"]).await;
    let late = tail::end_of_binlog(server).await;
    server.run(&["INSERT INTO xa.t VALUES (12, 'plain')", "XA COMMIT 'z'"]).await;
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("late").display().to_string();
    let args = ["--tables", "xa.*", "--checkpoint", &checkpoint, "--from", &late];
    let lines = tail::try_lines(&server.url(), &args).unwrap_or_else(|error| panic!("{error}"));
    let found: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ids(&found), ["insert t 12", "insert t 5"]);
}

/// A branch that is prepared and left.
pub(crate) async fn prepare(server: &Server, name: &str, statements: &[&str]) {
    let mut conn = server.connect().await;
    conn.query_drop(format!("XA START '{name}'")).await.unwrap();
    for statement in statements {
        conn.query_drop(*statement).await.unwrap();
    }
    conn.query_drop(format!("XA END '{name}'")).await.unwrap();
    conn.query_drop(format!("XA PREPARE '{name}'")).await.unwrap();
    let id = conn.id();
    conn.disconnect().await.unwrap();
    // MariaDB lets others end a branch once its session is gone.
    if server.kind == Kind::MariaDb {
        let mut conn = server.connect().await;
        loop {
            let sql = format!("SELECT COUNT(*) FROM information_schema.processlist WHERE id = {id}");
            if conn.query_first::<u64, _>(sql).await.unwrap() == Some(0) {
                break;
            }
        }
        conn.disconnect().await.unwrap();
    }
}
