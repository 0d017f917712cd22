use super::*;
use crate::decode::query::{Statement, classify};
use crate::event::{Op, RowChange, Savepoint, TxnEnd};
use proptest::prelude::*;
use std::convert::Infallible;

/// Where transactions begin and end, and the statements in them.
#[derive(Debug, Default)]
struct Seen {
    open: Option<TxnStart>,
    txns: Vec<(Position, u64)>,
    statements: Vec<String>,
}

impl TransactionSink for Seen {
    type Error = Infallible;

    fn begin(&mut self, start: TxnStart) -> Result<(), Infallible> {
        self.open = Some(start);
        Ok(())
    }

    fn row(&mut self, row: RowChange<'_>) -> Result<(), Infallible> {
        assert!(matches!(row.op, Op::Ddl | Op::Truncate));
        let statement: crate::event::Statement = serde_json::from_slice(row.after).unwrap();
        self.statements.push(statement.sql);
        Ok(())
    }

    fn savepoint(&self) -> Savepoint {
        Savepoint::default()
    }

    fn roll_back(&mut self, _: Savepoint) -> Result<(), Infallible> {
        Ok(())
    }

    fn commit(&mut self, end: TxnEnd) -> Result<(), Infallible> {
        self.txns.push((self.open.take().unwrap().position, end.end_offset));
        Ok(())
    }

    fn abort(&mut self) -> Result<(), Infallible> {
        self.open = None;
        Ok(())
    }

    fn covered(&mut self, _: Position, _: &Arc<str>, _: i64) -> Result<(), Infallible> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// An event that ends at this offset, of which its header has the low 32 bits.
fn event(kind: u8, end: u64, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(19 + body.len() + 4).unwrap();
    let mut bytes = vec![1, 0, 0, 0, kind, 1, 0, 0, 0];
    bytes.extend_from_slice(&size.to_le_bytes());
    bytes.extend_from_slice(&end.to_le_bytes()[..4]);
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(body);
    let sum = crc32fast::hash(&bytes).to_le_bytes();
    bytes.extend_from_slice(&sum);
    bytes
}

fn query(end: u64, sql: &[u8]) -> Vec<u8> {
    let mut body = vec![0; 8];
    body.push(4);
    body.extend_from_slice(&[0; 4]);
    body.extend_from_slice(b"shop\0");
    body.extend_from_slice(sql);
    event(code::QUERY, end, &body)
}

fn rotate(offset: u64) -> Vec<u8> {
    event(code::ROTATE, 0, &[&offset.to_le_bytes()[..], b"binlog.000007"].concat())
}

fn assembler() -> Assembler {
    Assembler::new(TableFilter::new::<&str>(&[]), ColumnFilter::default(), Flavor::MySql, 1)
}

#[test]
fn offsets_beyond_four_gibibytes_go_on_growing() {
    const GIB4: u64 = 1 << 32;
    let ends = [
        GIB4 - 500,
        GIB4 - 300,
        GIB4 - 10,
        GIB4 + 190,
        GIB4 + 400,
        2 * GIB4 - 100,
        2 * GIB4 + 100,
        2 * GIB4 + 300,
    ];
    let read = |mut assembler: Assembler| {
        let mut seen = Seen::default();
        assembler.event(&rotate(4), &mut seen).unwrap();
        for end in ends {
            assembler.event(&query(end, b"CREATE TABLE t (a int)"), &mut seen).unwrap();
        }
        seen.txns
    };
    let size = u64::try_from(query(0, b"CREATE TABLE t (a int)").len()).unwrap();
    let expected: Vec<_> = ends.iter().map(|end| (Position::new(1, 7, end - size), *end)).collect();
    assert_eq!(read(assembler()), expected);
    assert!(expected.windows(2).all(|pair| pair[0] < pair[1]), "order is kept");
    // A start beyond, reached from the file's beginning; and behind a transaction there.
    assert_eq!(read(assembler().starting_at(expected[4].0)), expected[4..]);
    let last = LastTransaction { position: expected[5].0, file_name: "binlog.000007".into(), gtid: None };
    assert_eq!(read(assembler().resuming_after(last)), expected[6..]);
    // As people see it: the offset saturates, and never reaches into the file's number.
    assert_eq!(expected[4].0.scn().0, 7 << 32 | 0xffff_ffff);
}

/// A place that only a set of GTIDs tells is arrived at with the first transaction that is not in it, or with the end of
/// what there is.
#[test]
fn transactions_of_a_set_are_passed_over() {
    let sql = b"CREATE TABLE t (a int)";
    let gtid = |domain: u32, number: u64, end: u64| {
        let mut body = number.to_le_bytes().to_vec();
        body.extend_from_slice(&domain.to_le_bytes());
        // Without an end of its own: a statement alone.
        body.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0]);
        event(code::MARIA_GTID, end, &body)
    };
    let given = [(0, 5), (1, 3), (0, 6), (1, 4), (0, 7)];
    let read = |set: &str| {
        let mut assembler =
            Assembler::new(TableFilter::new::<&str>(&[]), ColumnFilter::default(), Flavor::MariaDb, 1)
                .passing_over(set.parse().unwrap());
        let mut seen = Seen::default();
        assembler.event(&rotate(4), &mut seen).unwrap();
        let mut arrived = Vec::new();
        for (at, (domain, number)) in (0u64..).zip(given) {
            let start = 1000 * (at + 1);
            assembler.event(&gtid(domain, number, start), &mut seen).unwrap();
            assembler.event(&query(start + 500, sql), &mut seen).unwrap();
            arrived.push(assembler.has_arrived());
        }
        assembler.stop_awaiting();
        let ends: Vec<u64> = seen.txns.iter().map(|(_, end)| end / 1000).collect();
        (ends, arrived, assembler.has_arrived())
    };
    assert_eq!(read("0-1-5,1-1-3"), (vec![3, 4, 5], vec![false, false, true, true, true], true));
    // Domains are read side by side: one may be further than the other.
    assert_eq!(read("0-1-6"), (vec![2, 4, 5], vec![false, true, true, true, true], true));
    assert_eq!(read("0-1-7,1-1-9"), (vec![], vec![false; 5], true));
}

/// `HEARTBEAT_V2` as MySQL writes it: pieces with a kind and a length.
fn heartbeat_v2(file: &str, offset: u64) -> Vec<u8> {
    let mut body = vec![1, u8::try_from(file.len()).unwrap()];
    body.extend_from_slice(file.as_bytes());
    body.extend_from_slice(&[2, 9, 0xfe]);
    body.extend_from_slice(&offset.to_le_bytes());
    body.push(0);
    event(code::HEARTBEAT_V2, offset, &body)
}

/// A server that leaves out what a GTID set has says how far it is before it sends what comes next.
#[test]
fn what_a_server_passes_over_beyond_four_gibibytes_counts() {
    const GIB4: u64 = 1 << 32;
    let sql = b"CREATE TABLE t (a int)";
    let size = u64::try_from(query(0, sql).len()).unwrap();
    let far = 2 * GIB4 + 700;
    // MariaDB's way.
    let old = event(code::HEARTBEAT, 0, &[&far.to_le_bytes()[..], b"binlog.000007"].concat());
    for heartbeat in [heartbeat_v2("binlog.000007", far), old] {
        let (mut assembler, mut seen) = (assembler(), Seen::default());
        assembler.event(&rotate(4), &mut seen).unwrap();
        assert_eq!(assembler.event(&heartbeat, &mut seen).unwrap(), Progress::Heartbeat);
        assert_eq!((assembler.offset(), assembler.boundary().0.offset), (far, 4));
        // Of another file, or from before: that is not where reading is.
        for stale in [heartbeat_v2("binlog.000006", 9 * GIB4), heartbeat_v2("binlog.000007", 500)] {
            assembler.event(&stale, &mut seen).unwrap();
        }
        // MySQL 5.7 has 32 bits, of the same round.
        assembler.event(&event(code::HEARTBEAT, 800, b"binlog.000007"), &mut seen).unwrap();
        assert_eq!(assembler.offset(), 2 * GIB4 + 800);
        assembler.event(&query(2 * GIB4 + 900, sql), &mut seen).unwrap();
        let expected = Position::new(1, 7, 2 * GIB4 + 900 - size);
        assert_eq!(seen.txns, [(expected, 2 * GIB4 + 900)]);
    }
    for cut in 1..heartbeat_v2("binlog.000007", far).len() {
        let whole = heartbeat_v2("binlog.000007", far);
        drop(event::heartbeat_v2(&whole[19..19 + whole.len().saturating_sub(23).min(cut)]));
        drop(event::heartbeat(0, &whole[..cut]));
    }
}

/// Real definitions, as odd as they come.
const DEFINITIONS: &[&str] = &[
    "CREATE TABLE t (a INT DEFAULT 1 COMMENT 'it''s; /* not */ -- over', `b``c` ENUM('x','y\\'z') CHARACTER SET utf8mb4)",
    "ALTER TABLE `shop`.`orders` ADD COLUMN (x JSON GENERATED ALWAYS AS (JSON_EXTRACT(doc, '$.\"a b\"')) VIRTUAL), ALGORITHM=INSTANT",
    "CREATE /*!50017 DEFINER=`r`@`%`*/ /*!50003 TRIGGER tr BEFORE INSERT ON t FOR EACH ROW BEGIN SET @a = 1; END */",
    "DROP TABLE IF EXISTS `_orders_ghc`, `_orders_gho` /* generated by server */",
    "RENAME TABLE `orders` TO `_orders_del`, `_orders_gho` TO `orders`",
    "CREATE TABLE p (a INT) PARTITION BY RANGE (a) (PARTITION p0 VALUES LESS THAN (10), PARTITION p1 VALUES LESS THAN MAXVALUE)",
    "ALTER TABLE t DISCARD TABLESPACE",
    "CREATE OR REPLACE SQL SECURITY INVOKER VIEW v AS WITH RECURSIVE c AS (SELECT 1) SELECT * FROM c",
    "CREATE ROLE IF NOT EXISTS 'r'@'%'",
    "ALTER INSTANCE ROTATE INNODB MASTER KEY",
    "CREATE SEQUENCE s START WITH 1",
    "TRUNCATE TABLE `shop`.`orders`",
    "GRANT SELECT ON *.* TO 'x'@'%'",
    "FLUSH TABLES WITH READ LOCK",
];

/// A definition with pieces taken out, doubled, replaced; its first word stays, for a statement that is none any more is
/// another matter.
fn definitions() -> impl Strategy<Value = Vec<u8>> {
    let edit = (any::<prop::sample::Index>(), 0usize..12, prop::collection::vec(any::<u8>(), 0..6));
    (prop::sample::select(DEFINITIONS), prop::collection::vec(edit, 0..8)).prop_map(|(text, edits)| {
        let verb = text.find(' ').unwrap_or(text.len()) + 1;
        let mut bytes = text.as_bytes().to_vec();
        for (at, len, with) in edits {
            let at = verb + at.index(bytes.len() - verb + 1);
            let end = (at + len).min(bytes.len());
            drop(bytes.splice(at..end, with));
        }
        bytes
    })
}

proptest! {
    /// Whatever a definition looks like, reading goes on, and what comes behind it is seen; unless it became one that
    /// brings rows.
    #[test]
    fn no_definition_stops_the_stream(sql in definitions()) {
        prop_assume!(!matches!(classify(&sql, None), Statement::Filled(_)));
        let (mut assembler, mut seen) = (assembler(), Seen::default());
        assembler.event(&rotate(4), &mut seen).unwrap();
        assembler.event(&query(10_000, &sql), &mut seen).unwrap();
        prop_assert!(!assembler.in_transaction());
        assembler.event(&query(20_000, b"CREATE TABLE behind (a INT)"), &mut seen).unwrap();
        prop_assert_eq!(seen.statements.last().map(String::as_str), Some("CREATE TABLE behind (a INT)"));
    }
}
