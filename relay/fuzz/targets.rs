//! What is fuzzed, with seeds, and how a mutated input gets its checksums again: behind a checksum nothing would be
//! reached otherwise.

use bytes::{Bytes, BytesMut};
use relay::config::{Format, Oversize};
use relay::decode::filter::{ColumnFilter, TableFilter};
use relay::decode::stream::{Assembler, Flavor, Progress, StreamError};
use relay::decode::{query, query_event, touch};
use relay::event::{Op, RowChange, Savepoint, TransactionSink, TxnEnd, TxnHeader, TxnStart};
use relay::format::{Formatter, RowContext};
use relay::gtid::GtidSet;
use relay::mysql::Start;
use relay::position::Position;
use relay::schema::{Column, ColumnKind, Declared, DeclaredColumn, History, TableName, TableSchema, Touch};
use relay::wire::block::{Filtered, NewSchema, Selector};
use relay::wire::frame::{Covered, ErrorCode, ErrorFrame, Frame, Hello, SourceHead, StartFrom, Welcome};
use relay::wire::{BlockBuilder, BlockItem, BlockReader, PartitionSet, Sealed, Selection};
use std::convert::Infallible;
use std::sync::Arc;

/// Something that reads bytes.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Puts checksums right.
    pub(crate) repair: fn(&mut [u8]),
    /// Whether the input made sense to its end.
    pub(crate) run: fn(&[u8]) -> bool,
}

pub(crate) const TARGETS: &[Target] = &[
    Target {
        name: "mysql_events",
        seeds: mysql_events,
        repair: repair_events,
        run: |input| events(input, Flavor::MySql),
    },
    Target {
        name: "mariadb_events",
        seeds: mariadb_events,
        repair: repair_events,
        run: |input| events(input, Flavor::MariaDb),
    },
    Target { name: "frames", seeds: frame_seeds, repair: repair_frames, run: frames },
    Target { name: "blocks", seeds: block_seeds, repair: repair_block, run: blocks },
    Target { name: "selections", seeds: selection_seeds, repair: repair_selection, run: selections },
    Target { name: "histories", seeds: history_seeds, repair: |_| {}, run: histories },
    Target { name: "query_events", seeds: query_event_seeds, repair: |_| {}, run: query_events },
    Target { name: "statements", seeds: statement_seeds, repair: |_| {}, run: statements },
    Target { name: "starts", seeds: start_seeds, repair: |_| {}, run: starts },
];

const FORMATS: [Format; 4] = [Format::Aesop, Format::Debezium, Format::Maxwell, Format::AesopV1];

/// Writes each row in every shape; what cannot be written is an error of the row, never a panic.
struct Formats {
    start: Option<TxnStart>,
    understood: bool,
}

impl Formats {
    fn write(&mut self, txn: &TxnHeader, change: RowChange<'_>) {
        let context = RowContext { source: "s", txn, row: 0, change, server_uuid: "u", snapshot: false };
        for format in FORMATS {
            let mut out = Vec::new();
            if Formatter::new(format).value(&context, &mut out).is_err() {
                self.understood = false;
            } else {
                serde_json::from_slice::<serde_json::Value>(&out).expect("what is written is JSON");
            }
            self.understood &= Formatter::new(format).key(&context, &mut Vec::new()).is_ok();
        }
    }
}

impl TransactionSink for Formats {
    type Error = Infallible;

    fn begin(&mut self, start: TxnStart) -> Result<(), Infallible> {
        assert!(self.start.replace(start).is_none(), "a transaction inside another");
        Ok(())
    }

    fn row(&mut self, change: RowChange<'_>) -> Result<(), Infallible> {
        let start = self.start.clone().expect("rows are inside transactions");
        self.write(&TxnHeader { start, end_offset: 0, rows: 2 }, change);
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint::default()
    }

    fn roll_back(&mut self, _: Savepoint) -> Result<(), Infallible> {
        Ok(())
    }

    fn commit(&mut self, _: TxnEnd) -> Result<(), Infallible> {
        assert!(self.start.take().is_some(), "an end without a beginning");
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Infallible> {
        self.start = None;
        Ok(())
    }

    fn covered(&mut self, _: Position, _: &Arc<str>, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

fn captured(text: &str) -> Vec<u8> {
    let digit = |byte: &u8| u8::try_from(char::from(*byte).to_digit(16).unwrap()).unwrap();
    let unhex = |line: &str| {
        line.as_bytes().chunks(2).map(|pair| digit(&pair[0]) << 4 | digit(&pair[1])).collect::<Vec<_>>()
    };
    text.lines().skip(1).flat_map(unhex).collect()
}

fn mysql_events() -> Vec<Vec<u8>> {
    vec![
        captured(include_str!("../testdata/mysql-9.7.hex")),
        captured(include_str!("../testdata/mysql-9.7-compressed.hex")),
    ]
}

fn mariadb_events() -> Vec<Vec<u8>> {
    vec![
        captured(include_str!("../testdata/mariadb-10.11.hex")),
        captured(include_str!("../testdata/mariadb-10.11-compressed.hex")),
    ]
}

/// Cuts events by the size in their headers.
fn cut(mut input: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (whole, mut cuts) = (input.len(), Vec::new());
    while let Some(size) = input.get(9..13) {
        let size = usize::try_from(u32::from_le_bytes(size.try_into().unwrap())).unwrap();
        let size = size.clamp(19, input.len().max(19));
        let start = whole - input.len();
        cuts.push(start..(start + size).min(whole));
        input = input.get(size..).unwrap_or_default();
    }
    cuts
}

fn repair_events(input: &mut [u8]) {
    for range in cut(input) {
        let event = &mut input[range];
        let size = u32::try_from(event.len()).unwrap().to_le_bytes();
        if event.len() >= 23 {
            event[9..13].copy_from_slice(&size);
            let behind = event.len() - 4;
            let sum = crc32fast::hash(&event[..behind]).to_le_bytes();
            event[behind..].copy_from_slice(&sum);
        }
    }
}

const FORMAT_DESCRIPTION: u8 = relay::decode::event::code::FORMAT_DESCRIPTION;

fn in_parts(
    assembler: &mut Assembler,
    event: &[u8],
    sink: &mut Formats,
) -> Result<Progress, StreamError<Infallible>> {
    let (first, rest) = event.split_at(event.len().min(100));
    assembler.begin_parts(first, sink)?;
    for part in rest.chunks(37) {
        assembler.part(part, sink)?;
    }
    assembler.end_parts(sink)
}

fn events(input: &[u8], flavor: Flavor) -> bool {
    let mut sink = Formats { start: None, understood: true };
    let mut assembler =
        Assembler::new(TableFilter::new::<&str>(&[]), ColumnFilter::new(&["*.*.v2"]), flavor, 1)
            .bounding_rows(2000, Oversize::LeaveOut)
            .holding(100);
    // What a server sends first, made up for the connection: the file's name.
    let mut rotate =
        vec![0, 0, 0, 0, 4, 1, 0, 0, 0, 40, 0, 0, 0, 0, 0, 0, 0, 0x20, 0, 4, 0, 0, 0, 0, 0, 0, 0];
    rotate.extend_from_slice(b"binlog.000001");
    assembler.event(&rotate, &mut sink).expect("a good event");
    for range in cut(input) {
        let event = &input[range];
        // Each second one in parts, as those that are larger than a packet come.
        let parts = event.len() % 2 == 1 && event.get(4) != Some(&FORMAT_DESCRIPTION);
        let done = if parts {
            in_parts(&mut assembler, event, &mut sink)
        } else {
            assembler.event(event, &mut sink)
        };
        if done.is_err() {
            assembler.disconnected(&mut sink).expect("it cannot fail");
            return false;
        }
    }
    sink.understood
}

fn frame_seeds() -> Vec<Vec<u8>> {
    let at = Position::new(1, 3, 5 << 32);
    let hello = |from, process| {
        Frame::Hello(Hello {
            cluster: "c".into(),
            source: "s".into(),
            group: "g".into(),
            member: "m".into(),
            from,
            partitions: PartitionSet::of(70, [0, 69]),
            credit_bytes: 1 << 20,
            selection: relay::wire::Selection { tables: vec!["d.*".into()], ..Default::default() },
            process,
        })
    };
    let covered = Covered {
        position: at,
        file_name: "b.000003".into(),
        commit_time_us: 1,
        server_uuid: "u".into(),
        head: SourceHead { file_name: "b.000003".into(), end_offset: 9, commit_time_us: 2 },
    };
    let welcome =
        Welcome { server_uuid: "u".into(), epoch: 1, lowest: Some(at), highest: None, file_base: "b".into() };
    let error = ErrorFrame { code: ErrorCode::Busy, definite: false, message: "later".into() };
    let schema = schema();
    let frames = [
        hello(StartFrom::Position { position: at, rows: 2 }, None),
        hello(StartFrom::Gtid("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5".into()), None),
        hello(StartFrom::Time(-1), Some(7)),
        hello(StartFrom::Earliest, Some(u128::MAX)),
        Frame::Welcome(welcome),
        Frame::Error(error),
        Frame::Covered(covered),
        Frame::Credit(5),
        Frame::Schema(schema.id, schema.serialize().into()),
        Frame::Block(block_seeds().remove(0).into()),
    ];
    let encoded = |frame: &Frame| {
        let mut bytes = Vec::new();
        frame.encode(&mut bytes);
        bytes
    };
    let mut seeds: Vec<Vec<u8>> = frames.iter().map(encoded).collect();
    seeds.push(seeds.concat());
    seeds
}

fn repair_frames(input: &mut [u8]) {
    let mut at = 0;
    while let Some(head) = input.get(at..at + 12) {
        let left = input.len() - at - 12;
        let length = usize::try_from(u32::from_le_bytes(head[4..8].try_into().unwrap())).unwrap().min(left);
        let bytes = u32::try_from(length).unwrap().to_le_bytes();
        input[at + 4..at + 8].copy_from_slice(&bytes);
        let mut sum = crc32fast::Hasher::new();
        sum.update(&input[at..at + 8]);
        // A block has a checksum of its own.
        if input[at + 3] != frame_kind_of_blocks() {
            sum.update(&input[at + 12..at + 12 + length]);
        }
        let sum = sum.finalize().to_le_bytes();
        input[at + 8..at + 12].copy_from_slice(&sum);
        at += 12 + length;
    }
}

fn frame_kind_of_blocks() -> u8 {
    relay::wire::frame::block_header(0)[3]
}

fn frames(input: &[u8]) -> bool {
    let mut buffer = BytesMut::from(input);
    loop {
        match Frame::decode(&mut buffer) {
            Ok(Some(Frame::Schema(_, definition))) => drop(TableSchema::parse(&definition)),
            Ok(Some(Frame::Block(block))) => drop(blocks(&block)),
            Ok(Some(_)) => {}
            Ok(None) => return buffer.is_empty(),
            Err(_) => return false,
        }
    }
}

fn schema() -> Arc<TableSchema> {
    let column = |name: &str, kind| Column { name: name.into(), kind, nullable: true, visible: true };
    let columns = vec![
        column("id", ColumnKind::Int { bytes: 4, unsigned: false }),
        column("v", ColumnKind::Json { length_bytes: 4 }),
        column("e", ColumnKind::Enum { bytes: 1, members: vec!["a".into()] }),
    ];
    Arc::new(TableSchema::new("d".into(), "t".into(), columns, vec![0]))
}

fn block_seeds() -> Vec<Vec<u8>> {
    let schema = schema();
    let at = Position::new(1, 3, 400);
    let mut builder = BlockBuilder::new(at, "b.000003".into());
    let definition = Some(Bytes::from(schema.serialize()));
    let slot = builder.add_schema(NewSchema { id: schema.id, definition }).expect("a slot");
    builder.begin(&TxnStart {
        position: at,
        file_name: "b.000003".into(),
        gtid: Some("0-1-2".into()),
        server_id: 1,
        commit_time_us: 3,
    });
    let image = [7, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 1, 1];
    let changes = [
        (Op::Insert, &[][..], &image[..]),
        (Op::Update, &image[..], &[1, 0, 8, 0, 0, 0][..]),
        (Op::Ddl, &[][..], br#"{"database":"d","table":null,"sql":"x"}"#),
    ];
    for (row, (op, before, after)) in (0..).zip(changes) {
        builder.row(
            slot,
            row,
            &RowChange { op, schema: &schema, key_hash_before: 1, key_hash: 2, before, after },
        );
    }
    builder.commit(900, 3);
    builder.covered(1000, 5);
    vec![builder.seal(false).bytes().to_vec()]
}

fn repair_block(input: &mut [u8]) {
    if input.len() < 80 {
        return;
    }
    let length = u32::try_from(input.len()).unwrap().to_le_bytes();
    input[8..12].copy_from_slice(&length);
    let mut sum = crc32fast::Hasher::new();
    sum.update(&input[..12]);
    sum.update(&input[16..]);
    let sum = sum.finalize().to_le_bytes();
    input[12..16].copy_from_slice(&sum);
}

fn blocks(input: &[u8]) -> bool {
    let Ok(block) = BlockReader::default().read(Bytes::copy_from_slice(input)) else { return false };
    let mut sink = Formats { start: None, understood: true };
    for item in block.items() {
        if let BlockItem::Row { txn, change, .. } = item {
            sink.write(txn, change);
        }
    }
    // What a row holds is checked when it is written; the block itself was understood.
    true
}

/// A selection in a line, and a block that it is made of.
fn selection_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"tables":["d.*","!d.u"]}"#,
        r#"{"include_columns":["d.t.e"],"exclude_columns":["*.*.v"]}"#,
        r#"{"tables":["other.t"],"include_columns":["*.t.?"]}"#,
    ]
    .iter()
    .map(|selection| [selection.as_bytes(), b"\n", &block_seeds().remove(0)].concat())
    .collect()
}

fn block_behind(input: &[u8]) -> usize {
    input.iter().position(|byte| *byte == b'\n').map_or(input.len(), |at| at + 1)
}

fn repair_selection(input: &mut [u8]) {
    let at = block_behind(input);
    repair_block(&mut input[at..]);
}

fn selections(input: &[u8]) -> bool {
    let (selection, block) = input.split_at(block_behind(input));
    let Ok(selection) = serde_json::from_slice::<Selection>(selection) else { return false };
    let again = serde_json::to_vec(&selection).expect("a selection is JSON");
    assert_eq!(
        serde_json::from_slice::<Selection>(&again).ok().as_ref(),
        Some(&selection),
        "read back as it was"
    );
    let Ok(sealed) = Sealed::parse(Bytes::copy_from_slice(block)) else { return false };
    let Some(mut selector) = Selector::new(selection) else { return true };
    match selector.apply(&sealed, |_| None) {
        // What is kept must be a block again, checksum and all.
        Ok(Filtered::Repacked(part)) => {
            Sealed::parse(part.bytes().clone()).expect("a block");
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}

fn history_seeds() -> Vec<Vec<u8>> {
    let at = |offset| Position::new(1, 2, offset);
    let name = |table: &str| TableName::new("d", table);
    let declared = || {
        let column = DeclaredColumn {
            name: "id".into(),
            kind: "int unsigned".into(),
            charset: None,
            octets: None,
            nullable: false,
            visible: true,
        };
        Declared { columns: vec![column], key: vec![0] }
    };
    let mut history = History::default();
    history.for_server("s");
    history.restart(at(4), at(900));
    history.saw(name("a"), at(10), declared());
    history.touch(at(100), Touch::Renamed(vec![(name("a"), name("b")), (name("c"), name("a"))]));
    history.touch(at(200), Touch::Changed(vec![name("b")]));
    history.saw(name("b"), at(300), declared());
    history.touch(at(400), Touch::Database("d".into()));
    history.touch(at(500), Touch::Everything);
    vec![serde_json::to_vec(&history).expect("a history is JSON")]
}

fn histories(input: &[u8]) -> bool {
    let Ok(mut history) = serde_json::from_slice::<History>(input) else { return false };
    let again = serde_json::to_vec(&history).expect("a history is JSON");
    assert_eq!(
        serde_json::from_slice::<History>(&again).ok().as_ref(),
        Some(&history),
        "read back as it was"
    );
    for offset in [0, 10, 150, 300, 450, 901, u64::MAX] {
        let at = Position::new(1, 2, offset);
        for table in ["a", "b", "c", "", "\u{fc}"] {
            let table = TableName::new("d", table);
            if history.at(&table, at).is_some() {
                assert!(
                    history.covered().is_some_and(|(from, to)| from <= at && at <= to),
                    "known where it is not"
                );
            }
            drop(history.called_later(&table, at));
            history.changed_after(&table, at);
        }
    }
    history.forget_before(Position::new(1, 2, 250));
    history.touch(Position::new(1, 2, 950), Touch::Everything);
    true
}

fn statement_seeds() -> Vec<Vec<u8>> {
    [
        "BEGIN",
        "XA START X'61',X'',1",
        "create table if not exists `s`.`t` (a int default 'x;y' /* c */)",
        "/* gh-ost */ alter /*!80000 ignore */ table `a``b` drop c",
        "CREATE UNIQUE INDEX i USING BTREE ON \"s\".t (a)",
        "# note\n-- another\nTRUNCATE t",
        "DELETE FROM `d`.`t` /* generated by server */",
        "RENAME TABLE a TO b, c TO d",
        "DROP DATABASE IF EXISTS `ü`",
    ]
    .iter()
    .map(|sql| sql.as_bytes().to_vec())
    .collect()
}

fn statements(input: &[u8]) -> bool {
    let database = |name: &str| name == "d";
    for quoting in [None, Some(query::Quoting::of_sql_mode(0)), Some(query::Quoting::of_sql_mode(u64::MAX))] {
        query::classify(input, quoting);
        query::may_change(input, quoting, database);
    }
    touch::touch(&String::from_utf8_lossy(input), "d");
    query::classify(input, None) != query::Statement::Other
}

/// The body of a query event: eight bytes, lengths, settings of the session, database, text.
fn query_event_seeds() -> Vec<Vec<u8>> {
    let settings: [&[u8]; 2] =
        [&[1, 4, 0, 0x10, 0, 0, 0, 0, 0, 4, 8, 0, 8, 0, 33, 0], b"\x04\x1c\0\x1c\0\x21\0\x0c\x02shop\0d\0"];
    let body = |settings: &[u8]| {
        let len = u16::try_from(settings.len()).unwrap_or(0).to_le_bytes();
        [&[0; 8][..], &[1, 0, 0], &len, settings, b"d\0CREATE TABLE `t\xe4` (a int COMMENT 'x\\'')"].concat()
    };
    settings.into_iter().map(body).collect()
}

fn query_events(input: &[u8]) -> bool {
    let Ok(query) = query_event::query(input) else { return false };
    query.text();
    query.status() != query_event::Status::default()
}

fn start_seeds() -> Vec<Vec<u8>> {
    [
        "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:tag:7-9,4e11fa47-71ca-11e1-9e33-c80aa9429562:3",
        "12903018062",
        "0-1-42",
        "2026-11-22T15:00:00Z",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

fn starts(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    if let Ok(set) = text.parse::<GtidSet>() {
        assert_eq!(set.to_string().parse::<GtidSet>().as_ref(), Ok(&set), "a set is read back as it was");
        assert!(set.minus(&set).is_empty());
    }
    text.parse::<Start>().is_ok()
}
