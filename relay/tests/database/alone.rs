//! Two sources of a relay, one of which cannot be read any more: it says why and what to do, and the other goes on.

use crate::program::{LIMIT, Relay, Settings};
use crate::proxy::Proxy;
use crate::server::{Kind, Server, USER};
use mysql_async::prelude::Queryable;
use std::path::Path;
use std::time::Duration;

async fn table(server: &Server) {
    server
        .run(&[
            "CREATE DATABASE IF NOT EXISTS alone",
            "CREATE TABLE IF NOT EXISTS alone.t (id INT PRIMARY KEY)",
        ])
        .await;
}

async fn insert(server: &Server, ids: std::ops::Range<u32>) {
    let mut conn = server.connect().await;
    for id in ids {
        conn.query_drop(format!("INSERT INTO alone.t VALUES ({id})")).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

async fn newest_file(server: &Server) -> String {
    server.end().await.0
}

/// Waits until the relay has on disk what it has read: all that the server has executed.
async fn kept(relay: &Relay, server: &Server) {
    let sql = match server.kind {
        Kind::MySql => "SELECT REPLACE(@@global.gtid_executed, '\n', '')",
        Kind::MariaDb => "SELECT @@global.gtid_binlog_pos",
    };
    let mut conn = server.connect().await;
    let all: String = conn.query_first(sql).await.unwrap().unwrap();
    conn.disconnect().await.unwrap();
    let is_kept = async {
        loop {
            let text = std::fs::read(relay.dir.join("s/executed.json")).unwrap_or_default();
            let json: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
            if json["executed"]["gtids"] == all.as_str() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, is_kept).await.expect("it is kept in time");
}

/// A relay of the server, or what stands before it, and of the other one.
fn start(dir: &Path, port: u16, other: &Server) -> Relay {
    let more = format!(
        "  other:\n    mysql: {{host: 127.0.0.1, port: {}, user: {USER}, password_file: {}/password, server_id: 4200}}\n    \
         tables: ['alone.*']\n",
        other.port,
        dir.display()
    );
    Relay::start(dir, &Settings { source: &more, ..Settings::new(port, "alone.*") })
}

async fn rows_of_other(relay: &Relay) -> Option<u64> {
    let text = relay.bean("aesop.relay:type=Source,name=other").await?;
    let json: serde_json::Value = serde_json::from_str(text.rsplit_once("\r\n\r\n")?.1).ok()?;
    json["value"]["InsertsTotal"].as_u64()
}

/// The source has stopped and says this, while rows of the other come.
async fn stops_alone(relay: &Relay, words: &[&str], other: &Server, next: &mut u32) {
    relay.says("\"State\":\"stopped\"").await;
    let said = relay.metrics().await.unwrap();
    for word in words {
        assert!(said.contains(word), "{word:?} is not said: {said}");
    }
    let before = rows_of_other(relay).await.unwrap();
    insert(other, *next..*next + 10).await;
    *next += 10;
    let come = async {
        while rows_of_other(relay).await.is_none_or(|rows| rows < before + 10) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, come).await.expect("the other source goes on");
    assert!(relay.metrics().await.unwrap().contains("\"State\":\"stopped\""));
}

pub(crate) async fn a_source_stops_and_the_other_goes_on(kind: Kind) {
    let id = if kind == Kind::MySql { 61 } else { 64 };
    let without = if kind == Kind::MySql { "gtid_mode = OFF\nenforce_gtid_consistency = OFF" } else { "" };
    let (server, other, stranger) = tokio::join!(
        Server::start(kind, id, ""),
        Server::start(kind, id + 1, ""),
        // Of MariaDB with the number of the server whose place it takes.
        Server::start(kind, if kind == Kind::MySql { id + 2 } else { id }, without)
    );
    for server in [&server, &other, &stranger] {
        table(server).await;
    }
    let (mut next, mut rows) = (0, 0);
    let up_to_date = async |relay: &Relay, rows: &mut u32| {
        insert(&server, *rows..*rows + 10).await;
        *rows += 10;
        let (file, offset) = server.end().await;
        let lines = relay.lines(&file, offset).await;
        let inserts = lines.iter().filter(|line| line.contains("\"op\":\"insert\"")).count();
        assert_eq!(inserts, usize::try_from(*rows).unwrap());
        kept(relay, &server).await;
    };

    // Purged while the relay was away.
    let dir = tempfile::tempdir().unwrap();
    let mut relay = start(dir.path(), server.port, &other);
    up_to_date(&relay, &mut rows).await;
    relay.end();
    server.run(&["FLUSH BINARY LOGS", "FLUSH BINARY LOGS"]).await;
    let purge = format!("PURGE BINARY LOGS TO '{}'", newest_file(&server).await);
    server.run(&[&purge]).await;
    relay.start_again();
    let purged = ["no longer has the binlog", "take a snapshot", "accept the gap"];
    stops_alone(&relay, &purged, &other, &mut next).await;
    drop(relay);

    // Another server behind the address.
    let proxy = Proxy::start(server.port).await;
    let dir = tempfile::tempdir().unwrap();
    let mut relay = start(dir.path(), proxy.port, &other);
    insert(&server, rows..rows + 10).await;
    let (file, offset) = server.end().await;
    relay.lines(&file, offset).await;
    kept(&relay, &server).await;
    relay.end();
    // It has files of the same names, and more in them.
    insert(&stranger, 0..300).await;
    while newest_file(&stranger).await < file {
        stranger.run(&["FLUSH BINARY LOGS"]).await;
    }
    insert(&stranger, 300..600).await;
    proxy.lead_to(stranger.port);
    relay.start_again();
    let strange = match kind {
        Kind::MySql => ["lacks transactions that were served", "another name"],
        // It has the number of the server whose place it takes.
        Kind::MariaDb => ["found there: ", "another name"],
    };
    stops_alone(&relay, &strange, &other, &mut next).await;
    drop(relay);

    // Reset while the relay was away, and as far as before: the files have the same names.
    let dir = tempfile::tempdir().unwrap();
    let reset = match kind {
        Kind::MySql => "RESET BINARY LOGS AND GTIDS",
        Kind::MariaDb => "RESET MASTER",
    };
    server.run(&[reset]).await;
    server.run(&["DELETE FROM alone.t"]).await;
    let mut relay = start(dir.path(), server.port, &other);
    insert(&server, 0..10).await;
    let (file, offset) = server.end().await;
    relay.lines(&file, offset).await;
    kept(&relay, &server).await;
    relay.end();
    server.run(&[reset]).await;
    relay.start_again();
    stops_alone(&relay, &["no longer has what was read from it before", "another name"], &other, &mut next)
        .await;
}
