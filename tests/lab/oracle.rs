//! What must be true of Kafka, judged without expected values: the last `after` of every key equals the database's own
//! `SELECT`, and every `before` equals the previous `after` of that key.

use aesop::lab::shop::{Server, TABLES};
use mysql_async::prelude::Queryable;
use relay::format::fold::Fold;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

/// Column name → value as text; how both sides are compared.
pub(crate) type Row = BTreeMap<String, Option<String>>;
/// Table → key as text → row.
pub(crate) type Tables = BTreeMap<String, BTreeMap<Vec<String>, Row>>;

/// The shop's tables as the database says, each value in the text form of the JSON.
pub(crate) async fn select(server: &Server) -> Tables {
    let queries = [
        (
            "customers",
            "SELECT id, name, email, CAST(vip AS UNSIGNED) AS vip, REPLACE(CAST(created AS CHAR), ' ', 'T') AS created
             FROM shop.customers",
        ),
        (
            "orders",
            "SELECT id, customer_id, status, amount, notes, CONCAT(REPLACE(CAST(updated AS CHAR), ' ', 'T'), 'Z') AS updated
             FROM shop.orders",
        ),
        ("order_lines", "SELECT order_id, line, sku, quantity, price FROM shop.order_lines"),
    ];
    let mut conn = server.connect().await.expect("the database answers");
    let mut tables = Tables::new();
    for (table, query) in queries {
        let rows: Vec<mysql_async::Row> = conn.query(query).await.expect(query);
        let key = key_columns(table);
        let rows = rows.into_iter().map(|row| {
            let names: Vec<String> = row.columns_ref().iter().map(|c| c.name_str().into_owned()).collect();
            let row: Row = names
                .into_iter()
                .zip(row.unwrap())
                .map(|(name, value)| (name, mysql_async::from_value::<Option<String>>(value)))
                .collect();
            (key_of(&row, key), row)
        });
        tables.insert(table.to_owned(), rows.collect());
    }
    conn.disconnect().await.expect("the database says good-bye");
    tables
}

fn key_columns(table: &str) -> &'static [&'static str] {
    TABLES.iter().find(|(name, _)| *name == table).unwrap_or_else(|| panic!("unknown table {table}")).1
}

fn key_of(row: &Row, columns: &[&str]) -> Vec<String> {
    columns.iter().map(|column| row[*column].clone().unwrap_or_default()).collect()
}

/// What a fold holds, as text.
pub(crate) fn tables(fold: &Fold) -> Tables {
    let rows = |table: &str| {
        let rows = fold.table(table).map(|(_, row)| text(row)).collect::<Vec<_>>();
        rows.into_iter()
    };
    TABLES
        .iter()
        .map(|(table, key)| {
            let rows = rows(&format!("shop.{table}")).map(|row| (key_of(&row, key), row));
            ((*table).to_owned(), rows.collect())
        })
        .collect()
}

fn text(object: &Map<String, Value>) -> Row {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    object.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Reads the topics of `source` with kcat until they fold to what the database says, or says after `patience` what
/// differs.
pub(crate) fn kafka_equals_select(
    bootstrap: &str,
    source: &str,
    expected: &Tables,
    patience: Duration,
) -> Fold {
    let deadline = Instant::now() + patience;
    loop {
        let mut fold = Fold::default();
        for (table, _) in TABLES {
            let records = kcat(bootstrap, &format!("{source}.shop.{table}"));
            for value in records.iter().filter_map(|record| record.value.as_deref()) {
                fold.push(value).unwrap_or_else(|broken| panic!("{source}: {broken}"));
            }
        }
        let folded = tables(&fold);
        if folded == *expected {
            return fold;
        }
        assert!(Instant::now() < deadline, "Kafka and SELECT differ:\n{}", difference(&folded, expected));
    }
}

/// A record as kcat prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// Key as text; none for tables without one.
    pub(crate) key: Option<String>,
    /// Value as text; none is a tombstone.
    pub(crate) value: Option<String>,
}

/// All records of a topic, partition by partition; none while the topic does not exist.
pub(crate) fn kcat(bootstrap: &str, topic: &str) -> Vec<Record> {
    // Lengths before contents: -1 tells null from empty. Neither holds a tab or a newline: both are JSON.
    let format = r"%K\t%k\t%S\t%s\n";
    let output = Command::new("kcat")
        .args(["-C", "-q", "-e", "-o", "beginning", "-b", bootstrap, "-t", topic, "-f", format])
        .output()
        .expect("kcat runs");
    let text = String::from_utf8(output.stdout).expect("kcat prints UTF-8");
    let field = |length: &str, text: &str| (length != "-1").then(|| text.to_owned());
    text.lines()
        .map(|line| match line.split('\t').collect::<Vec<_>>()[..] {
            [key_length, key, length, value] => {
                Record { key: field(key_length, key), value: field(length, value) }
            }
            _ => panic!("kcat printed {line:?}"),
        })
        .collect()
}

fn difference(kafka: &Tables, select: &Tables) -> String {
    let mut lines = Vec::new();
    for (table, rows) in select {
        let none = BTreeMap::new();
        let folded = kafka.get(table).unwrap_or(&none);
        let missing: Vec<_> = rows.keys().filter(|key| !folded.contains_key(*key)).collect();
        let extra: Vec<_> = folded.keys().filter(|key| !rows.contains_key(*key)).collect();
        let differing = rows.iter().filter(|(key, row)| folded.get(*key).is_some_and(|other| other != *row));
        lines.push(format!(
            "{table}: {} rows by SELECT, {} by Kafka; missing {missing:?}; too many {extra:?}",
            rows.len(),
            folded.len()
        ));
        lines.extend(
            differing.take(5).map(|(key, row)| format!("  {key:?}: SELECT {row:?}, Kafka {:?}", folded[key])),
        );
    }
    lines.join("\n")
}
