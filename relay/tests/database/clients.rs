//! Clients that are slow, stuck or wrong: a good one beside them gets every row, and the relay stays as it was.

use crate::program::{LIMIT, Relay, Settings};
use crate::server::{Kind, Server};
use mysql_async::prelude::Queryable;
use relay::client::{ClientError, Stream, StreamEvent, Subscription, subscribe};
use relay::position::Position;
use relay::wire::frame::{Frame, Hello, StartFrom, block_header};
use relay::wire::{Block, BlockItem, PartitionSet, Selection};
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
/// Rows that are older than the relay's log.
const OLD: u64 = 300;
/// Rows so large that no cache holds two, and those who read them all at once.
const LARGE: u64 = 5;
const LARGE_BYTES: usize = 30 << 20;
const READERS: u64 = 16;
/// Anonymous memory of the relay, a debug build, whoever connects.
const MEMORY_KIB: u64 = 256 << 10;
/// And for large rows: 64 MiB of them, and some more.
const LARGE_KIB: u64 = 128 << 10;
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
    /// Says that it is one of the good ones.
    Impostor,
}

/// All, and whether they are cut off.
const ALL: [(Wrong, bool); 12] = [
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
    (Wrong::Impostor, false),
];

fn hello(member: &str, credit_bytes: u64) -> Vec<u8> {
    hello_of("bad", member, credit_bytes)
}

fn hello_of(group: &str, member: &str, credit_bytes: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    Frame::Hello(Hello {
        cluster: "c".into(),
        source: "s".into(),
        group: group.into(),
        member: member.into(),
        from: StartFrom::Earliest,
        partitions: PartitionSet::all(1),
        credit_bytes,
        selection: Selection::default(),
        process: None,
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
        Wrong::Impostor => hello_of("good", &format!("good-{number}"), 0),
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
        | Wrong::NoCredit
        | Wrong::Impostor => {
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.ok();
        }
    }
}

async fn open(
    address: &str,
    member: &str,
    from: StartFrom,
    credit_bytes: u64,
) -> Result<Stream, ClientError> {
    subscribe(Subscription {
        address: address.to_owned(),
        cluster: "c".into(),
        source: "s".into(),
        group: "good".into(),
        member: member.to_owned(),
        from,
        partitions: PartitionSet::all(1),
        credit_bytes,
    })
    .await
}

/// What a good stream brings, in order.
#[derive(Default)]
struct Read {
    ids: Vec<u64>,
    at: Position,
}

impl Read {
    fn take(&mut self, block: &Block) {
        for item in block.items() {
            let BlockItem::Row { txn, change, .. } = item else { continue };
            assert!(txn.start.position >= self.at);
            self.at = txn.start.position;
            if !change.schema.columns.is_empty() {
                let id = change.after[2..6].try_into().unwrap();
                self.ids.push(u64::from(u32::from_le_bytes(id)));
            }
        }
    }

    /// To a row.
    async fn up_to(&mut self, stream: &mut Stream, last: u64) -> Result<(), ClientError> {
        while self.ids.last() != Some(&last) {
            let event = tokio::time::timeout(LIMIT, stream.next()).await.expect("something comes in time");
            if let StreamEvent::Block(block) = event? {
                self.take(&block);
            }
        }
        Ok(())
    }
}

/// Reads as it should, to a row.
async fn good(address: String, member: String, last: u64) -> Vec<u64> {
    let opened = open(&address, &member, StartFrom::Earliest, 4 << 20).await;
    let (mut stream, mut read) = (opened.expect("the good one is served"), Read::default());
    read.up_to(&mut stream, last).await.expect("the good one is not cut off");
    read.ids
}

/// The same while somebody says that it is this member.
async fn impersonated(address: String, member: String, last: u64) -> Vec<u64> {
    let opened = open(&address, &member, StartFrom::Earliest, 4 << 20).await;
    let (mut stream, mut read) = (opened.expect("the good one is served"), Read::default());
    let mut impostor = TcpStream::connect(&address).await.unwrap();
    impostor.write_all(&hello_of("good", &member, 0)).await.unwrap();
    impostor.read_u8().await.expect("it is welcome, as somebody else");
    read.up_to(&mut stream, last).await.expect("the good one is not cut off");
    read.ids
}

/// Two that take one block each of what is older than the log, and then nothing, are in nobody's way, and go on once they
/// take something.
async fn who_takes_nothing_of_what_is_older_gives_its_seat_up(address: &str, old: [StartFrom; 3], last: u64) {
    // What begins earlier shares nothing with what is read already: there are two seats, and both are taken.
    let [third, second, first] = old;
    let mut stuck = Vec::new();
    for (member, from) in [("stuck-0", first), ("stuck-1", second)] {
        let (mut stream, mut read) = (open(address, member, from, 1).await.unwrap(), Read::default());
        let held = loop {
            let event = tokio::time::timeout(LIMIT, stream.next()).await.expect("a block comes in time");
            if let StreamEvent::Block(block) = event.expect("it has a seat") {
                break block;
            }
        };
        read.take(&held);
        stuck.push((stream, read, held));
    }
    let served = async {
        loop {
            let (mut stream, mut read) =
                (open(address, "third", third.clone(), 4 << 20).await.unwrap(), Read::default());
            match read.up_to(&mut stream, last).await {
                Ok(()) => return read.ids,
                Err(error) => assert!(error.is_transient(), "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let ids = tokio::time::timeout(LIMIT, served).await.expect("a seat is given up in time");
    assert_eq!(ids, (0..=last).collect::<Vec<_>>());
    for ((mut stream, mut read, held), begin) in stuck.into_iter().zip([OLD / 3 * 2, OLD / 3]) {
        drop(held);
        read.up_to(&mut stream, last).await.expect("it goes on where it was");
        assert_eq!(read.ids, (begin..=last).collect::<Vec<_>>());
    }
}

/// Rows that no cache holds, to many who are each at another of them: none has a copy of its own.
async fn many_want_large_rows(relay: &Relay, server: &Server, mut last: u64, most: &AtomicU64) {
    let mut conn = server.connect().await;
    let first = last + 1;
    for _ in 0..LARGE {
        last += 1;
        let row = format!("INSERT INTO clients.t VALUES ({last}, REPEAT('y', {LARGE_BYTES}))");
        conn.query_drop(row).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    // What reading them took from the database does not count.
    assert_eq!(good(relay.address.clone(), "large".into(), last).await, (OLD..=last).collect::<Vec<_>>());
    let before = anonymous(relay.pid());
    most.store(0, Ordering::Relaxed);
    let readers: Vec<_> = (0..READERS)
        .map(|number| tokio::spawn(good(relay.address.clone(), format!("large-{number}"), last)))
        .collect();
    for reader in readers {
        assert_eq!(reader.await.unwrap(), (OLD..=last).collect::<Vec<_>>());
    }
    let more = most.load(Ordering::Relaxed).saturating_sub(before);
    assert!(more < LARGE_KIB, "{more} KiB more for {READERS} readers of {} large rows", last + 1 - first);
}

/// Anonymous memory of a process, KiB.
fn anonymous(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    memory.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Watches the relay's memory (anonymous, KiB) and descriptors; the most there were.
async fn watch(pid: u32, most: Arc<(AtomicU64, AtomicU64)>) {
    loop {
        most.0.fetch_max(anonymous(pid), Ordering::Relaxed);
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

/// Where the binlog ends now.
async fn position(server: &Server) -> Position {
    let (file, offset) = server.end().await;
    Position::new(1, file.rsplit_once('.').unwrap().1.parse().unwrap(), offset)
}

pub(crate) async fn wrong_ones_cost_the_others_nothing() {
    let server = Server::start(Kind::MySql, 51, "").await;
    server.run(&["CREATE DATABASE clients", "CREATE TABLE clients.t (id INT PRIMARY KEY, v LONGTEXT)"]).await;
    let mut conn = server.connect().await;
    let mut old = Vec::new();
    for id in 0..OLD {
        if id % (OLD / 3) == 0 {
            let position = position(&server).await;
            old.push(StartFrom::Position { position, rows: 0 });
        }
        let row = format!("INSERT INTO clients.t VALUES ({id}, REPEAT('x', {ROW_BYTES}))");
        conn.query_drop(row).await.unwrap();
    }
    let from = position(&server).await.scn().0.to_string();
    for id in (OLD..OLD + ROWS).step_by(100) {
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
    let last = OLD + ROWS + MORE - 1;
    let readers: Vec<_> = (0..3)
        .map(|number| tokio::spawn(impersonated(relay.address.clone(), format!("good-{number}"), last)))
        .collect();
    for id in OLD + ROWS..=last {
        conn.query_drop(format!("INSERT INTO clients.t VALUES ({id}, REPEAT('x', {ROW_BYTES}))"))
            .await
            .unwrap();
    }
    for reader in readers {
        let ids =
            tokio::time::timeout(LIMIT, reader).await.expect("the good ones are served in time").unwrap();
        assert_eq!(ids, (OLD..=last).collect::<Vec<_>>());
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
    let ids = good(relay.address.clone(), "last".into(), last).await;
    assert_eq!(ids, (OLD..=last).collect::<Vec<_>>());
    drop(many);
    until("all are gone", &relay, "ConnectionsOpen", |now| now == 0).await;

    let old = old.try_into().expect("three places");
    who_takes_nothing_of_what_is_older_gives_its_seat_up(&relay.address, old, last).await;

    assert!(relay.log().contains("connections of this address"));
    let memory = most.0.load(Ordering::Relaxed);
    assert!(memory < MEMORY_KIB, "{memory} KiB of anonymous memory");
    many_want_large_rows(&relay, &server, last, &most.0).await;
    watching.abort();
    let files = most.1.load(Ordering::Relaxed);
    assert!(files < 200, "{files} descriptors");
    conn.disconnect().await.unwrap();
}
