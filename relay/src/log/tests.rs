use super::*;
use crate::event::{Op, RowChange, TransactionSink as _, TxnEnd, TxnStart};
use crate::position::Position;
use crate::schema::TableSchema;
use crate::wire::{BlockItem, BlockReader};
use proptest::prelude::*;
use std::path::Path;

const FILE_BYTES: u64 = 3000;

fn options(dir: &Path) -> Options {
    Options { segment_bytes: 4000, block_bytes: 600, ..Options::new(dir.to_owned(), u64::MAX, u64::MAX) }
}

/// A transaction by its number: rows of these lengths.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Txn {
    start: Position,
    rows: Vec<Vec<u8>>,
}

/// Makes up a source: hands out positions as MySQL would.
#[derive(Debug)]
struct Source {
    at: Position,
}

impl Source {
    fn next(&mut self, lengths: &[usize]) -> Txn {
        if self.at.offset > FILE_BYTES {
            self.at = Position::new(1, self.at.file + 1, 4);
        }
        let start = self.at;
        let seed = u8::try_from(start.offset % 251).unwrap();
        let rows: Vec<_> = lengths.iter().map(|len| vec![seed; *len]).collect();
        self.at.offset = end_of(start, &rows);
        Txn { start, rows }
    }
}

fn end_of(start: Position, rows: &[Vec<u8>]) -> u64 {
    start.offset + 50 + rows.iter().map(|row| u64::try_from(row.len()).unwrap()).sum::<u64>()
}

fn file_name(position: Position) -> Arc<str> {
    format!("mysql-bin.{:06}", position.file).into()
}

fn begin(writer: &mut Writer, txn: &Txn) -> Result<(), LogError> {
    writer.begin(TxnStart {
        position: txn.start,
        file_name: file_name(txn.start),
        gtid: Some(format!("u:{}", txn.start.offset)),
        server_id: 1,
        commit_time_us: 1_000_000,
    })?;
    for (at, row) in txn.rows.iter().enumerate() {
        let table = format!("t{}", (at + row.len()) % 3);
        let schema = Arc::new(TableSchema::new("d".into(), table, Vec::new(), Vec::new()));
        put(writer, &schema, row)?;
    }
    Ok(())
}

fn put(writer: &mut Writer, schema: &Arc<TableSchema>, row: &[u8]) -> Result<(), LogError> {
    let (key_hash_before, key_hash) = (1, 2);
    writer.row(RowChange { op: Op::Insert, schema, key_hash_before, key_hash, before: &[], after: row })
}

fn write(writer: &mut Writer, txn: &Txn) {
    begin(writer, txn).unwrap();
    writer.commit(TxnEnd { end_offset: end_of(txn.start, &txn.rows) }).unwrap();
}

/// Everything that readers see, through a reader of the log's own.
fn read_from(log: &Log, from: StartFrom) -> Vec<Txn> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut reader = log.reader(from);
        let mut blocks = BlockReader::default();
        for (id, definition) in log.inner.schemas.read().unwrap().iter() {
            blocks.define(*id, definition).unwrap();
        }
        let mut txns: Vec<Txn> = Vec::new();
        loop {
            let state = log.state();
            let Some(sealed) = reader.try_next(&state).await.unwrap() else { break };
            let begins_inside = sealed.header().begins_inside;
            let block = blocks.open(sealed).unwrap();
            let mut repeated = begins_inside;
            for item in block.items() {
                match item {
                    BlockItem::Txn(txn) => {
                        if !std::mem::take(&mut repeated) {
                            txns.push(Txn { start: txn.start.position, rows: Vec::new() });
                        }
                    }
                    BlockItem::Row { txn, row, change } => {
                        let last = txns.last_mut().unwrap();
                        assert_eq!(txn.start.position, last.start);
                        assert_eq!(row, u64::try_from(last.rows.len()).unwrap());
                        last.rows.push(change.after.to_vec());
                        assert!(txn.rows > row);
                        assert_ne!(txn.end_offset, 0);
                    }
                    BlockItem::Covered { .. } => {}
                }
            }
        }
        txns
    })
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<usize>),
    Abort(Vec<usize>),
    Filtered(u64),
    Flush,
    Sync,
    Reopen,
    /// Power loss: the last bytes of the newest segment are gone, zero, or changed.
    Crash(Damage, prop::sample::Index),
}

#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut,
    Zero,
    Flip,
    /// A piece that was never written, with what came behind it in place: disks write in any order.
    Hole,
}

fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        4 => prop::collection::vec(0_usize..80, 0..4),
        1 => prop::collection::vec(0_usize..200, 4..20),
        1 => prop::collection::vec(600_usize..900, 1..3),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let damage = prop_oneof![Just(Damage::Cut), Just(Damage::Zero), Just(Damage::Flip), Just(Damage::Hole)];
    let step = prop_oneof![
        8 => lengths().prop_map(Step::Commit),
        2 => lengths().prop_map(Step::Abort),
        1 => (1_u64..200).prop_map(Step::Filtered),
        4 => Just(Step::Flush),
        1 => Just(Step::Sync),
        1 => Just(Step::Reopen),
        1 => (damage, any::<prop::sample::Index>()).prop_map(|(damage, at)| Step::Crash(damage, at)),
    ];
    prop::collection::vec(step, 1..60)
}

fn damage_tail(dir: &Path, damage: Damage, at: prop::sample::Index) {
    let Some(seq) = recover::list(dir).unwrap().last().copied() else { return };
    let path = segment::path(dir, seq, "seg");
    let mut bytes = std::fs::read(&path).unwrap();
    let header = Segment::open(dir, seq).unwrap().unwrap().first_block();
    let header = usize::try_from(header).unwrap();
    if bytes.len() == header {
        return;
    }
    let at = header + at.index(bytes.len() - header);
    match damage {
        Damage::Cut => bytes.truncate(at),
        Damage::Zero => bytes[at..].fill(0),
        Damage::Flip => bytes[at] ^= 0x10,
        Damage::Hole => {
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
        }
    }
    std::fs::write(&path, bytes).unwrap();
}

/// Where the source is read on from.
fn resumed(log: &Log, written: &mut Vec<Txn>, source: &mut Source, kept: usize) {
    written.truncate(kept);
    match log.resume() {
        None => *source = Source { at: Position::new(1, 1, 4) },
        Some(Start::After(last)) => {
            let txn = written.last().expect("the last transaction is one that was written");
            assert_eq!(last.position, txn.start);
            assert_eq!(last.gtid, Some(format!("u:{}", txn.start.offset)));
            source.at = Position { offset: end_of(txn.start, &txn.rows), ..txn.start };
        }
        Some(Start::At(position)) => {
            if let Some(txn) = written.last() {
                assert!(position > txn.start);
            }
            source.at = position;
        }
        Some(other) => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, readers see whole transactions, a prefix of what was written, all of it without a power
    /// loss, and the source is read on from right behind it.
    #[test]
    fn the_log_is_always_a_prefix_of_what_was_written(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut writer) = Log::open(options(dir.path())).unwrap();
        let mut source = Source { at: Position::new(1, 1, 4) };
        let mut written: Vec<Txn> = Vec::new();
        for step in steps {
            match step {
                Step::Commit(lengths) => {
                    let txn = source.next(&lengths);
                    write(&mut writer, &txn);
                    written.push(txn);
                }
                Step::Abort(lengths) => {
                    // It comes again from the start after the reconnection.
                    let at = source.at;
                    let txn = source.next(&lengths);
                    begin(&mut writer, &txn).unwrap();
                    writer.abort().unwrap();
                    source.at = at;
                }
                Step::Filtered(bytes) => {
                    source.at.offset += bytes;
                    writer.covered(source.at, &file_name(source.at), 5).unwrap();
                }
                Step::Flush => {
                    writer.flush().unwrap();
                    prop_assert_eq!(&read_from(&log, StartFrom::Earliest), &written);
                    if let Some(txn) = written.last() {
                        prop_assert_eq!(log.state().last.map(|last| last.position), Some(txn.start));
                    }
                }
                Step::Sync => log.sync().unwrap(),
                Step::Reopen | Step::Crash(..) => {
                    drop((log, writer));
                    if let Step::Crash(damage, at) = step {
                        damage_tail(dir.path(), damage, at);
                    }
                    (log, writer) = Log::open(options(dir.path())).unwrap();
                    let kept = read_from(&log, StartFrom::Earliest);
                    prop_assert!(kept.len() <= written.len());
                    prop_assert_eq!(&kept, &written[..kept.len()]);
                    resumed(&log, &mut written, &mut source, kept.len());
                }
            }
        }
        writer.flush().unwrap();
        prop_assert_eq!(&read_from(&log, StartFrom::Earliest), &written);
        for (at, txn) in written.iter().enumerate() {
            let from = StartFrom::Position { position: txn.start, rows: 0 };
            let got = read_from(&log, from);
            let first = got.iter().position(|got| got.start == txn.start);
            prop_assert!(first.is_some());
            prop_assert_eq!(&got[first.unwrap()..], &written[at..]);
        }
        prop_assert!(read_from(&log, StartFrom::Latest).is_empty());
        let files: u64 = recover::list(dir.path()).unwrap().iter()
            .map(|seq| std::fs::metadata(segment::path(dir.path(), *seq, "seg")).unwrap().len()).sum();
        prop_assert_eq!(log.state().bytes, files);
    }
}

/// What happens inside a transaction that is rolled back to places in it.
#[derive(Clone, Debug)]
enum Inside {
    Row(usize),
    Savepoint,
    RollBack(prop::sample::Index),
}

fn inside() -> impl Strategy<Value = Vec<Inside>> {
    let one = prop_oneof![
        6 => (0_usize..200).prop_map(Inside::Row),
        1 => (500_usize..1500).prop_map(Inside::Row),
        2 => Just(Inside::Savepoint),
        2 => any::<prop::sample::Index>().prop_map(Inside::RollBack),
    ];
    prop::collection::vec(one, 0..60)
}

proptest! {
    #[test]
    fn a_transaction_is_cut_back_to_its_savepoints(
        before in lengths(), steps in inside(), behind in lengths(), flushes in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (log, mut writer) = Log::open(options(dir.path())).unwrap();
        let mut source = Source { at: Position::new(1, 1, 4) };
        let mut written = vec![source.next(&before)];
        write(&mut writer, &written[0]);
        let mut txn = source.next(&[10]);
        begin(&mut writer, &txn).unwrap();
        let mut savepoints = Vec::new();
        for (number, step) in steps.into_iter().enumerate() {
            match step {
                Inside::Row(len) => {
                    let row = vec![u8::try_from(number).unwrap(); len];
                    let schema = TableSchema::new("d".into(), format!("t{}", len % 5), Vec::new(), Vec::new());
                    put(&mut writer, &Arc::new(schema), &row).unwrap();
                    txn.rows.push(row);
                }
                Inside::Savepoint => savepoints.push((writer.savepoint(), txn.rows.len())),
                Inside::RollBack(which) if !savepoints.is_empty() => {
                    savepoints.truncate(which.index(savepoints.len()) + 1);
                    let (to, rows) = savepoints[savepoints.len() - 1];
                    writer.roll_back(to).unwrap();
                    txn.rows.truncate(rows);
                }
                Inside::RollBack(_) => {}
            }
            if flushes {
                writer.flush().unwrap();
            }
        }
        let end_offset = end_of(txn.start, &txn.rows);
        writer.commit(TxnEnd { end_offset }).unwrap();
        source.at.offset = end_offset;
        written.push(txn);
        written.push(source.next(&behind));
        write(&mut writer, &written[2]);
        writer.flush().unwrap();
        prop_assert_eq!(&read_from(&log, StartFrom::Earliest), &written);
        drop((writer, log));
        // From disk, where the definitions are found again too.
        let (log, _writer) = Log::open(options(dir.path())).unwrap();
        prop_assert_eq!(&read_from(&log, StartFrom::Earliest), &written);
    }
}

fn fill(writer: &mut Writer, count: usize) -> Vec<Txn> {
    let mut source = Source { at: Position::new(1, 1, 4) };
    let txns: Vec<_> = (0..count).map(|_| source.next(&[100])).collect();
    for txn in &txns {
        write(writer, txn);
    }
    writer.flush().unwrap();
    txns
}

#[test]
fn what_is_kept_of_many_small_blocks_is_little_and_leads_to_each() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options { segment_bytes: 300_000, ..options(dir.path()) };
    let (log, mut writer) = Log::open(options()).unwrap();
    let mut source = Source { at: Position::new(1, 1, 4) };
    let txns: Vec<Txn> = (0..3000).map(|_| source.next(&[100])).collect();
    for txn in &txns {
        write(&mut writer, txn);
        writer.flush().unwrap();
    }
    let look = |log: &Log| {
        for (segment, kept) in log.segments().values().map(|segment| (segment, segment.indexed())) {
            let most = segment.len() / super::index::SPACING_BYTES + 1;
            assert!(u64::try_from(kept).unwrap() <= most, "{kept} of {} bytes", segment.len());
        }
        for at in (0..txns.len()).step_by(97) {
            let seen = read_from(log, StartFrom::Position { position: txns[at].start, rows: 0 });
            assert_eq!(seen, txns[at..], "from {at}");
        }
    };
    look(&log);
    drop((log, writer));
    look(&Log::open(options()).unwrap().0);
}

#[test]
fn retention_drops_whole_segments_and_a_reader_below_is_told_the_remedies() {
    let dir = tempfile::tempdir().unwrap();
    let bounded = Options { retention_bytes: 9000, ..options(dir.path()) };
    let (log, mut writer) = Log::open(bounded.clone()).unwrap();
    let txns = fill(&mut writer, 100);
    log.sync().unwrap();
    let mut slow = log.reader(StartFrom::Earliest);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(slow.next()).unwrap();
    log.evict(0).unwrap();
    let state = log.state();
    assert!(state.bytes <= 9000, "{state:?}");
    let lowest = state.lowest.unwrap().position;
    let kept = read_from(&log, StartFrom::Earliest);
    assert_eq!(kept.first().unwrap().start, lowest);
    assert_eq!(kept, txns[txns.len() - kept.len()..]);
    // The slow reader finishes the segment it has open, and then hears that the next is gone.
    let error = runtime.block_on(async {
        loop {
            if let Err(error) = slow.next().await {
                break error;
            }
        }
    });
    assert!(matches!(error, ReadError::BelowLowest { .. }), "{error}");
    let mut late = log.reader(StartFrom::Position { position: txns[0].start, rows: 0 });
    let error = runtime.block_on(late.next()).unwrap_err().to_string();
    expect_test::expect!["position 1:1:4 is older than this relay's log, which begins at 1:4:1954; raise retention, take a snapshot, or start elsewhere and accept the gap"].assert_eq(&error);
    drop((log, writer, slow, late));
    let (log, _writer) = Log::open(bounded).unwrap();
    assert_eq!(read_from(&log, StartFrom::Earliest), kept);
}

#[test]
fn old_segments_go_by_age() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { retention_age_us: 1_000_000, ..options(dir.path()) };
    let (log, mut writer) = Log::open(options).unwrap();
    fill(&mut writer, 100);
    log.evict(1_500_000).unwrap();
    assert!(log.segments().len() > 2);
    log.evict(2_500_000).unwrap();
    assert_eq!(log.segments().len(), 1);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open = Log::open(options(dir.path())).unwrap();
    assert!(matches!(Log::open(options(dir.path())).unwrap_err(), LogError::Locked(_)));
    drop(open);
    Log::open(options(dir.path())).unwrap();
}

#[tokio::test]
async fn a_reader_that_is_ahead_waits_and_a_reader_of_an_empty_log_too() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut writer) = Log::open(options(dir.path())).unwrap();
    let mut early = log.reader(StartFrom::Earliest);
    let mut ahead = log.reader(StartFrom::Position { position: Position::new(1, 9, 4), rows: 0 });
    assert!(futures_util::FutureExt::now_or_never(early.next()).is_none());
    assert!(futures_util::FutureExt::now_or_never(ahead.next()).is_none());
    let waiting = tokio::spawn(async move { early.next().await.map(|block| block.header().first) });
    let txns = fill(&mut writer, 1);
    assert_eq!(waiting.await.unwrap().unwrap(), txns[0].start);
    // It is placed behind what it has; what comes next it sees, be it still before its place.
    assert!(futures_util::FutureExt::now_or_never(ahead.next()).is_none());
    assert_eq!(ahead.covered().unwrap().position.offset, end_of(txns[0].start, &txns[0].rows));
    let next = Txn { start: Position::new(1, 2, 4), rows: vec![vec![1]] };
    write(&mut writer, &next);
    writer.flush().unwrap();
    assert_eq!(ahead.next().await.unwrap().header().first, next.start);
}

#[test]
fn an_unfinished_transaction_is_never_seen_and_leaves_with_the_error() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut writer) = Log::open(options(dir.path())).unwrap();
    let txns = fill(&mut writer, 2);
    let mut source = Source { at: Position::new(1, 2, 4) };
    begin(&mut writer, &source.next(&[500; 9])).unwrap();
    writer.flush().unwrap();
    assert_eq!(read_from(&log, StartFrom::Earliest), txns);
    // Out of turn stands for any error: what is not in a file for good is forgotten.
    assert!(begin(&mut writer, &source.next(&[1])).is_err());
    assert_eq!(log.segments().last_key_value().unwrap().1.len(), {
        let path = segment::path(dir.path(), 1, "seg");
        std::fs::metadata(path).unwrap().len()
    });
    assert!(matches!(log.resume(), Some(Start::After(last)) if last.position == txns[1].start));
}

#[tokio::test]
async fn a_time_or_a_gtid_set_is_found_where_it_ends() {
    let dir = tempfile::tempdir().unwrap();
    let (log, mut writer) =
        Log::open(Options { segment_bytes: 2000, block_bytes: 600, ..options(dir.path()) }).unwrap();
    let schema = Arc::new(TableSchema::new("d".into(), "t".into(), Vec::new(), Vec::new()));
    // Each a second; a large one, too; several segments.
    for number in 1..=60u64 {
        let position = Position::new(1, 3, number * 100);
        let start = TxnStart {
            position,
            file_name: "b.000003".into(),
            gtid: Some(format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{}", number + 40)),
            server_id: 1,
            commit_time_us: i64::try_from(number).unwrap() * 1_000_000,
        };
        writer.begin(start).unwrap();
        for _ in 0..if number == 30 { 40 } else { 2 } {
            let image = [1, 0, 7, 0, 0, 0];
            let row = RowChange {
                op: Op::Insert,
                schema: &schema,
                key_hash_before: 1,
                key_hash: 1,
                before: &[],
                after: &image,
            };
            writer.row(row).unwrap();
        }
        writer.commit(TxnEnd { end_offset: number * 100 + 50 }).unwrap();
        writer.flush().unwrap();
    }
    assert!(log.segments().len() > 2, "several segments");
    let at = |number: u64| Found::At(Position::new(1, 3, number * 100));
    let gtids = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-40".to_owned();
    let read = [crate::event::Executed { position: Position::new(1, 3, 100), gtids }];
    for number in 2..=60 {
        let time = i64::try_from(number).unwrap() * 1_000_000;
        assert_eq!(log.find_time(time).await.unwrap(), at(number));
        assert_eq!(log.find_time(time - 999_999).await.unwrap(), at(number));
        let set = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{}", number + 39);
        assert_eq!(log.find_gtids(&set, &read).await.unwrap(), at(number));
    }
    let end = Found::At(Position::new(1, 3, 6050));
    assert_eq!(log.find_time(61_000_000).await.unwrap(), end);
    let all = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-100";
    assert_eq!(log.find_gtids(all, &read).await.unwrap(), end);
    // Before the log's beginning; with a hole, in which something older may be; of another server; of MariaDB.
    assert_eq!(log.find_time(500_000).await.unwrap(), Found::Older);
    for set in [
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-39",
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7-50",
        "4e11fa47-71ca-11e1-9e33-c80aa9429562:1-50",
        "0-1-5",
        "x",
    ] {
        assert_eq!(log.find_gtids(set, &read).await.unwrap(), Found::Older, "{set}");
    }
}

/// A log that the first version has left on the disk: whoever is one version ahead goes on with it.
#[test]
fn a_log_of_version_1_is_read_and_gone_on_with() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1/log");
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(fixture).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let mut source = Source { at: Position::new(1, 1, 4) };
    let mut txns: Vec<_> = (0..VERSION_1_TXNS).map(|_| source.next(&[100])).collect();
    let (log, mut writer) = Log::open(options(dir.path())).unwrap();
    assert_eq!(read_from(&log, StartFrom::Earliest), txns);
    txns.push(source.next(&[100, 7]));
    write(&mut writer, txns.last().unwrap());
    writer.flush().unwrap();
    assert_eq!(read_from(&log, StartFrom::Earliest), txns);
}

/// In the log among the fixtures; two segments, the first with its index.
const VERSION_1_TXNS: usize = 30;
