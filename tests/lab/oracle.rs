//! What must be true of Kafka, judged without expected values: the last `after` of every key equals the database's own
//! `SELECT`, and every `before` equals the previous `after` of that key.

use aesop::lab::shop::{Server, TABLES};
use mysql_async::prelude::Queryable;
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

/// Folds records into tables, and checks each against the row it changes.
#[derive(Debug, Default)]
pub(crate) struct Fold {
    /// What the topics say now.
    pub(crate) tables: Tables,
    /// Rows seen, repeats included.
    pub(crate) records: usize,
    /// Rows that had been seen before: at-least-once delivery repeats after a crash.
    pub(crate) repeats: usize,
    /// What was wrong.
    pub(crate) faults: Vec<String>,
    /// Table and key → (scn, row) of the last event applied.
    last: BTreeMap<(String, Vec<String>), (u64, u64)>,
}

impl Fold {
    /// Takes in one record of a topic `<source>.shop.<table>`.
    pub(crate) fn apply(&mut self, record: &Record) {
        let Some(bytes) = &record.value else { return };
        let event: Value = serde_json::from_str(bytes).unwrap_or_else(|error| panic!("{record:?}: {error}"));
        let op = event["op"].as_str().unwrap_or_default().to_owned();
        if op == "ddl" || op == "truncate" {
            return;
        }
        self.records += 1;
        let table = event["table"].as_str().expect("table").to_owned();
        let before = event["before"].as_object().map(text);
        let after = event["after"].as_object().map(text);
        let image = after.as_ref().or(before.as_ref()).expect("an image");
        let key = key_of(image, key_columns(&table));
        let at = (event["scn"].as_u64().expect("scn"), event["row"].as_u64().expect("row"));
        let last = self.last.entry((table.clone(), key.clone())).or_default();
        if at <= *last {
            self.repeats += 1;
            return;
        }
        *last = at;
        let rows = self.tables.entry(table.clone()).or_default();
        let known = rows.get(&key);
        if known != before.as_ref() {
            self.faults
                .push(format!("{op} of {table} {key:?} at {at:?}: before {before:?}, but it was {known:?}"));
        }
        match after {
            Some(after) => rows.insert(key, after),
            None => rows.remove(&key),
        };
    }
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
            for record in kcat(bootstrap, &format!("{source}.shop.{table}")) {
                fold.apply(&record);
            }
        }
        assert!(fold.faults.is_empty(), "{:#?}", fold.faults);
        if fold.tables == *expected {
            return fold;
        }
        assert!(
            Instant::now() < deadline,
            "Kafka and SELECT differ:\n{}",
            difference(&fold.tables, expected)
        );
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
