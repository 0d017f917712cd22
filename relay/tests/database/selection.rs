//! Streams of some tables and columns: what they bring is what a whole stream brings, cut down by the test itself.

use crate::lookback::{LIMIT, Relay};
use crate::server::Server;
use mysql_async::prelude::Queryable;
use relay::client::{Stream, StreamEvent, Subscription, subscribe_to};
use relay::config::Format;
use relay::format::{Formatter, RowContext};
use relay::wire::frame::StartFrom;
use relay::wire::{BlockItem, PartitionSet, Selection};
use serde_json::{Map, Value, json};

pub(crate) async fn open(relay: &Relay, partitions: PartitionSet, selection: Selection) -> Stream {
    let subscription = Subscription {
        address: relay.address.clone(),
        cluster: "c".into(),
        source: "s".into(),
        group: "g".into(),
        member: "m".into(),
        from: StartFrom::Earliest,
        partitions,
        credit_bytes: 1 << 20,
    };
    subscribe_to(subscription, selection).await.unwrap()
}

/// Everything up to a covered mark that lies behind this place.
pub(crate) async fn messages(mut stream: Stream, file: &str, end: u64) -> Vec<Value> {
    let mut messages = Vec::new();
    loop {
        let event =
            tokio::time::timeout(LIMIT, stream.next()).await.expect("something comes in time").unwrap();
        let block = match event {
            StreamEvent::Covered(mark) if mark.file_name == file && mark.position.offset >= end => {
                return messages;
            }
            StreamEvent::Covered(_) => continue,
            StreamEvent::Block(block) => block,
        };
        for item in block.items() {
            let BlockItem::Row { txn, row, change } = item else { continue };
            let context = RowContext { source: "s", txn, row, change, server_uuid: "", snapshot: false };
            let mut json = Vec::new();
            Formatter::new(Format::Aesop).value(&context, &mut json).unwrap();
            messages.push(serde_json::from_slice(&json).unwrap());
        }
    }
}

fn is_kept(table: &str, column: &str) -> bool {
    match table {
        "orders" => ["id", "id2", "a", "late_a"].contains(&column),
        _ => column != "password",
    }
}

/// What `absent` says of columns that are kept.
fn absent_of_kept(table: &str, absent: &Value) -> Map<String, Value> {
    let of_image = |columns: &Value| -> Vec<Value> {
        columns.as_array().unwrap().iter().filter(|c| is_kept(table, c.as_str().unwrap())).cloned().collect()
    };
    let images = absent.as_object().into_iter().flatten();
    images
        .map(|(image, columns)| (image.clone(), json!(of_image(columns))))
        .filter(|(_, columns)| columns != &json!([]))
        .collect()
}

/// A message as a stream of the selection below must bring it.
fn cut(mut message: Value) -> Option<Value> {
    if message["op"] == "ddl" {
        let sql = message["sql"].as_str().unwrap();
        return (sql.contains("orders") || sql.contains("users")).then_some(message);
    }
    let table = message["table"].as_str().unwrap_or_default().to_owned();
    if !matches!(table.as_str(), "orders" | "users") {
        return None;
    }
    for image in ["before", "after"] {
        if let Some(columns) = message.get_mut(image).and_then(Value::as_object_mut) {
            columns.retain(|column, _| is_kept(&table, column));
        }
    }
    let absent = absent_of_kept(&table, &message["absent"]);
    let object = message.as_object_mut().unwrap();
    object.remove("absent");
    if !absent.is_empty() {
        object.insert("absent".into(), absent.into());
    }
    let same = |(column, value): (&String, &Value)| message["before"].get(column) == Some(value);
    let unchanged = message["op"] == "update" && message["after"].as_object().unwrap().iter().all(same);
    (!unchanged).then_some(message)
}

const STATEMENTS: [&str; 24] = [
    "USE back",
    "CREATE TABLE orders (id INT, id2 VARCHAR(9), a INT, b TEXT, c DECIMAL(9,2), PRIMARY KEY (id2, id))",
    "CREATE TABLE users (id INT PRIMARY KEY, name TEXT, password TEXT, n INT)",
    "CREATE TABLE rest (id INT PRIMARY KEY, v TEXT)",
    "INSERT INTO orders VALUES (1, 'x', 1, 'b', 2.5), (2, 'x', NULL, NULL, NULL), (3, 'y', 3, REPEAT('b', 9000), 0)",
    "INSERT INTO users VALUES (1, 'ann', 'secret', 1), (2, 'bob', 'secret', 2)",
    "INSERT INTO rest VALUES (1, 'v')",
    "UPDATE orders SET b = 'other'",
    "UPDATE orders SET c = 1, a = 7 WHERE id = 1",
    "UPDATE users SET password = 'new'",
    "UPDATE users SET password = 'newer', name = NULL WHERE id = 2",
    "UPDATE orders SET id = 30 WHERE id = 3",
    "ALTER TABLE rest ADD COLUMN w INT",
    "ALTER TABLE orders ADD COLUMN late_a INT FIRST, ADD COLUMN late_b INT",
    "UPDATE orders SET late_b = 5",
    "UPDATE orders SET late_a = 5 WHERE id = 1",
    "RENAME TABLE rest TO rest2, users TO users2, users2 TO users",
    "SET SESSION binlog_row_image = 'MINIMAL'",
    "UPDATE orders SET b = 'again', c = 9",
    "UPDATE orders SET a = 8, b = 'and again'",
    "UPDATE users SET password = 'x' WHERE id = 1",
    "UPDATE orders SET id = 31 WHERE id = 30",
    "DELETE FROM users WHERE id = 1",
    "SET SESSION binlog_row_image = 'FULL'",
];

pub(crate) async fn streams_bring_what_is_selected(server: &Server) {
    server.run(&["DROP DATABASE IF EXISTS back", "CREATE DATABASE back"]).await;
    let relay = Relay::start(server).await;
    let mut conn = server.connect().await;
    for sql in STATEMENTS {
        conn.query_drop(sql).await.unwrap();
    }
    // One transaction over many blocks, of which some have nothing that is wanted, and some nothing else.
    conn.query_drop("BEGIN").await.unwrap();
    for (table, from) in [("rest2", 10), ("users", 10), ("rest2", 2000), ("orders", 10), ("users", 3000)] {
        for first in (from..from + 600).step_by(100) {
            let row = |id: i32| match table {
                "users" => format!("({id}, REPEAT('u', 900), REPEAT('p', 900), {id})"),
                "orders" => format!("({id}, {id}, 'k', {id}, REPEAT('b', 2000), 1, 2)"),
                _ => format!("({id}, REPEAT('r', 2000), 1)"),
            };
            let rows: Vec<String> = (first..first + 100).map(row).collect();
            conn.query_drop(format!("INSERT INTO {table} VALUES {}", rows.join(","))).await.unwrap();
        }
    }
    for sql in ["COMMIT", "TRUNCATE rest2", "TRUNCATE users", "INSERT INTO rest2 VALUES (1, 'the end', 1)"] {
        conn.query_drop(sql).await.unwrap();
    }
    conn.disconnect().await.unwrap();
    let (file, end) = server.end().await;
    let selection = Selection {
        tables: vec!["*.orders".into(), "back.users".into()],
        include_columns: vec!["back.orders.a".into(), "*.orders.late_a".into()],
        exclude_columns: vec!["back.*.password".into(), "*.*.id2".into()],
    };
    for partitions in
        [PartitionSet::all(4), PartitionSet::of(4, [0, 2]), PartitionSet::of(300, [0, 5, 7, 100])]
    {
        let whole = messages(open(&relay, partitions.clone(), Selection::default()).await, &file, end).await;
        let expected: Vec<Value> = whole.iter().cloned().filter_map(cut).collect();
        let found = messages(open(&relay, partitions, selection.clone()).await, &file, end).await;
        assert!(
            !expected.is_empty() && expected.len() < whole.len(),
            "{} of {}",
            expected.len(),
            whole.len()
        );
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found, expected);
        }
        assert_eq!(found.len(), expected.len());
    }
    let nothing = Selection { tables: vec!["back.no_such".into()], ..Selection::default() };
    assert_eq!(
        messages(open(&relay, PartitionSet::all(4), nothing).await, &file, end).await,
        [Value::Null; 0]
    );
    relay.end().await;
}
