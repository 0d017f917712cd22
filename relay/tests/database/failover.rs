//! Two relays, ZooKeeper, and a pair of servers that change places: all relays agree on each epoch and on every row of it,
//! and nothing of it comes twice or is lost, whoever dies meanwhile.

use crate::program::{LIMIT, Relay, Settings};
use crate::proxy::Proxy;
use crate::server::{Kind, PASSWORD, Server, USER};
use crate::zookeeper::ZooKeeper;
use mysql_async::prelude::Queryable;
use relay::client::{ClientError, Stream, StreamEvent, Subscription, subscribe};
use relay::config;
use relay::gtid::GtidSet;
use relay::position::Position;
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet};
use relay::zk::Zk;
use relay::zk::types::ReadNode;
use std::ops::Range;
use std::time::Duration;

/// One row as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    position: Position,
    row: u64,
    gtid: Option<String>,
    id: i32,
}

impl Seen {
    /// Behind it.
    fn after(&self) -> StartFrom {
        StartFrom::Position { position: self.position, rows: self.row + 1 }
    }
}

/// What a consumer has got.
#[derive(Debug, Default)]
struct Got {
    rows: Vec<Seen>,
    /// The last mark.
    covered: Option<Position>,
}

async fn open(relay: &Relay, from: StartFrom) -> Result<Stream, ClientError> {
    subscribe(Subscription {
        address: relay.address.clone(),
        cluster: "c".into(),
        source: "s".into(),
        group: "g".into(),
        member: "m".into(),
        from,
        partitions: PartitionSet::all(1),
        credit_bytes: 1 << 20,
    })
    .await
}

/// Rows from a place on, up to a row, and the mark behind it.
async fn try_read(relay: &Relay, from: StartFrom, last: i32) -> Result<Got, ClientError> {
    let (mut stream, mut got) = (open(relay, from).await?, Got::default());
    loop {
        match stream.next().await? {
            StreamEvent::Block(block) => {
                for item in block.items() {
                    let BlockItem::Row { txn, row, change } = item else { continue };
                    // Behind the bitmaps of columns and of NULLs; a statement has none.
                    let Some(id) = change.after.get(2..6).filter(|_| !change.schema.columns.is_empty())
                    else {
                        continue;
                    };
                    let id = i32::from_le_bytes(id.try_into().unwrap());
                    let (position, gtid) = (txn.start.position, txn.start.gtid.clone());
                    got.rows.push(Seen { position, row, gtid, id });
                }
            }
            StreamEvent::Covered(covered) => {
                got.covered = Some(covered.position);
                let behind = |row: &Seen| row.id == last && row.position < covered.position;
                if got.rows.last().is_some_and(behind) {
                    return Ok(got);
                }
            }
        }
    }
}

/// The same, from a relay that is perhaps not there yet.
async fn read(relay: &Relay, from: StartFrom, last: i32) -> Got {
    let got = async {
        loop {
            match try_read(relay, from.clone(), last).await {
                Ok(got) => return got,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let got = tokio::time::timeout(LIMIT, got).await.ok();
    got.unwrap_or_else(|| panic!("no row {last} from {from:?}; the relay's log:\n{}", relay.log()))
}

fn ids(rows: &[Seen]) -> Vec<i32> {
    rows.iter().map(|row| row.id).collect()
}

fn of_epoch(rows: &[Seen], epoch: u32) -> Vec<Seen> {
    rows.iter().filter(|row| row.position.epoch == epoch).cloned().collect()
}

/// What a relay has noted of the epoch in force.
fn epoch(relay: &Relay) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(relay.dir.join("s/epoch.json")).unwrap()).unwrap()
}

async fn insert(server: &Server, ids: Range<i32>) {
    let mut conn = server.connect().await;
    for id in ids {
        conn.query_drop(format!("INSERT INTO shop.t VALUES ({id}, 1)")).await.unwrap();
    }
    conn.disconnect().await.unwrap();
}

async fn has(server: &Server, rows: usize) {
    let mut conn = server.connect().await;
    let reached = async {
        // The table may not be there yet.
        while conn.query_first::<usize, _>("SELECT COUNT(*) FROM shop.t").await.ok().flatten() != Some(rows) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, reached).await.expect("the replica follows");
    conn.disconnect().await.unwrap();
}

async fn follow(replica: &Server, server: &Server) {
    let port = server.port;
    let statements = match replica.kind {
        Kind::MySql => [
            format!(
                "CHANGE REPLICATION SOURCE TO SOURCE_HOST = '127.0.0.1', SOURCE_PORT = {port}, SOURCE_USER = '{USER}', \
                 SOURCE_PASSWORD = '{PASSWORD}', SOURCE_AUTO_POSITION = 1, GET_SOURCE_PUBLIC_KEY = 1"
            ),
            "START REPLICA".to_owned(),
        ],
        Kind::MariaDb => [
            format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = '{USER}', \
                 MASTER_PASSWORD = '{PASSWORD}', MASTER_USE_GTID = current_pos"
            ),
            "START SLAVE".to_owned(),
        ],
    };
    replica.run(&statements.each_ref().map(String::as_str)).await;
}

async fn go_alone(replica: &Server) {
    match replica.kind {
        Kind::MySql => replica.run(&["STOP REPLICA", "RESET REPLICA ALL"]).await,
        Kind::MariaDb => replica.run(&["STOP SLAVE", "RESET SLAVE ALL"]).await,
    }
}

/// Two servers with binlogs of other names and numbers, the second one following the first.
async fn pair(kind: Kind) -> (Server, Server) {
    let (extra, reset) = match kind {
        Kind::MySql => ("", "RESET BINARY LOGS AND GTIDS"),
        Kind::MariaDb => ("log_slave_updates = ON\n", "RESET MASTER"),
    };
    let other = format!("{extra}log_bin = other\n");
    let (a, b) = tokio::join!(Server::start(kind, 21, extra), Server::start(kind, 22, &other));
    a.run(&["CREATE DATABASE shop", "CREATE TABLE shop.t (id INT PRIMARY KEY, v INT)"]).await;
    b.run(&[reset, "FLUSH BINARY LOGS", "FLUSH BINARY LOGS", "FLUSH BINARY LOGS"]).await;
    follow(&b, &a).await;
    (a, b)
}

pub(crate) async fn relays_agree(kind: Kind) {
    let (zookeeper, (a, b)) = tokio::join!(ZooKeeper::start(), pair(kind));
    let (to1, to2) = tokio::join!(Proxy::start(a.port), Proxy::start(a.port));
    let (dir1, dir2) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let settings = |proxy: &Proxy, id, server_id| Settings {
        id,
        server_id,
        zookeeper: Some(zookeeper.port),
        ..Settings::new(proxy.port, "shop.*")
    };
    let mut r1 = Relay::start(dir1.path(), &settings(&to1, "r1", 4100));
    let mut r2 = Relay::start(dir2.path(), &settings(&to2, "r2", 4110));
    let both_to = |server: &Server| {
        to1.lead_to(server.port);
        to2.lead_to(server.port);
    };
    let all = StartFrom::Earliest;

    // The replica lacks what was served: both refuse it.
    insert(&a, 0..50).await;
    has(&b, 50).await;
    go_alone(&b).await;
    insert(&a, 50..60).await;
    let (first, second) = (read(&r1, all.clone(), 59).await, read(&r2, all.clone(), 59).await);
    assert_eq!(first.rows, second.rows);
    both_to(&b);
    r1.says("lacks transactions that were served").await;
    r2.says("lacks transactions that were served").await;
    assert_eq!((epoch(&r1)["number"].as_u64(), epoch(&r1)), (Some(1), epoch(&r2)));

    // It catches up and takes over; the relays are killed meanwhile, and start at once.
    r1.end();
    r2.end();
    follow(&b, &a).await;
    has(&b, 60).await;
    go_alone(&b).await;
    // One of them still reaches the former server: the other one waits for it.
    to1.lead_to(a.port);
    r1.start_again();
    said(&zookeeper, "r1", |read| read.reading).await;
    r2.start_again();
    r2.says("relay r1 still reads server").await;
    assert_eq!(epoch(&r2)["number"].as_u64(), Some(1));
    to1.lead_to(b.port);
    insert(&b, 60..100).await;
    let (first, second) = (read(&r1, all.clone(), 99).await, read(&r2, all.clone(), 99).await);
    assert_eq!(ids(&first.rows), (0..100).collect::<Vec<_>>());
    assert_eq!(first.rows, second.rows);
    assert_eq!(of_epoch(&first.rows, 2).len(), 40);
    assert_eq!((epoch(&r1)["number"].as_u64(), epoch(&r1)), (Some(2), epoch(&r2)));
    assert_eq!(epoch(&r1)["node"]["file_base"], "other");

    // One relay is away while they change places again.
    r2.end();
    follow(&a, &b).await;
    insert(&b, 100..120).await;
    let end_of_2 = read(&r1, first.rows[99].after(), 119).await;
    has(&a, 120).await;
    go_alone(&a).await;
    both_to(&a);
    insert(&a, 120..130).await;
    let first = read(&r1, all.clone(), 129).await;
    assert_eq!(ids(&first.rows), (0..130).collect::<Vec<_>>());
    let third = of_epoch(&first.rows, 3);
    assert_eq!(ids(&third), (120..130).collect::<Vec<_>>());
    r2.start_again();
    for crash in [false, true] {
        if crash {
            // As a crash leaves it between the log's end and its first mark.
            r2.end();
            std::fs::remove_dir_all(dir2.path().join("s/log")).unwrap();
            r2.start_again();
        }
        let second = read(&r2, all.clone(), 129).await;
        assert_eq!(second.rows, third, "crash: {crash}");
        assert_eq!(epoch(&r1), epoch(&r2));
        // Whoever had everything of the former epoch goes on there; who had not is told so, and goes on elsewhere.
        let position = end_of_2.covered.unwrap();
        assert_eq!(read(&r2, StartFrom::Position { position, rows: 0 }, 129).await.rows, third);
        let inside = end_of_2.rows[5].after();
        let refused = try_read(&r2, inside.clone(), 129).await.unwrap_err();
        assert!(!refused.is_transient() && refused.to_string().contains("epoch 2"), "{refused}");
        assert_eq!(ids(&read(&r1, inside, 129).await.rows), (106..130).collect::<Vec<_>>());
    }

    // The relay that has read furthest dies together with the server.
    follow(&b, &a).await;
    to2.lead_to(1);
    insert(&a, 130..140).await;
    let end_of_3 = read(&r1, third[9].after(), 139).await;
    let last = end_of_3.rows[9].gtid.clone().unwrap();
    said(&zookeeper, "r1", |read| read.gtids.parse::<GtidSet>().unwrap().contains(&last)).await;
    has(&b, 140).await;
    go_alone(&b).await;
    r1.end();
    both_to(&b);
    insert(&b, 140..150).await;
    let position = end_of_3.covered.unwrap();
    let fourth = read(&r2, StartFrom::Position { position, rows: 0 }, 149).await;
    assert_eq!(ids(&fourth.rows), (140..150).collect::<Vec<_>>());
    let inside = end_of_3.rows[5].after();
    let refused = try_read(&r2, inside.clone(), 149).await.unwrap_err();
    assert!(!refused.is_transient() && refused.to_string().contains("epoch 3"), "{refused}");
    r1.start_again();
    let first = read(&r1, inside, 149).await;
    assert_eq!(ids(&first.rows), (136..150).collect::<Vec<_>>());
    assert_eq!(of_epoch(&first.rows, 4), fourth.rows);
    assert_eq!((epoch(&r1)["number"].as_u64(), epoch(&r1)), (Some(4), epoch(&r2)));

    // One that stood still meanwhile, and is still connected to the former server, joins the others.
    follow(&a, &b).await;
    has(&a, 150).await;
    go_alone(&a).await;
    r1.signal("STOP");
    to2.lead_to(a.port);
    insert(&a, 150..160).await;
    let second = read(&r2, fourth.rows[9].after(), 159).await;
    r1.signal("CONT");
    r1.says("relay r2 still reads server").await;
    to1.lead_to(a.port);
    let first = read(&r1, fourth.rows[9].after(), 159).await;
    assert_eq!(ids(&first.rows), (150..160).collect::<Vec<_>>());
    assert_eq!(first.rows, second.rows);
    assert_eq!((epoch(&r1)["number"].as_u64(), epoch(&r1)), (Some(5), epoch(&r2)));
}

/// Waits until ZooKeeper knows this of a relay.
async fn said(zookeeper: &ZooKeeper, relay: &str, what: impl Fn(&ReadNode) -> bool) {
    let servers = vec![format!("127.0.0.1:{}", zookeeper.port)];
    let config = config::ZooKeeper { servers, session_timeout_ms: 2000, auth_file: None };
    let zk = Zk::start(&config, "c").unwrap();
    zk.connected().await;
    let said = async {
        while !zk.read_of("s", relay).await.unwrap().is_some_and(|read| what(&read)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LIMIT, said).await.expect("the relay says what it has read");
}
