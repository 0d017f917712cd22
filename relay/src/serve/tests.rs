use super::*;
use crate::client::{ClientError, Stream, StreamEvent, Subscription, subscribe};
use crate::config::Limits;
use crate::event::{Op, RowChange, TransactionSink as _, TxnEnd, TxnStart};
use crate::log::{Log, Options, Writer};
use crate::position::Position;
use crate::schema::TableSchema;
use crate::telemetry::Registry;
use crate::wire::frame::{Hello, StartFrom, Welcome};
use crate::wire::{Block, BlockItem, PartitionSet, Selection};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;
use std::sync::Mutex;

struct Relay {
    address: String,
    writer: Writer,
    shutdown: CancellationToken,
    at: u64,
    _dir: tempfile::TempDir,
    server: tokio::task::JoinHandle<()>,
}

async fn relay() -> Relay {
    limited(Limits::default()).await
}

async fn limited(limits: Limits) -> Relay {
    served(limits, None).await
}

async fn served(limits: Limits, look_back: Option<Arc<dyn LookBack>>) -> Relay {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { block_bytes: 2000, ..Options::new(dir.path().to_owned(), u64::MAX, u64::MAX) };
    let (log, writer) = Log::open(options).unwrap();
    let mut served = Served::new(log);
    if let Some(look_back) = look_back {
        served = served.looking_back(look_back);
    }
    let sources = BTreeMap::from([("shop".to_owned(), served)]);
    let hub = Arc::new(Hub::new("c", sources, Registry::default()).limiting(limits));
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(serve(listener, hub, shutdown.clone()));
    Relay { address, writer, shutdown, at: 4, _dir: dir, server }
}

/// A transaction of 100 bytes with one row a hash.
fn put(writer: &mut Writer, at: u64, hashes: &[u64]) {
    let schema = Arc::new(TableSchema::new("d".into(), "t".into(), Vec::new(), Vec::new()));
    let start = TxnStart {
        position: Position::new(1, 1, at),
        file_name: "mysql-bin.000001".into(),
        gtid: None,
        server_id: 1,
        commit_time_us: 1,
    };
    writer.begin(start).unwrap();
    for hash in hashes {
        let (key_hash_before, key_hash) = (*hash, *hash);
        let after = &[7; 50];
        let row =
            RowChange { op: Op::Insert, schema: &schema, key_hash_before, key_hash, before: &[], after };
        writer.row(row).unwrap();
    }
    writer.commit(TxnEnd { end_offset: at + 100 }).unwrap();
    writer.flush().unwrap();
}

impl Relay {
    /// A transaction with one row a hash; gives its start.
    fn write(&mut self, hashes: &[u64]) -> Position {
        let position = Position::new(1, 1, self.at);
        put(&mut self.writer, self.at, hashes);
        self.at += 100;
        position
    }

    async fn open(
        &self,
        from: StartFrom,
        partitions: PartitionSet,
        credit_bytes: u64,
    ) -> Result<Stream, ClientError> {
        subscribe(Subscription {
            address: self.address.clone(),
            cluster: "c".into(),
            source: "shop".into(),
            group: "g".into(),
            member: format!("m{}", partitions.len()),
            from,
            partitions,
            credit_bytes,
        })
        .await
    }
}

/// Rows as (offset of transaction, row index, hash) until a covered mark at `end`.
async fn rows_until(stream: &mut Stream, end: u64) -> Vec<(u64, u64, u64)> {
    let mut rows = Vec::new();
    loop {
        match stream.next().await.unwrap() {
            StreamEvent::Block(block) => rows.extend(block.items().filter_map(|item| match item {
                BlockItem::Row { txn, row, change } => {
                    Some((txn.start.position.offset, row, change.key_hash))
                }
                BlockItem::Txn(_) | BlockItem::Covered { .. } => None,
            })),
            StreamEvent::Covered(covered) if covered.position.offset == end => {
                assert_eq!(covered.head.end_offset, end);
                return rows;
            }
            StreamEvent::Covered(_) => {}
        }
    }
}

#[tokio::test]
async fn each_stream_gets_its_partitions_from_its_place_on() {
    let mut relay = relay().await;
    relay.write(&[0, 1, 2, 3]);
    let second = relay.write(&[1, 1, 2]);
    // Larger than a block.
    let hashes: Vec<u64> = (0..200).collect();
    let third = relay.write(&hashes);
    let end = relay.at;
    let all = PartitionSet::all(4);
    let mut whole = relay.open(StartFrom::Earliest, all.clone(), 1 << 20).await.unwrap();
    assert_eq!(rows_until(&mut whole, end).await.len(), 207);
    let some = PartitionSet::of(4, [1, 2]);
    let from = StartFrom::Position { position: second, rows: 1 };
    let mut part = relay.open(from, some, 1 << 20).await.unwrap();
    let got = rows_until(&mut part, end).await;
    assert_eq!(got[..2], [(second.offset, 1, 1), (second.offset, 2, 2)]);
    assert_eq!(got.len(), 2 + 100);
    assert!(
        got[2..]
            .iter()
            .all(|(at, row, hash)| *at == third.offset && row == hash && [1, 2].contains(&(hash % 4)))
    );
    let mut newest = relay.open(StartFrom::Latest, all, 1 << 20).await.unwrap();
    assert_eq!(rows_until(&mut newest, end).await, []);
    let fourth = relay.write(&[9]);
    assert_eq!(rows_until(&mut newest, relay.at).await, [(fourth.offset, 0, 9)]);
}

#[tokio::test]
async fn a_client_without_credit_waits_and_others_do_not() {
    let mut relay = relay().await;
    for _ in 0..50 {
        relay.write(&[1; 20]);
    }
    let mut stuck = relay.open(StartFrom::Earliest, PartitionSet::all(4), 1).await.unwrap();
    let mut held = Vec::new();
    // One block goes beyond the credit; while it is held nothing follows but marks.
    while held.is_empty() {
        if let StreamEvent::Block(block) = stuck.next().await.unwrap() {
            held.push(block);
        }
    }
    assert!(matches!(stuck.next().await.unwrap(), StreamEvent::Covered(_)));
    let mut free = relay.open(StartFrom::Earliest, PartitionSet::of(8, 0..8), 1 << 20).await.unwrap();
    assert_eq!(rows_until(&mut free, relay.at).await.len(), 1000);
    held.clear();
    loop {
        if let StreamEvent::Block(_) = stuck.next().await.unwrap() {
            break;
        }
    }
}

#[tokio::test]
async fn a_client_that_closes_is_gone_at_once() {
    let mut relay = limited(Limits { connections: 1, stuck_secs: 3600, ..Limits::default() }).await;
    let open = async |relay: &Relay, credit| {
        let opened = async {
            loop {
                match relay.open(StartFrom::Earliest, PartitionSet::all(4), credit).await {
                    Ok(stream) => return stream,
                    // The place is not free yet.
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(Duration::from_mins(1), opened).await.expect("the place becomes free")
    };
    drop(open(&relay, 1).await);
    // More than what is between them holds: the relay waits for a client that does not read.
    for _ in 0..100 {
        relay.write(&[1; 2000]);
    }
    for credit in [1, u64::MAX] {
        let mut stream = open(&relay, credit).await;
        while !matches!(stream.next().await.unwrap(), StreamEvent::Block(_)) {}
        // Until the next mark would have come.
        tokio::time::sleep(Duration::from_millis(1200)).await;
        drop(stream);
    }
    drop(open(&relay, 1).await);
}

#[tokio::test]
async fn a_newer_stream_of_the_same_member_takes_over_and_a_stop_is_told() {
    let relay = relay().await;
    let open = async || relay.open(StartFrom::Earliest, PartitionSet::all(4), 1000).await.unwrap();
    let mut older = open().await;
    let mut newer = open().await;
    let error = loop {
        if let Err(error) = older.next().await {
            break error;
        }
    };
    assert!(error.is_transient() && error.to_string().contains("newer stream"), "{error}");
    relay.shutdown.cancel();
    let error = loop {
        if let Err(error) = newer.next().await {
            break error;
        }
    };
    assert!(error.to_string().contains("stopping"), "{error}");
    relay.server.await.unwrap();
}

/// A hello as another process sends it, and what is answered.
async fn stranger(relay: &Relay, process: Option<u128>) -> (TcpStream, Frame) {
    let hello = Hello {
        cluster: "c".into(),
        source: "shop".into(),
        group: "g".into(),
        member: "m4".into(),
        from: StartFrom::Earliest,
        partitions: PartitionSet::all(4),
        credit_bytes: 0,
        selection: Selection::default(),
        process,
    };
    let mut socket = TcpStream::connect(&relay.address).await.unwrap();
    let (mut bytes, mut buffer) = (Vec::new(), bytes::BytesMut::new());
    Frame::Hello(hello).encode(&mut bytes);
    socket.write_all(&bytes).await.unwrap();
    loop {
        if let Some(frame) = Frame::decode(&mut buffer).unwrap() {
            return (socket, frame);
        }
        assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut socket, &mut buffer).await.unwrap(), 0);
    }
}

#[tokio::test]
async fn a_stranger_of_the_same_name_ends_nobodys_stream() {
    let mut relay = relay().await;
    let mut stream = relay.open(StartFrom::Earliest, PartitionSet::all(4), 1 << 20).await.unwrap();
    // With a number of its own, with the next one, and as clients of the version before say it.
    let mut strangers = Vec::new();
    for process in [Some(7), Some(8), None, None] {
        let (socket, answer) = stranger(&relay, process).await;
        assert!(matches!(answer, Frame::Welcome(_)), "{answer:?}");
        strangers.push(socket);
    }
    relay.write(&[1, 2, 3]);
    assert_eq!(rows_until(&mut stream, relay.at).await.len(), 3);
    // The last two are one process, as far as anybody can tell.
    let mut told = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut strangers[2], &mut told).await.unwrap();
    assert!(String::from_utf8_lossy(&told).contains("newer stream"));
}

/// It looks at the head of a hello and leaves the rest unread.
#[tokio::test]
async fn a_relay_of_the_version_before_is_spoken_to_as_it_understands() {
    use tokio::io::AsyncReadExt as _;
    let listener = bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let old = tokio::spawn(async move {
        let mut versions = Vec::new();
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut head = [0; 4];
            socket.read_exact(&mut head).await.unwrap();
            versions.push(head[2]);
            let refused = ErrorFrame { code: ErrorCode::Protocol, definite: true, message: "version".into() };
            let understood = head[2] < 3;
            let answer = if understood {
                let (server_uuid, file_base) = ("u".into(), "b".into());
                Frame::Welcome(Welcome { server_uuid, epoch: 7, lowest: None, highest: None, file_base })
            } else {
                Frame::Error(refused)
            };
            let mut bytes = Vec::new();
            answer.encode(&mut bytes);
            socket.write_all(&bytes).await.unwrap();
            if understood {
                return (socket, versions);
            }
        }
    });
    let stream = subscribe(Subscription {
        address,
        cluster: "c".into(),
        source: "shop".into(),
        group: "g".into(),
        member: "m".into(),
        from: StartFrom::Earliest,
        partitions: PartitionSet::all(60_000),
        credit_bytes: 1,
    });
    assert_eq!(stream.await.unwrap().welcome().epoch, 7);
    assert_eq!(old.await.unwrap().1, [3, 1]);
}

/// Reads again by a log that is there already.
#[derive(Debug)]
struct Again {
    log: Log,
    /// Seats that are taken, and that ever were.
    seats: Arc<Mutex<(usize, usize)>>,
}

#[derive(Debug)]
struct AgainSeat(Arc<Mutex<(usize, usize)>>);

impl Seat for AgainSeat {
    fn at(&self, _: u64) {}

    fn failed(&self) -> BoxFuture<'_, Refused> {
        std::future::pending().boxed()
    }
}

impl Drop for AgainSeat {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

impl LookBack for Again {
    fn open(&self, from: StartFrom) -> BoxFuture<'_, Result<Opened, Refused>> {
        async move {
            let mut seats = self.seats.lock().unwrap();
            *seats = (seats.0 + 1, seats.1 + 1);
            Ok(Opened { log: self.log.clone(), from, seat: Box::new(AgainSeat(Arc::clone(&self.seats))) })
        }
        .boxed()
    }
}

#[tokio::test]
async fn who_takes_nothing_gives_its_seat_up_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let open = |name| Log::open(Options::new(dir.path().join(name), u64::MAX, u64::MAX)).unwrap();
    let ((back, mut older), seats) = (open("back"), Arc::default());
    let again = Again { log: back, seats: Arc::clone(&seats) };
    let mut relay = served(Limits { stuck_secs: 1, ..Limits::default() }, Some(Arc::new(again))).await;
    for number in 0..6 {
        let at = relay.at;
        put(&mut older, at, &[number; 20]);
        // The relay's own log begins later.
        if number < 3 {
            relay.at += 100;
        } else {
            relay.write(&[number; 20]);
        }
    }
    let from = StartFrom::Position { position: Position::new(1, 1, 4), rows: 0 };
    let mut stream = relay.open(from, PartitionSet::all(4), 1).await.unwrap();
    let mut rows = Vec::new();
    let take = |block: &Block, rows: &mut Vec<u64>| {
        rows.extend(block.items().filter_map(|item| match item {
            BlockItem::Row { change, .. } => Some(change.key_hash),
            BlockItem::Txn(_) | BlockItem::Covered { .. } => None,
        }));
    };
    // One block, held until its stream has nothing else: twice, so that it comes back from there too.
    for round in 1..=2 {
        let held = loop {
            if let StreamEvent::Block(block) = stream.next().await.unwrap() {
                break block;
            }
        };
        take(&held, &mut rows);
        assert_eq!(seats.lock().unwrap().1, round);
        let given_up = async {
            while seats.lock().unwrap().0 > 0 {
                // It is told where it stands all the same.
                let StreamEvent::Covered(covered) = stream.next().await.unwrap() else { unreachable!() };
                assert_eq!(covered.position.offset, 4 + 100 * u64::try_from(round).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(30), given_up).await.expect("the seat is given up");
    }
    while rows.len() < 120 {
        if let StreamEvent::Block(block) = stream.next().await.unwrap() {
            take(&block, &mut rows);
        }
    }
    let expected: Vec<u64> = (0..6).flat_map(|number| [number; 20]).collect();
    assert_eq!(rows, expected);
}

#[tokio::test]
async fn strangers_and_mistakes_are_told_apart() {
    let relay = relay().await;
    let subscription = |cluster: &str, source: &str| Subscription {
        address: relay.address.clone(),
        cluster: cluster.into(),
        source: source.into(),
        group: "g".into(),
        member: "m".into(),
        from: StartFrom::Earliest,
        partitions: PartitionSet::all(1),
        credit_bytes: 1,
    };
    let wrong = subscribe(subscription("other", "shop")).await.unwrap_err();
    assert!(!wrong.is_transient(), "{wrong}");
    let unserved = subscribe(subscription("c", "billing")).await.unwrap_err();
    assert!(unserved.is_transient() && unserved.to_string().contains("billing"), "{unserved}");
    let mut browser = TcpStream::connect(&relay.address).await.unwrap();
    browser.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut browser, &mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer).contains("does not speak aesop's protocol"));
}
