//! Clients that are slow, stuck or wrong: a good one beside them gets every row, and the relay stays as it was.

use crate::program::{LIMIT, Relay, Settings};
use crate::server::{Kind, Server};
use mysql_async::prelude::Queryable;
use relay::client::{StreamEvent, Subscription, subscribe};
use relay::position::Position;
use relay::wire::frame::{Frame, Hello, StartFrom, block_header};
use relay::wire::{BlockItem, PartitionSet, Selection};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Rows that are there before anybody comes: more bytes than all buffers between relay and client.
const ROWS: u64 = 3000;
const ROW_BYTES: usize = 10_000;
/// Rows that come meanwhile.
const MORE: u64 = 300;
/// Anonymous memory of the relay, a debug build, whoever connects.
const MEMORY_KIB: u64 = 256 << 10;
/// Of the relay under test.
const PER_PEER: u64 = 40;
const STUCK: &str = "limits: {connections: 200, connections_per_peer: 40, stuck_secs: 3}\n";

/// What the wrong ones do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    NeverReads,
    ReadsAByteASecond,
    Garbage,
    /// A frame that only a relay sends, of many megabytes.
    Oversize,
    /// A hello that is longer than any.
    LongHello,
    HalfAHello,
    NothingAtAll,
    CreditFirst,
    SecondHello,
    FloodOfCredit,
    NoCredit,
}

/// All, and whether they are cut off.
const ALL: [(Wrong, bool); 11] = [
    (Wrong::NeverReads, true),
    (Wrong::ReadsAByteASecond, true),
    (Wrong::Garbage, true),
    (Wrong::Oversize, true),
    (Wrong::LongHello, true),
    (Wrong::HalfAHello, true),
    (Wrong::NothingAtAll, true),
    (Wrong::CreditFirst, true),
    (Wrong::SecondHello, true),
    (Wrong::FloodOfCredit, true),
    (Wrong::NoCredit, false),
];

fn hello(member: &str, credit_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::Hello(Hello {
        cluster: "c".into(),
        source: "s".into(),
        group: "bad".into(),
        member: member.into(),
        from: StartFrom::Earliest,
        partitions: PartitionSet::all(1),
        credit_bytes,
        selection: Selection::default(),
    })
    .encode(&mut bytes);
    bytes
}

fn credit(bytes: u64) -> Vec<u8> {
    let mut frame = Vec::new();
    Frame::Credit(bytes).encode(&mut frame);
    frame
}

/// From an address of their own.
async fn connect(relay: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.2:0".parse().unwrap())?;
    socket.connect(relay).await
}

/// Misbehaves until it is cut off.
async fn misbehave(relay: SocketAddr, how: Wrong, number: usize) {
    let mut socket = connect(relay).await.expect("the relay listens");
    let member = format!("{how:?}-{number}");
    let first = match how {
        Wrong::NeverReads | Wrong::ReadsAByteASecond => hello(&member, u64::MAX),
        Wrong::SecondHello => [hello(&member, 1), hello(&member, 1)].concat(),
        Wrong::FloodOfCredit | Wrong::NoCredit => hello(&member, 0),
        Wrong::Garbage => (0..100_000u32).flat_map(u32::to_le_bytes).collect(),
        Wrong::Oversize => block_header(200 << 20).to_vec(),
        Wrong::LongHello => {
            let mut head = hello(&member, 1);
            head[4..8].copy_from_slice(&(64u32 << 20).to_le_bytes());
            head
        }
        Wrong::HalfAHello => hello(&member, 1)[..20].to_vec(),
        Wrong::NothingAtAll => Vec::new(),
        Wrong::CreditFirst => credit(1 << 40),
    };
    if socket.write_all(&first).await.is_err() {
        return;
    }
    let mut byte = [0; 1];
    match how {
        Wrong::NeverReads => {
            // Neither read nor closed: it is the relay that ends it.
            while socket.write_all(&credit(0)).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Wrong::ReadsAByteASecond => {
            while socket.read(&mut byte).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if socket.write_all(&credit(0)).await.is_err() {
                    return;
                }
            }
        }
        Wrong::Oversize | Wrong::LongHello => {
            let junk = vec![7; 1 << 20];
            while socket.write_all(&junk).await.is_ok() {}
        }
        Wrong::FloodOfCredit => {
            let flood = credit(0).repeat(10_000);
            while socket.write_all(&flood).await.is_ok() {}
        }
        Wrong::Garbage
        | Wrong::HalfAHello
        | Wrong::NothingAtAll
        | Wrong::CreditFirst
        | Wrong::SecondHello
        | Wrong::NoCredit => {
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.ok();
        }
    }
}

/// Reads as it should, to a row.
async fn good(address: String, member: String, last: u64) -> Vec<u64> {
    let mut stream = subscribe(Subscription {
        address,
        cluster: "c".into(),
        source: "s".into(),
        group: "good".into(),
        member,
        from: StartFrom::Earliest,
        partitions: PartitionSet::all(1),
        credit_bytes: 4 << 20,
    })
    .await
    .expect("the good one is served");
    let (mut ids, mut at) = (Vec::new(), Position::default());
    while ids.last() != Some(&last) {
        let event = tokio::time::timeout(LIMIT, stream.next()).await.expect("something comes in time");
        match event.expect("the good one is not cut off") {
            StreamEvent::Block(block) => {
                for item in block.items() {
                    let BlockItem::Row { txn, change, .. } = item else { continue };
                    assert!(txn.start.position >= at);
                    at = txn.start.position;
                    if !change.schema.columns.is_empty() {
                        let id = change.after[2..6].try_into().unwrap();
                        ids.push(u64::from(u32::from_le_bytes(id)));
                    }
                }
            }
            StreamEvent::Covered(_) => {}
        }
    }
    ids
}

/// Watches the relay's memory (anonymous, KiB) and descriptors; the most there were.
async fn watch(pid: u32, most: Arc<(AtomicU64, AtomicU64)>) {
    loop {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let memory = memory.and_then(|text| text.split_whitespace().next()?.parse().ok());
        most.0.fetch_max(memory.unwrap_or(0), Ordering::Relaxed);
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        most.1.fetch_max(u64::try_from(files).unwrap(), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn server_says(relay: &Relay, attribute: &str) -> u64 {
    let text = relay.bean("aesop.relay:type=Server").await.unwrap_or_default();
    let json = text.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body);
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    value["value"][attribute].as_u64().unwrap_or(0)
}

async fn until(what: &str, relay: &Relay, attribute: &str, done: impl Fn(u64) -> bool) {
    let reached = async {
        while !done(server_says(relay, attribute).await) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = tokio::time::timeout(LIMIT, reached).await;
    assert!(reached.is_ok(), "{what}; the relay's log:\n{}", relay.log());
}

pub(crate) async fn wrong_ones_cost_the_others_nothing() {
    let server = Server::start(Kind::MySql, 51, "").await;
    server
        .run(&["CREATE DATABASE clients", "CREATE TABLE clients.t (id INT PRIMARY KEY, v MEDIUMTEXT)"])
        .await;
    let (file, offset) = server.end().await;
    let number: u64 = file.rsplit_once('.').unwrap().1.parse().unwrap();
    let from = (number << 32 | offset).to_string();
    let mut conn = server.connect().await;
    for id in (0..ROWS).step_by(100) {
        let rows: Vec<String> =
            (id..id + 100).map(|id| format!("({id}, REPEAT('x', {ROW_BYTES}))")).collect();
        conn.query_drop(format!("INSERT INTO clients.t VALUES {}", rows.join(","))).await.unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings { from: &from, extra: STUCK, ..Settings::new(server.port, "clients.*") };
    let relay = Relay::start(dir.path(), &settings);
    let (file, offset) = server.end().await;
    relay.lines(&file, offset).await;
    let most = Arc::new((AtomicU64::new(0), AtomicU64::new(0)));
    let watching = tokio::spawn(watch(relay.pid(), Arc::clone(&most)));
    let address: SocketAddr = relay.address.parse().unwrap();

    // Three of each kind, and good ones that begin among them.
    let mut wrong = JoinSet::new();
    for number in 0..3 {
        for (how, _) in ALL {
            wrong.spawn(misbehave(address, how, number));
        }
    }
    let last = ROWS + MORE - 1;
    let readers: Vec<_> = (0..3)
        .map(|number| tokio::spawn(good(relay.address.clone(), format!("good-{number}"), last)))
        .collect();
    for id in ROWS..=last {
        conn.query_drop(format!("INSERT INTO clients.t VALUES ({id}, REPEAT('x', {ROW_BYTES}))"))
            .await
            .unwrap();
    }
    for reader in readers {
        let ids =
            tokio::time::timeout(LIMIT, reader).await.expect("the good ones are served in time").unwrap();
        assert_eq!(ids, (0..=last).collect::<Vec<_>>());
    }
    let cut = 3 * ALL.iter().filter(|(_, cut)| *cut).count();
    until("all wrong ones are cut off", &relay, "ConnectionsCutTotal", |now| {
        now >= u64::try_from(cut).unwrap()
    })
    .await;
    let log = relay.log();
    for reason in [
        "no hello came",
        "does not speak",
        "send no frames of kind",
        "over the limit",
        "first frame must be",
        "sends credit only",
        "frames of credit",
        "timed out",
    ] {
        assert!(log.contains(reason), "{reason:?} is not said:\n{log}");
    }
    // Whoever closes is gone at once, and its place is free.
    wrong.shutdown().await;
    until("those that close are gone", &relay, "ConnectionsOpen", |now| now == 0).await;

    // Thousands from one address: it gets its share, others are served.
    let mut many = Vec::new();
    for _ in 0..2000 {
        let socket = connect(address).await.expect("the relay listens");
        if many.len() < 100 {
            many.push(socket);
        }
    }
    until("they are refused", &relay, "ConnectionsRefusedTotal", |now| now >= 2000 - PER_PEER).await;
    assert_eq!(
        good(relay.address.clone(), "last".into(), last).await.len(),
        usize::try_from(last + 1).unwrap()
    );
    drop(many);
    until("all are gone", &relay, "ConnectionsOpen", |now| now == 0).await;
    assert!(relay.log().contains("connections of this address"));
    watching.abort();
    let (memory, files) = (most.0.load(Ordering::Relaxed), most.1.load(Ordering::Relaxed));
    assert!(memory < MEMORY_KIB, "{memory} KiB of anonymous memory");
    assert!(files < 200, "{files} descriptors");
    conn.disconnect().await.unwrap();
}
