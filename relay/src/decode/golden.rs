//! Events captured from real servers, decoded and formatted, against snapshots; and the same bytes damaged.

use super::DecodeError;
use super::event::{Header, code};
use super::filter::{ColumnFilter, TableFilter};
use super::stream::{Assembler, Flavor, LastTransaction, Progress, StreamError};
use crate::config::{Format, Oversize};
use crate::event::{RowChange, Savepoint, TransactionSink, TxnEnd, TxnHeader, TxnStart};
use crate::format::{Formatter, RowContext};
use crate::position::Position;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::fmt::Write as _;
use std::sync::Arc;

const MYSQL: &str = include_str!("../../testdata/mysql-9.7.hex");
const MYSQL_COMPRESSED: &str = include_str!("../../testdata/mysql-9.7-compressed.hex");
const MARIADB: &str = include_str!("../../testdata/mariadb-10.11.hex");
const MARIADB_COMPRESSED: &str = include_str!("../../testdata/mariadb-10.11-compressed.hex");

/// A captured piece of a binlog: file, offset of the first event behind the format description, events.
struct Capture {
    file: String,
    offset: u64,
    events: Vec<Vec<u8>>,
}

impl Capture {
    fn parse(text: &str) -> Self {
        let mut lines = text.lines();
        let mut head = lines.next().unwrap().trim_start_matches("# ").split(' ');
        let unhex = |line: &str| {
            line.as_bytes()
                .chunks(2)
                .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
                .collect()
        };
        Self {
            file: head.next().unwrap().to_owned(),
            offset: head.next().unwrap().parse().unwrap(),
            events: lines.map(unhex).collect(),
        }
    }

    /// What a server sends first, made up for the connection.
    fn rotate(&self) -> Vec<u8> {
        let mut event = vec![0, 0, 0, 0, code::ROTATE, 1, 0, 0, 0];
        let size = u32::try_from(19 + 8 + self.file.len()).unwrap();
        event.extend_from_slice(&size.to_le_bytes());
        event.extend_from_slice(&[0, 0, 0, 0, 0x20, 0]);
        event.extend_from_slice(&self.offset.to_le_bytes());
        event.extend_from_slice(self.file.as_bytes());
        event
    }

    /// The format description as sent in the middle of a file: it takes no room there.
    fn description(&self) -> Vec<u8> {
        let mut event = self.events[0].clone();
        event[13..17].copy_from_slice(&[0; 4]);
        let covered = event.len() - 4;
        let checksum = crc32fast::hash(&event[..covered]).to_le_bytes();
        event[covered..].copy_from_slice(&checksum);
        event
    }

    fn dump(&self) -> Vec<Vec<u8>> {
        let mut all = vec![self.rotate(), self.description()];
        all.extend_from_slice(&self.events[1..]);
        all
    }
}

#[derive(Default)]
struct Lines {
    start: Option<TxnStart>,
    rows: u64,
    out: String,
    aborted: u64,
}

impl TransactionSink for Lines {
    type Error = DecodeError;

    fn begin(&mut self, start: TxnStart) -> Result<(), DecodeError> {
        self.start = Some(start);
        self.rows = 0;
        Ok(())
    }

    fn row(&mut self, change: RowChange<'_>) -> Result<(), DecodeError> {
        let txn = TxnHeader { start: self.start.clone().unwrap(), end_offset: 0, rows: 2 };
        let row = RowContext {
            source: "gold",
            txn: &txn,
            row: self.rows,
            change,
            server_uuid: "",
            snapshot: false,
        };
        let mut out = Vec::new();
        Formatter::new(Format::Aesop).value(&row, &mut out)?;
        let parsed: serde_json::Value = serde_json::from_slice(&out).expect("valid JSON");
        assert!(parsed.get("op").is_some());
        let text = String::from_utf8(out).unwrap();
        // Where and when differ with each capture; the golden part is the row.
        self.out.push_str(text.split(",\"scn\":").next().unwrap());
        writeln!(self.out, "}} hash {:016x}", change.key_hash).unwrap();
        self.rows += 1;
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint { rows: self.rows, bytes: self.out.len().try_into().unwrap() }
    }

    fn roll_back(&mut self, to: Savepoint) -> Result<(), DecodeError> {
        self.rows = to.rows;
        self.out.truncate(to.bytes.try_into().unwrap());
        Ok(())
    }

    fn commit(&mut self, _end: TxnEnd) -> Result<(), DecodeError> {
        self.out.push_str("commit\n");
        self.start = None;
        Ok(())
    }

    fn abort(&mut self) -> Result<(), DecodeError> {
        self.aborted += 1;
        self.start = None;
        Ok(())
    }

    fn covered(&mut self, _: Position, _: &Arc<str>, _: i64) -> Result<(), DecodeError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        Ok(())
    }
}

fn assembler(flavor: Flavor) -> Assembler {
    Assembler::new(TableFilter::new(&["source_gold.*"]), ColumnFilter::default(), flavor, 1)
}

fn decoded(capture: &str, assembler: &mut Assembler) -> String {
    let mut lines = Lines::default();
    for event in Capture::parse(capture).dump() {
        assembler.event(&event, &mut lines).unwrap();
    }
    lines.out
}

fn check(capture: &str, flavor: Flavor, expected: &Expect) {
    expected.assert_eq(&decoded(capture, &mut assembler(flavor)));
}

#[test]
fn mysql() {
    check(
        MYSQL,
        Flavor::MySql,
        &expect![[r#"
            {"op":"insert","source":"gold","database":"source_gold","table":"g","key":{"sub":"ab","id":4000000000},"before":null,"after":{"id":4000000000,"sub":"ab","ti":-128,"bu":18446744073709551615,"y":2026,"de":"-1234.5000","fl":0.1,"db":1e300,"bi":513,"da":"2024-02-29","t3":"-01:02:03.500","dt":"2026-11-22T15:02:53.630160","ts":"2026-11-22T15:02:53.25Z","vc":"a\"é\n","la":"€ café","sj":"ソ","bn":"AQIAAA==","bl":"AP8=","en":"paid","se":["a","c"],"js":{"k":[1,-2.5,true,null,"x",18446744073709551615],"o":{"e":{}}},"ge":{"type":"Point","coordinates":[1.0,2.5],"srid":0},"nu":null}} hash 514b119a5bbd2175
            {"op":"insert","source":"gold","database":"source_gold","table":"g","key":{"sub":"z","id":1},"before":null,"after":{"id":1,"sub":"z","ti":0,"bu":0,"y":0,"de":"0.0000","fl":0.0,"db":0.0,"bi":0,"da":"0000-00-00","t3":"00:00:00.000","dt":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00.00Z","vc":"","la":"","sj":"","bn":"AAAAAA==","bl":"","en":"","se":[],"js":[],"ge":null,"nu":7}} hash 64b2a0436e2ab28d
            commit
            {"op":"update","source":"gold","database":"source_gold","table":"g","key":{"sub":"z","id":2},"before":{"id":1,"sub":"z","ti":0,"bu":0,"y":0,"de":"0.0000","fl":0.0,"db":0.0,"bi":0,"da":"0000-00-00","t3":"00:00:00.000","dt":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00.00Z","vc":"","la":"","sj":"","bn":"AAAAAA==","bl":"","en":"","se":[],"js":[],"ge":null,"nu":7},"after":{"id":2,"sub":"z","ti":0,"bu":0,"y":0,"de":"0.0000","fl":0.0,"db":0.0,"bi":0,"da":"0000-00-00","t3":"00:00:00.000","dt":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00.00Z","vc":"","la":"","sj":"","bn":"AAAAAA==","bl":"","en":"new","se":[],"js":[],"ge":null,"nu":7}} hash 4496849a45a5998c
            commit
            {"op":"delete","source":"gold","database":"source_gold","table":"g","key":{"sub":"ab","id":4000000000},"before":{"id":4000000000,"sub":"ab","ti":-128,"bu":18446744073709551615,"y":2026,"de":"-1234.5000","fl":0.1,"db":1e300,"bi":513,"da":"2024-02-29","t3":"-01:02:03.500","dt":"2026-11-22T15:02:53.630160","ts":"2026-11-22T15:02:53.25Z","vc":"a\"é\n","la":"€ café","sj":"ソ","bn":"AQIAAA==","bl":"AP8=","en":"paid","se":["a","c"],"js":{"k":[1,-2.5,true,null,"x",18446744073709551615],"o":{"e":{}}},"ge":{"type":"Point","coordinates":[1.0,2.5],"srid":0},"nu":null},"after":null} hash 514b119a5bbd2175
            commit
            {"op":"truncate","source":"gold","database":"source_gold","table":"g","sql":"truncate table g"} hash 0000000000000000
            commit
        "#]],
    );
}

#[test]
fn mariadb() {
    check(
        MARIADB,
        Flavor::MariaDb,
        &expect![[r#"
            {"op":"insert","source":"gold","database":"source_gold","table":"g","key":{"sub":"ab","id":4000000000},"before":null,"after":{"id":4000000000,"sub":"ab","ti":-128,"bu":18446744073709551615,"y":2026,"de":"-1234.5000","fl":0.1,"db":1e300,"bi":513,"da":"2024-02-29","t3":"-01:02:03.500","dt":"2026-11-22T15:02:53.630160","ts":"2026-11-22T15:02:53.25Z","vc":"a\"é\n","la":"€ café","sj":"ソ","bn":"AQIAAA==","bl":"AP8=","en":"paid","se":["a","c"],"js":"{\"k\":[1,-2.5,true,null,\"x\",18446744073709551615],\"o\":{\"e\":{}}}","ge":{"type":"Point","coordinates":[1.0,2.5],"srid":0},"nu":null}} hash 514b119a5bbd2175
            {"op":"insert","source":"gold","database":"source_gold","table":"g","key":{"sub":"z","id":1},"before":null,"after":{"id":1,"sub":"z","ti":0,"bu":0,"y":0,"de":"0.0000","fl":0.0,"db":0.0,"bi":0,"da":"0000-00-00","t3":"00:00:00.000","dt":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00.00Z","vc":"","la":"","sj":"","bn":"AAAAAA==","bl":"","en":"","se":[],"js":"[]","ge":null,"nu":7}} hash 64b2a0436e2ab28d
            commit
            {"op":"update","source":"gold","database":"source_gold","table":"g","key":{"sub":"z","id":2},"before":{"id":1,"sub":"z","ti":0,"bu":0,"y":0,"de":"0.0000","fl":0.0,"db":0.0,"bi":0,"da":"0000-00-00","t3":"00:00:00.000","dt":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00.00Z","vc":"","la":"","sj":"","bn":"AAAAAA==","bl":"","en":"","se":[],"js":"[]","ge":null,"nu":7},"after":{"id":2,"sub":"z","ti":0,"bu":0,"y":0,"de":"0.0000","fl":0.0,"db":0.0,"bi":0,"da":"0000-00-00","t3":"00:00:00.000","dt":"0000-00-00T00:00:00.000000","ts":"0000-00-00T00:00:00.00Z","vc":"","la":"","sj":"","bn":"AAAAAA==","bl":"","en":"new","se":[],"js":"[]","ge":null,"nu":7}} hash 4496849a45a5998c
            commit
            {"op":"delete","source":"gold","database":"source_gold","table":"g","key":{"sub":"ab","id":4000000000},"before":{"id":4000000000,"sub":"ab","ti":-128,"bu":18446744073709551615,"y":2026,"de":"-1234.5000","fl":0.1,"db":1e300,"bi":513,"da":"2024-02-29","t3":"-01:02:03.500","dt":"2026-11-22T15:02:53.630160","ts":"2026-11-22T15:02:53.25Z","vc":"a\"é\n","la":"€ café","sj":"ソ","bn":"AQIAAA==","bl":"AP8=","en":"paid","se":["a","c"],"js":"{\"k\":[1,-2.5,true,null,\"x\",18446744073709551615],\"o\":{\"e\":{}}}","ge":{"type":"Point","coordinates":[1.0,2.5],"srid":0},"nu":null},"after":null} hash 514b119a5bbd2175
            commit
            {"op":"truncate","source":"gold","database":"source_gold","table":"g","sql":"truncate table g"} hash 0000000000000000
            commit
        "#]],
    );
}

#[test]
fn compressed_transactions_decode_to_the_same_rows() {
    let plain = decoded(MYSQL, &mut assembler(Flavor::MySql));
    assert_eq!(decoded(MYSQL_COMPRESSED, &mut assembler(Flavor::MySql)), plain);
    let plain = decoded(MARIADB, &mut assembler(Flavor::MariaDb));
    assert_eq!(decoded(MARIADB_COMPRESSED, &mut assembler(Flavor::MariaDb)), plain);
}

#[test]
fn a_resumed_dump_begins_behind_the_transaction_it_knows() {
    let all = decoded(MYSQL, &mut assembler(Flavor::MySql));
    let capture = Capture::parse(MYSQL);
    // Stop behind the first transaction.
    let mut first = assembler(Flavor::MySql);
    let mut lines = Lines::default();
    for event in capture.dump() {
        if first.event(&event, &mut lines).unwrap() == Progress::Transaction {
            break;
        }
    }
    let last = first.last().unwrap();
    let rest = decoded(MYSQL, &mut assembler(Flavor::MySql).resuming_after(last.clone()));
    assert_eq!(format!("{}{rest}", lines.out), all);

    // Another transaction at the same place is not taken for it.
    let other = LastTransaction { gtid: Some("00000000-0000-0000-0000-000000000000:1".into()), ..last };
    let mut wrong = assembler(Flavor::MySql).resuming_after(other);
    let failed = capture.dump().iter().find_map(|event| wrong.event(event, &mut Lines::default()).err());
    assert!(matches!(failed, Some(StreamError::Diverged { .. })), "{failed:?}");
}

#[test]
fn a_connection_lost_inside_a_transaction_aborts_it() {
    let mut assembler = assembler(Flavor::MySql);
    let mut lines = Lines::default();
    for event in Capture::parse(MYSQL).dump() {
        assembler.event(&event, &mut lines).unwrap();
        if lines.start.is_some() {
            break;
        }
    }
    assembler.disconnected(&mut lines).unwrap();
    assert_eq!((lines.aborted, assembler.in_transaction()), (1, false));
    assert_eq!(assembler.last(), None);
}

#[test]
fn a_flipped_bit_is_a_checksum_error() {
    let mut events = Capture::parse(MYSQL).dump();
    let at = events[2].len() / 2;
    events[2][at] ^= 1;
    let mut assembler = assembler(Flavor::MySql);
    let failed = events.iter().find_map(|event| assembler.event(event, &mut Lines::default()).err());
    assert!(matches!(failed, Some(StreamError::Decode(DecodeError::Checksum { .. }))), "{failed:?}");
}

#[test]
fn unknown_events_stop_unless_they_may_be_ignored() {
    let mut assembler = assembler(Flavor::MySql);
    let capture = Capture::parse(MYSQL);
    for event in &capture.dump()[..2] {
        assembler.event(event, &mut Lines::default()).unwrap();
    }
    let event = |flags: u8| {
        let mut event = vec![0, 0, 0, 0, 99, 1, 0, 0, 0, 23, 0, 0, 0, 0, 0, 0, 0, flags, 0];
        event.extend_from_slice(&crc32fast::hash(&event).to_le_bytes());
        event
    };
    assert!(assembler.event(&event(0), &mut Lines::default()).is_err());
    assert!(assembler.event(&event(0x80), &mut Lines::default()).is_ok());
}

const CAPTURES: [(&str, Flavor); 4] = [
    (MYSQL, Flavor::MySql),
    (MYSQL_COMPRESSED, Flavor::MySql),
    (MARIADB, Flavor::MariaDb),
    (MARIADB_COMPRESSED, Flavor::MariaDb),
];

/// What comes of a capture: lines, progress, and the error it ends with.
fn outcome(
    capture: &str,
    mut assembler: Assembler,
    feed: impl Fn(&mut Assembler, &[u8], &mut Lines) -> Result<Progress, StreamError<DecodeError>>,
) -> (String, Vec<Progress>, Option<String>) {
    let (mut lines, mut all) = (Lines::default(), Vec::new());
    for event in Capture::parse(capture).dump() {
        match feed(&mut assembler, &event, &mut lines) {
            Ok(progress) => all.push(progress),
            Err(error) => return (lines.out, all, Some(error.to_string())),
        }
    }
    (lines.out, all, None)
}

#[test]
fn a_flipped_bit_in_a_part_is_noticed_before_the_transaction_ends() {
    for (capture, flavor) in CAPTURES {
        let mut assembler = assembler(flavor);
        let mut lines = Lines::default();
        let mut events = Capture::parse(capture).dump();
        for event in &mut events[..2] {
            assembler.event(event, &mut lines).unwrap();
        }
        let flipped = events[2..].iter_mut().find_map(|event| {
            let header = Header::parse(event).unwrap();
            if super::rows::layout(header.kind).is_none() && header.kind != code::TRANSACTION_PAYLOAD {
                assembler.event(event, &mut lines).unwrap();
                return None;
            }
            // In the checksum itself: all that is before it makes sense.
            let last = event.len() - 1;
            event[last] ^= 1;
            let (first, rest) = event.split_at(100);
            assembler.begin_parts(first, &mut lines).unwrap();
            assembler.part(rest, &mut lines).unwrap();
            Some(assembler.end_parts(&mut lines))
        });
        let failed = flipped.unwrap();
        assert!(matches!(failed, Err(StreamError::Decode(DecodeError::Checksum { .. }))), "{failed:?}");
        assert!(!lines.out.contains("commit"), "{}", lines.out);
    }
}

/// Replaces the checksum, so that damage reaches what is behind it.
fn seal(event: &mut [u8]) {
    if let Some(covered) = event.len().checked_sub(4) {
        let checksum = crc32fast::hash(&event[..covered]).to_le_bytes();
        event[covered..].copy_from_slice(&checksum);
    }
}

proptest! {
    #[test]
    fn damaged_events_never_panic(
        which in 0usize..4,
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (capture, flavor) = CAPTURES[which];
        let mut events = Capture::parse(capture).dump();
        for (event, byte, value) in damage {
            let index = event.index(events.len());
            let event = &mut events[index];
            // The size field stays true: a wrong one is refused at once.
            let byte = byte.index(event.len());
            if !(9..13).contains(&byte) {
                event[byte] = value;
            }
            seal(event);
        }
        let mut assembler = assembler(flavor);
        for event in &events {
            drop(assembler.event(event, &mut Quiet));
        }
        drop(assembler.disconnected(&mut Quiet));
    }

    #[test]
    fn events_in_parts_are_the_same_events(
        which in 0usize..4,
        cuts in proptest::collection::vec(1usize..150, 1..20),
        limit in prop_oneof![Just(u64::MAX), 10u64..400],
        left_out in any::<bool>(),
    ) {
        let (capture, flavor) = CAPTURES[which];
        let oversize = if left_out { Oversize::LeaveOut } else { Oversize::Stop };
        let assembler = || assembler(flavor).bounding_rows(limit, oversize);
        let whole = outcome(capture, assembler(), Assembler::event);
        // Events too small for it are whole all the same.
        let parts = outcome(capture, assembler().holding(100), |assembler, event, lines| {
            let header = Header::parse(event).unwrap();
            if matches!(header.kind, code::ROTATE | code::FORMAT_DESCRIPTION) {
                return assembler.event(event, lines);
            }
            let (first, mut rest) = event.split_at(event.len().min(100));
            assembler.begin_parts(first, lines)?;
            for cut in cuts.iter().cycle() {
                let (part, behind) = rest.split_at(rest.len().min(*cut));
                assembler.part(part, lines)?;
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            assembler.end_parts(lines)
        });
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        events in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6),
        kinds in proptest::collection::vec(any::<u8>(), 6),
    ) {
        let mut assembler = assembler(Flavor::MySql);
        for (mut event, kind) in events.into_iter().zip(kinds) {
            let size = u32::try_from(event.len()).unwrap();
            if event.len() >= 23 {
                event[4] = kind;
                event[9..13].copy_from_slice(&size.to_le_bytes());
                seal(&mut event);
            }
            drop(assembler.event(&event, &mut Quiet));
        }
    }
}

/// Formats rows and forgets them.
struct Quiet;

impl TransactionSink for Quiet {
    type Error = DecodeError;

    fn begin(&mut self, _: TxnStart) -> Result<(), DecodeError> {
        Ok(())
    }

    fn row(&mut self, change: RowChange<'_>) -> Result<(), DecodeError> {
        let start = TxnStart {
            position: Position::default(),
            file_name: Arc::from(""),
            gtid: None,
            server_id: 1,
            commit_time_us: 0,
        };
        let txn = TxnHeader { start, end_offset: 0, rows: 1 };
        let row = RowContext { source: "", txn: &txn, row: 0, change, server_uuid: "", snapshot: false };
        drop(Formatter::new(Format::Aesop).value(&row, &mut Vec::new()));
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint::default()
    }

    fn roll_back(&mut self, _: Savepoint) -> Result<(), DecodeError> {
        Ok(())
    }

    fn commit(&mut self, _: TxnEnd) -> Result<(), DecodeError> {
        Ok(())
    }

    fn abort(&mut self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn covered(&mut self, _: Position, _: &Arc<str>, _: i64) -> Result<(), DecodeError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DecodeError> {
        Ok(())
    }
}
