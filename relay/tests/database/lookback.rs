//! Streams that begin before the relay's log: by position, by time, by GTID set; and those that begin inside it.

use crate::program::bean;
use crate::server::{Kind, PASSWORD, Server, USER};
use crate::xa;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;
use relay::client::{ClientError, Stream, StreamEvent, Subscription, subscribe};
use relay::config::{Format, RelayConfig};
use relay::format::{Formatter, RowContext};
use relay::position::Position;
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet};
use serde_json::Value;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Nothing here takes as long.
pub(crate) const LIMIT: Duration = Duration::from_mins(1);

/// A relay of one source, in this process, whose log begins now.
pub(crate) struct Relay {
    pub(crate) address: String,
    http: String,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
    _dir: tempfile::TempDir,
}

impl Relay {
    pub(crate) async fn start(server: &Server) -> Self {
        Self::start_with(server, "row_metadata").await
    }

    /// One whose source has this `schema`.
    pub(crate) async fn start_with(server: &Server, schema: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let password = dir.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        let free = || format!("127.0.0.1:{}", crate::server::free_port());
        let (address, http) = (free(), free());
        let text = format!(
            "cluster: c\nid: r1\nlisten: {address}\nadvertise: {address}\nhttp_listen: {http}\ndata_dir: {}\n\
             sources:\n  s:\n    mysql: {{host: 127.0.0.1, port: {}, user: {USER}, password_file: {}, server_id: 4000}}\n    \
             tables: [back.*]\n    start: latest\n    schema: {schema}\n",
            dir.path().display(),
            server.port,
            password.display(),
        );
        let config: RelayConfig = serde_yaml::from_str(&text).unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let stop = stop.clone();
            async move { relay::run::run(config, stop).await.unwrap() }
        });
        let relay = Self { address, http, stop, running, _dir: dir };
        loop {
            let begun =
                relay.open("probe", StartFrom::Latest).await.ok().and_then(|stream| stream.welcome().lowest);
            if begun.is_some() {
                return relay;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn open(&self, member: &str, from: StartFrom) -> Result<Stream, ClientError> {
        subscribe(Subscription {
            address: self.address.clone(),
            cluster: "c".into(),
            source: "s".into(),
            group: "g".into(),
            member: member.into(),
            from,
            partitions: PartitionSet::all(4),
            credit_bytes: 1 << 20,
        })
        .await
    }

    /// What is counted of reading again.
    async fn look_backs(&self, attribute: &str) -> u64 {
        let text = bean(&self.http, "aesop.relay:type=LookBack,source=s").await.expect("an answer");
        let (_, json) = text.rsplit_once("\r\n\r\n").expect("a body");
        let json: Value = serde_json::from_str(json).expect("it is JSON");
        json["value"][attribute].as_u64().unwrap_or_else(|| panic!("no {attribute}: {json}"))
    }

    pub(crate) async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(LIMIT, self.running).await.unwrap().unwrap();
    }

    /// The ids that come, up to this one.
    async fn ids(&self, member: &str, from: StartFrom, last: i64) -> Result<Vec<i64>, ClientError> {
        let mut stream = self.open(member, from).await?;
        let mut ids = Vec::new();
        while ids.last() != Some(&last) {
            next(&mut stream, &mut ids).await?;
        }
        Ok(ids)
    }
}

async fn next(stream: &mut Stream, ids: &mut Vec<i64>) -> Result<(), ClientError> {
    let event = tokio::time::timeout(LIMIT, stream.next()).await.expect("something comes in time")?;
    let StreamEvent::Block(block) = event else { return Ok(()) };
    for item in block.items() {
        let BlockItem::Row { txn, row, change } = item else { continue };
        let context = RowContext { source: "s", txn, row, change, server_uuid: "", snapshot: false };
        let mut json = Vec::new();
        Formatter::new(Format::Aesop).value(&context, &mut json).unwrap();
        let message: Value = serde_json::from_slice(&json).unwrap();
        ids.extend(message["key"]["id"].as_i64());
    }
    Ok(())
}

async fn position(conn: &mut Conn, kind: Kind) -> StartFrom {
    let sql = match kind {
        Kind::MySql => "SHOW BINARY LOG STATUS",
        Kind::MariaDb => "SHOW MASTER STATUS",
    };
    let row: mysql_async::Row = conn.query_first(sql).await.unwrap().unwrap();
    let (file, offset): (String, u64) = (row.get(0).unwrap(), row.get(1).unwrap());
    let number = file.rsplit_once('.').unwrap().1.parse().unwrap();
    StartFrom::Position { position: Position::new(1, number, offset), rows: 0 }
}

async fn gtids(conn: &mut Conn, kind: Kind) -> StartFrom {
    let sql = match kind {
        Kind::MySql => "SELECT REPLACE(@@global.gtid_executed, '\n', '')",
        Kind::MariaDb => "SELECT @@global.gtid_binlog_pos",
    };
    StartFrom::Gtid(conn.query_first(sql).await.unwrap().unwrap())
}

/// A moment that no transaction shares: MariaDB knows whole seconds.
async fn moment(conn: &mut Conn) -> StartFrom {
    let now = "SELECT FLOOR(UNIX_TIMESTAMP(SYSDATE()))";
    let begun: i64 = conn.query_first(now).await.unwrap().unwrap();
    loop {
        let second: i64 = conn.query_first(now).await.unwrap().unwrap();
        if second > begun {
            return StartFrom::Time(second * 1_000_000);
        }
        conn.query_drop("DO SLEEP(0.02)").await.unwrap();
    }
}

async fn insert(conn: &mut Conn, ids: std::ops::Range<i64>) {
    for id in ids {
        conn.query_drop(format!("INSERT INTO back.t VALUES ({id}, REPEAT('x', 1000))")).await.unwrap();
        conn.query_drop(format!("INSERT INTO other.t VALUES ({id})")).await.unwrap();
    }
}

pub(crate) async fn what_is_older_than_the_log_is_read_again(server: &Server) {
    server
        .run(&[
            "DROP DATABASE IF EXISTS back",
            "DROP DATABASE IF EXISTS other",
            "CREATE DATABASE back",
            "CREATE DATABASE other",
            "CREATE TABLE back.t (id INT PRIMARY KEY, v TEXT)",
            "CREATE TABLE other.t (id INT PRIMARY KEY)",
        ])
        .await;
    let (mut conn, kind) = (server.connect().await, server.kind);
    insert(&mut conn, 0..50).await;
    let old = position(&mut conn, kind).await;
    insert(&mut conn, 50..100).await;
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    let (old_gtids, old_time) = (gtids(&mut conn, kind).await, moment(&mut conn).await);
    insert(&mut conn, 100..150).await;
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    let relay = Relay::start(server).await;
    insert(&mut conn, 150..200).await;
    let (new, new_gtids, new_time) =
        (position(&mut conn, kind).await, gtids(&mut conn, kind).await, moment(&mut conn).await);
    insert(&mut conn, 200..250).await;
    let all = |first: i64| (first..250).collect::<Vec<_>>();
    let read = async |from: &StartFrom| relay.ids("m", from.clone(), 249).await.unwrap();
    // In the log: no second reader of the binlog, but for a time: what was committed before the log began is not known.
    assert_eq!(read(&StartFrom::Earliest).await, all(150));
    for from in [&new, &new_gtids] {
        assert_eq!(read(from).await, all(200), "{from:?}");
        assert_eq!(relay.look_backs("LookBacksTotal").await, 0, "{from:?} is in the log");
    }
    assert_eq!(read(&new_time).await, all(200));
    // Older.
    assert_eq!(read(&old).await, all(50));
    for from in [&old_gtids, &old_time] {
        assert_eq!(read(from).await, all(100), "{from:?}");
    }
    // Two at a time, and those that want the same share one.
    let mut first = relay.open("a", old.clone()).await.unwrap();
    let mut second = relay.open("b", old_gtids.clone()).await.unwrap();
    let mut ids = Vec::new();
    next(&mut first, &mut ids).await.unwrap();
    assert_eq!(relay.ids("c", old.clone(), 249).await.unwrap(), all(50));
    next(&mut second, &mut ids).await.unwrap();
    drop((first, second));
    assert!(relay.look_backs("LookBacksTotal").await > 0);
    // Once MySQL has dropped it too, it is a definite error.
    let last: Vec<(String, u64)> = conn
        .query_map("SHOW BINARY LOGS", |row: mysql_async::Row| (row.get(0).unwrap(), row.get(1).unwrap()))
        .await
        .unwrap();
    let last = last.last().unwrap();
    let refused = async |from: &StartFrom| loop {
        // A dump that was just ended may still hold a file.
        conn_drop(server, &format!("PURGE BINARY LOGS TO '{}'", last.0)).await;
        match relay.ids("m", from.clone(), 249).await {
            Err(error) if !error.is_transient() => return error.to_string(),
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    let error = tokio::time::timeout(LIMIT, refused(&old)).await.expect("refused in time");
    assert!(error.contains("older than the relay's log") && error.contains("take a snapshot"), "{error}");
    assert!(
        relay.look_backs("LookBacksFailedTotal").await + relay.look_backs("ReadersRefusedTotal").await > 0
    );
    let ended = async {
        while relay.look_backs("LookBacksActive").await + relay.look_backs("ReadersActive").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, ended).await.expect("what nobody reads any more is counted no more");
    assert_eq!(read(&new).await, all(200));
    conn.disconnect().await.unwrap();
    relay.end().await;
}

/// A branch ends behind a place that a stream asks for, and was prepared before it.
pub(crate) async fn branches_prepared_before_the_place_are_found(server: &Server) {
    server
        .run(&[
            "DROP DATABASE IF EXISTS back",
            "CREATE DATABASE back",
            "CREATE TABLE back.t (id INT PRIMARY KEY, v LONGTEXT)",
        ])
        .await;
    let (mut conn, kind) = (server.connect().await, server.kind);
    let rows = |id: i64| format!("INSERT INTO back.t VALUES ({id}, 'x'), ({}, REPEAT('x', 300000))", id + 1);
    // The name was used before, and is used again; another branch is as old and never ends.
    xa::prepare(server, "p", &[&rows(1000)]).await;
    conn.query_drop("XA COMMIT 'p'").await.unwrap();
    xa::prepare(server, "q", &[&rows(1010)]).await;
    xa::prepare(server, "p", &[&rows(1020)]).await;
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    conn.query_drop(rows(0)).await.unwrap();
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    conn.query_drop(rows(10)).await.unwrap();
    let (old, old_gtids) = (position(&mut conn, kind).await, gtids(&mut conn, kind).await);
    conn.query_drop(rows(20)).await.unwrap();
    conn.query_drop("XA COMMIT 'p'").await.unwrap();
    conn.query_drop(rows(30)).await.unwrap();
    xa::prepare(server, "p", &[&rows(1030)]).await;
    conn.query_drop("FLUSH BINARY LOGS").await.unwrap();
    let relay = Relay::start(server).await;
    // In the log, prepared before it begins.
    conn.query_drop("XA COMMIT 'p'").await.unwrap();
    conn.query_drop(rows(40)).await.unwrap();
    assert_eq!(relay.ids("m", StartFrom::Earliest, 41).await.unwrap(), [1030, 1031, 40, 41]);
    let all = [20, 21, 1020, 1021, 30, 31, 1030, 1031, 40, 41];
    for from in [&old, &old_gtids] {
        assert_eq!(relay.ids("m", from.clone(), 41).await.unwrap(), all, "{from:?}");
    }
    // Once the file with the XA PREPARE is gone it is a definite error.
    let StartFrom::Position { position, .. } = old else { panic!("a position") };
    let files: Vec<String> =
        conn.query_map("SHOW BINARY LOGS", |row: mysql_async::Row| row.get(0).unwrap()).await.unwrap();
    let number = |name: &str| name.rsplit_once('.').unwrap().1.parse::<u32>().unwrap();
    let kept = files.iter().find(|name| number(name) == position.file).unwrap();
    let refused = async {
        loop {
            // A dump that was just ended may still hold a file.
            conn_drop(server, &format!("PURGE BINARY LOGS TO '{kept}'")).await;
            match relay.ids("m", old.clone(), 41).await {
                Err(error) if !error.is_transient() => return error.to_string(),
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let error = tokio::time::timeout(LIMIT, refused).await.expect("refused in time");
    assert!(error.contains("XA PREPARE is in no binlog") && error.contains("take a snapshot"), "{error}");
    conn.query_drop("XA ROLLBACK 'q'").await.unwrap();
    conn.disconnect().await.unwrap();
    relay.end().await;
}

async fn conn_drop(server: &Server, sql: &str) {
    let mut conn = server.connect().await;
    conn.query_drop(sql).await.ok();
    conn.disconnect().await.ok();
}
