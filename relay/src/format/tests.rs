use super::*;
use crate::event::{Op, Statement, TxnStart};
use crate::position::Position;
use crate::schema::{Charset, Column, ColumnKind, TableSchema};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use std::sync::Arc;

const ALL: [Format; 4] = [Format::Aesop, Format::Debezium, Format::Maxwell, Format::AesopV1];

fn schema() -> Arc<TableSchema> {
    let kinds = [
        ("id", ColumnKind::Int { bytes: 4, unsigned: false }),
        ("amount", ColumnKind::Decimal { precision: 4, scale: 2 }),
        ("created", ColumnKind::DateTime { fraction: 3 }),
        ("exact", ColumnKind::DateTime { fraction: 6 }),
        ("day", ColumnKind::Date),
        ("span", ColumnKind::Time { fraction: 0 }),
        ("stamp", ColumnKind::Timestamp { fraction: 0 }),
        ("flag", ColumnKind::Bit { bits: 1 }),
        ("bits", ColumnKind::Bit { bits: 16 }),
        ("tags", ColumnKind::Set { bytes: 1, members: vec!["a".into(), "b".into()] }),
        ("body", ColumnKind::Json { length_bytes: 4 }),
        ("data", ColumnKind::Blob { length_bytes: 1, charset: Charset::Binary }),
        ("place", ColumnKind::Geometry { length_bytes: 4 }),
        ("code", ColumnKind::Varchar { width: 10, charset: Charset::Utf8 }),
    ];
    let column = |(name, kind): (&str, ColumnKind)| Column {
        name: name.into(),
        nullable: name == "exact",
        kind,
        visible: true,
    };
    let columns = kinds.into_iter().map(column).collect();
    Arc::new(TableSchema::new("shop".into(), "orders".into(), columns, vec![0, 13]))
}

/// All columns present, `exact` NULL unless given.
fn image(created: u64, exact: Option<u64>) -> Vec<u8> {
    let mut bytes = vec![0xff, 0x3f, if exact.is_none() { 0b1000 } else { 0 }, 0];
    bytes.extend_from_slice(&7u32.to_le_bytes());
    bytes.extend_from_slice(&[0x8c, 50]);
    bytes.extend_from_slice(&(created | 1 << 39).to_be_bytes()[3..]);
    bytes.extend_from_slice(&6300u16.to_be_bytes());
    if let Some(exact) = exact {
        bytes.extend_from_slice(&(exact | 1 << 39).to_be_bytes()[3..]);
        bytes.extend_from_slice(&[0, 0, 5]);
    }
    bytes.extend_from_slice(&((2026u32 * 16 + 11) * 32 + 22).to_le_bytes()[..3]);
    bytes.extend_from_slice(&[0x7f, 0xf0, 0]);
    bytes.extend_from_slice(&1_795_359_773u32.to_be_bytes());
    bytes.extend_from_slice(&[1, 1, 2, 3]);
    bytes.extend_from_slice(&[2, 0, 0, 0, 4, 1]);
    bytes.extend_from_slice(&[2, 0xff, 0]);
    bytes.extend_from_slice(&25u32.to_le_bytes());
    bytes.extend_from_slice(&4326u32.to_le_bytes());
    bytes.push(1);
    bytes.extend_from_slice(&1u32.to_le_bytes());
    bytes.extend_from_slice(&3f64.to_le_bytes());
    bytes.extend_from_slice(&2.5f64.to_le_bytes());
    bytes.extend_from_slice(b"\x03a\"b");
    bytes
}

fn moment(year: u64, month: u64, day: u64) -> u64 {
    ((((year * 13 + month) * 32 + day) * 32 + 15) * 64 + 2) * 64 + 53
}

fn txn(rows: u64) -> TxnHeader {
    TxnHeader {
        start: TxnStart {
            position: Position::new(1, 3, 400),
            file_name: "binlog.000003".into(),
            gtid: Some("0-1-2".into()),
            server_id: 97,
            commit_time_us: 1_795_359_773_630_160,
        },
        end_offset: 900,
        rows,
    }
}

/// The value, a line, and the key.
fn written(format: Format, op: Op, before: &[u8], after: &[u8]) -> Result<String, DecodeError> {
    let (schema, txn) = (schema(), txn(2));
    let change = RowChange { op, schema: &schema, key_hash_before: 0, key_hash: 0, before, after };
    let context =
        RowContext { source: "shop", txn: &txn, row: 1, change, server_uuid: "u", snapshot: op == Op::Read };
    let (mut value, mut key) = (Vec::new(), Vec::new());
    Formatter::new(format).value(&context, &mut value)?;
    let keyed = Formatter::new(format).key(&context, &mut key)?;
    assert_eq!(keyed, !key.is_empty());
    let value = String::from_utf8(value).unwrap();
    drop(serde_json::from_str::<serde_json::Value>(&value).unwrap());
    Ok(format!("{value}\n{}\n", String::from_utf8(key).unwrap()))
}

fn check(format: Format, op: Op, before: &[u8], after: &[u8], expected: &Expect) {
    expected.assert_eq(&written(format, op, before, after).unwrap());
}

#[test]
fn an_update_in_each_shape() {
    let (before, after) =
        (image(moment(2026, 11, 22), None), image(moment(2026, 11, 22), Some(moment(1969, 12, 31))));
    check(
        Format::Debezium,
        Op::Update,
        &before,
        &after,
        &expect![[r#"
        {"before":{"id":7,"amount":"12.50","created":1795359773630,"exact":null,"day":20779,"span":-3600000000,"stamp":"2026-11-22T15:02:53Z","flag":true,"bits":"AgE=","tags":"a,b","body":"true","data":"/wA=","place":{"wkb":"AQEAAAAAAAAAAAAIQAAAAAAAAARA","srid":4326},"code":"a\"b"},"after":{"id":7,"amount":"12.50","created":1795359773630,"exact":-32226999995,"day":20779,"span":-3600000000,"stamp":"2026-11-22T15:02:53Z","flag":true,"bits":"AgE=","tags":"a,b","body":"true","data":"/wA=","place":{"wkb":"AQEAAAAAAAAAAAAIQAAAAAAAAARA","srid":4326},"code":"a\"b"},"source":{"version":"aesop-0.1.0","connector":"mysql","name":"shop","ts_ms":1795359773630,"snapshot":"false","db":"shop","sequence":null,"ts_us":1795359773630160,"ts_ns":1795359773630160000,"table":"orders","server_id":97,"gtid":"0-1-2","file":"binlog.000003","pos":400,"row":1,"thread":null,"query":null},"transaction":null,"op":"u","ts_ms":1795359773630,"ts_us":1795359773630160,"ts_ns":1795359773630160000}
        {"id":7,"code":"a\"b"}
    "#]],
    );
    check(
        Format::Maxwell,
        Op::Update,
        &before,
        &after,
        &expect![[r#"
        {"database":"shop","table":"orders","type":"update","ts":1795359773,"xid":12884902288,"commit":true,"position":"binlog.000003:400","gtid":"0-1-2","data":{"id":7,"amount":12.50,"created":"2026-11-22 15:02:53.630","exact":"1969-12-31 15:02:53.000005","day":"2026-11-22","span":"-01:00:00","stamp":"2026-11-22 15:02:53","flag":1,"bits":258,"tags":["a","b"],"body":true,"data":"/wA=","place":"POINT (3 2.5)","code":"a\"b"},"old":{"exact":null}}
        {"database":"shop","table":"orders","pk.id":7,"pk.code":"a\"b"}
    "#]],
    );
    check(
        Format::AesopV1,
        Op::Update,
        &before,
        &after,
        &expect![[r#"
        {"KEY":"7_a\"b","ENTITY":"orders","NAMESPACE":"shop","OPCODE":"UPSERT","FIELD_MAP":{"new_id":7,"new_amount":"12.50","new_created":"2026-11-22T15:02:53.630","new_exact":"1969-12-31T15:02:53.000005","new_day":"2026-11-22","new_span":"-01:00:00","new_stamp":"2026-11-22T15:02:53Z","new_flag":1,"new_bits":258,"new_tags":["a","b"],"new_body":true,"new_data":"/wA=","new_place":{"type":"Point","coordinates":[3.0,2.5],"srid":4326},"new_code":"a\"b","old_id":7,"old_amount":"12.50","old_created":"2026-11-22T15:02:53.630","old_exact":null,"old_day":"2026-11-22","old_span":"-01:00:00","old_stamp":"2026-11-22T15:02:53Z","old_flag":1,"old_bits":258,"old_tags":["a","b"],"old_body":true,"old_data":"/wA=","old_place":{"type":"Point","coordinates":[3.0,2.5],"srid":4326},"old_code":"a\"b"}}
        7_a"b
    "#]],
    );
}

#[test]
fn what_an_image_lacks_is_named_in_each_shape() {
    // The key alone (columns 0 and 13), of a row that had 4000 bytes; and the key with one column more.
    let key = |nulls: &[u8], present: [u8; 2], more: &[u8]| {
        [&present[..], nulls, &7u32.to_le_bytes(), more, b"\x03a\"b"].concat()
    };
    let left_out = [key(&[0], [1, 0x20], &[]), 4000u64.to_le_bytes().to_vec()].concat();
    let partial = key(&[0], [1, 0x21], &[1, 2]);
    for format in ALL {
        let insert = written(format, Op::Insert, &[], &left_out).unwrap();
        assert!(insert.contains(r#":{"after":["amount","created""#), "{insert}");
        let (absent, oversize) = match format {
            Format::AesopV1 => ("\"ABSENT\":", "\"OVERSIZE_BYTES\":4000}"),
            Format::Aesop | Format::Debezium | Format::Maxwell => ("\"absent\":", "\"oversize_bytes\":4000"),
        };
        assert!(insert.contains(absent) && insert.contains(oversize), "{insert}");
        let update = written(format, Op::Update, &image(moment(2026, 11, 22), None), &partial).unwrap();
        assert!(update.contains(r#":{"after":["amount","created""#) && !update.contains("4000"), "{update}");
        let whole = written(format, Op::Delete, &image(moment(2026, 11, 22), None), &[]).unwrap();
        assert!(!whole.contains(absent), "{whole}");
    }
}

#[test]
fn deletes_and_snapshots() {
    let row = image(moment(2026, 11, 22), None);
    check(
        Format::Debezium,
        Op::Delete,
        &row,
        &[],
        &expect![[r#"
        {"before":{"id":7,"amount":"12.50","created":1795359773630,"exact":null,"day":20779,"span":-3600000000,"stamp":"2026-11-22T15:02:53Z","flag":true,"bits":"AgE=","tags":"a,b","body":"true","data":"/wA=","place":{"wkb":"AQEAAAAAAAAAAAAIQAAAAAAAAARA","srid":4326},"code":"a\"b"},"after":null,"source":{"version":"aesop-0.1.0","connector":"mysql","name":"shop","ts_ms":1795359773630,"snapshot":"false","db":"shop","sequence":null,"ts_us":1795359773630160,"ts_ns":1795359773630160000,"table":"orders","server_id":97,"gtid":"0-1-2","file":"binlog.000003","pos":400,"row":1,"thread":null,"query":null},"transaction":null,"op":"d","ts_ms":1795359773630,"ts_us":1795359773630160,"ts_ns":1795359773630160000}
        {"id":7,"code":"a\"b"}
    "#]],
    );
    check(
        Format::Maxwell,
        Op::Delete,
        &row,
        &[],
        &expect![[r#"
        {"database":"shop","table":"orders","type":"delete","ts":1795359773,"xid":12884902288,"commit":true,"position":"binlog.000003:400","gtid":"0-1-2","data":{"id":7,"amount":12.50,"created":"2026-11-22 15:02:53.630","exact":null,"day":"2026-11-22","span":"-01:00:00","stamp":"2026-11-22 15:02:53","flag":1,"bits":258,"tags":["a","b"],"body":true,"data":"/wA=","place":"POINT (3 2.5)","code":"a\"b"}}
        {"database":"shop","table":"orders","pk.id":7,"pk.code":"a\"b"}
    "#]],
    );
    check(
        Format::AesopV1,
        Op::Delete,
        &row,
        &[],
        &expect![[r#"
        {"KEY":"7_a\"b","ENTITY":"orders","NAMESPACE":"shop","OPCODE":"DELETE","FIELD_MAP":{"old_id":7,"old_amount":"12.50","old_created":"2026-11-22T15:02:53.630","old_exact":null,"old_day":"2026-11-22","old_span":"-01:00:00","old_stamp":"2026-11-22T15:02:53Z","old_flag":1,"old_bits":258,"old_tags":["a","b"],"old_body":true,"old_data":"/wA=","old_place":{"type":"Point","coordinates":[3.0,2.5],"srid":4326},"old_code":"a\"b"}}
        7_a"b
    "#]],
    );
    check(
        Format::Maxwell,
        Op::Read,
        &[],
        &row,
        &expect![[r#"
            {"database":"shop","table":"orders","type":"bootstrap-insert","ts":1795359773,"position":"binlog.000003:400","gtid":"0-1-2","data":{"id":7,"amount":12.50,"created":"2026-11-22 15:02:53.630","exact":null,"day":"2026-11-22","span":"-01:00:00","stamp":"2026-11-22 15:02:53","flag":1,"bits":258,"tags":["a","b"],"body":true,"data":"/wA=","place":"POINT (3 2.5)","code":"a\"b"}}
            {"database":"shop","table":"orders","pk.id":7,"pk.code":"a\"b"}
        "#]],
    );
}

#[test]
fn a_day_that_is_none() {
    let row = image(moment(0, 0, 0), Some(moment(2026, 2, 30)));
    let debezium: serde_json::Value = serde_json::from_str(
        written(Format::Debezium, Op::Insert, &[], &row).unwrap().lines().next().unwrap(),
    )
    .unwrap();
    assert_eq!(debezium["after"]["created"], 0);
    assert!(debezium["after"]["exact"].is_null());
    let maxwell = written(Format::Maxwell, Op::Insert, &[], &row).unwrap();
    assert!(
        maxwell.contains(r#""created":"0000-00-00 15:02:53.630","exact":"2026-02-30 15:02:53.000005""#),
        "{maxwell}"
    );
}

#[test]
fn statements() {
    let statement = |sql: &str| {
        let statement = Statement { database: "shop".into(), table: Some("orders".into()), sql: sql.into() };
        serde_json::to_vec(&statement).unwrap()
    };
    let ddl = statement("ALTER TABLE orders ADD note TEXT");
    check(
        Format::Debezium,
        Op::Ddl,
        &[],
        &ddl,
        &expect![[r#"
        {"source":{"version":"aesop-0.1.0","connector":"mysql","name":"shop","ts_ms":1795359773630,"snapshot":"false","db":"shop","sequence":null,"ts_us":1795359773630160,"ts_ns":1795359773630160000,"table":"orders","server_id":97,"gtid":"0-1-2","file":"binlog.000003","pos":400,"row":1,"thread":null,"query":null},"ts_ms":1795359773630,"databaseName":"shop","schemaName":null,"ddl":"ALTER TABLE orders ADD note TEXT","tableChanges":[]}

    "#]],
    );
    check(
        Format::Maxwell,
        Op::Ddl,
        &[],
        &ddl,
        &expect![[r#"
        {"database":"shop","table":"orders","type":"table-alter","ts":1795359773630,"sql":"ALTER TABLE orders ADD note TEXT","position":"binlog.000003:400","gtid":"0-1-2"}

    "#]],
    );
    check(
        Format::AesopV1,
        Op::Ddl,
        &[],
        &ddl,
        &expect![[r#"
        {"KEY":null,"ENTITY":"orders","NAMESPACE":"shop","OPCODE":"DDL","FIELD_MAP":{},"SQL":"ALTER TABLE orders ADD note TEXT"}

    "#]],
    );
    check(
        Format::Debezium,
        Op::Truncate,
        &[],
        &statement("TRUNCATE orders"),
        &expect![[r#"
        {"before":null,"after":null,"source":{"version":"aesop-0.1.0","connector":"mysql","name":"shop","ts_ms":1795359773630,"snapshot":"false","db":"shop","sequence":null,"ts_us":1795359773630160,"ts_ns":1795359773630160000,"table":"orders","server_id":97,"gtid":"0-1-2","file":"binlog.000003","pos":400,"row":1,"thread":null,"query":null},"transaction":null,"op":"t","ts_ms":1795359773630,"ts_us":1795359773630160,"ts_ns":1795359773630160000}

    "#]],
    );
    for (sql, word) in [
        ("create table t (id int)", "table-create"),
        ("CREATE DATABASE d", "database-create"),
        ("drop schema d", "database-drop"),
        ("DROP TABLE t", "table-drop"),
        ("RENAME TABLE a TO b", "table-alter"),
        ("CREATE UNIQUE INDEX i ON t (c)", "table-alter"),
    ] {
        let message = written(Format::Maxwell, Op::Ddl, &[], &statement(sql)).unwrap();
        assert!(message.contains(&format!(r#""type":"{word}""#)), "{message}");
    }
}

#[test]
fn negative_spans_and_early_days() {
    let row = image(moment(1969, 12, 31), None);
    let text = written(Format::Debezium, Op::Insert, &[], &row).unwrap();
    // 1969-12-31T15:02:53.630 is 8 h 57 min 6.37 s before 1970; the span is an hour below zero.
    assert!(text.contains(r#""created":-32226370,"exact":null,"day":20779,"span":-3600000000,"#), "{text}");
}

proptest! {
    #[test]
    fn arbitrary_images_give_json_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..96)) {
        let mut image = image(moment(2026, 11, 22), None);
        let at = image.len().saturating_sub(bytes.len());
        image.truncate(at);
        image.extend_from_slice(&bytes);
        for format in ALL {
            // What is written is checked to be JSON.
            drop(written(format, Op::Update, &image, &image));
        }
    }
}
