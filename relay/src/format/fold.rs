//! What a stream of native messages folds to: the last row of each key, with the chain of images checked on the
//! way. The oracle of the tests that compare a topic, or `tail`'s output, with the server's own `SELECT`.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The last rows, by table (`database.table`) and key (as JSON text).
#[derive(Debug, Default)]
pub struct Fold {
    rows: BTreeMap<(String, String), Map<String, Value>>,
    messages: u64,
}

/// A message that cannot follow those before it.
#[derive(Debug, thiserror::Error)]
#[error("message {number}: {what}: {line}")]
pub struct Broken {
    /// Counted from 1.
    pub number: u64,
    /// What is wrong.
    pub what: &'static str,
    /// The message.
    pub line: String,
}

impl Fold {
    /// Takes the next message. An insert needs a free key, an update or delete the very row it says was there. TRUNCATE
    /// and DROP TABLE empty the table, other DDL changes nothing.
    pub fn push(&mut self, line: &str) -> Result<(), Broken> {
        self.messages += 1;
        let broken = |what| Broken { number: self.messages, what, line: line.to_owned() };
        let message: Value = serde_json::from_str(line).map_err(|_| broken("not JSON"))?;
        let text = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        let table = format!("{}.{}", text("database"), text("table"));
        let row = |name: &str| message.get(name).and_then(Value::as_object).cloned();
        let op = text("op");
        if matches!(op, "truncate" | "ddl") {
            let dropped = text("sql").get(..10).is_some_and(|head| head.eq_ignore_ascii_case("drop table"));
            if op == "truncate" || dropped {
                self.rows.retain(|(of, _), _| *of != table);
            }
            return Ok(());
        }
        let (before, after) = (row("before"), row("after"));
        let key_of = |image: &Map<String, Value>| {
            let names = message.get("key").and_then(Value::as_object)?.keys();
            let key: Map<String, Value> =
                names.map(|name| (name.clone(), image.get(name).cloned().unwrap_or_default())).collect();
            Some((table.clone(), Value::Object(key).to_string()))
        };
        if let Some(before) = &before {
            let key = key_of(before).ok_or_else(|| broken("no key"))?;
            match self.rows.remove(&key) {
                Some(known) if known == *before => {}
                Some(_) => return Err(broken("before is not the last after of its key")),
                None => return Err(broken("before of a key that is not there")),
            }
        }
        if let Some(after) = after {
            let key = key_of(&after).ok_or_else(|| broken("no key"))?;
            if self.rows.insert(key, after).is_some() && op != "read" {
                return Err(broken("after of a key that is there already"));
            }
        }
        Ok(())
    }

    /// The rows of a table, by key.
    pub fn table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
        self.rows.iter().filter(move |((of, _), _)| of == table).map(|((_, key), row)| (key.as_str(), row))
    }

    /// Messages taken.
    pub fn messages(&self) -> u64 {
        self.messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(op: &str, before: &str, after: &str) -> String {
        format!(
            r#"{{"op":"{op}","database":"d","table":"t","key":{{"id":1}},"before":{before},"after":{after}}}"#
        )
    }

    #[test]
    fn folds_to_the_last_row() {
        let mut fold = Fold::default();
        fold.push(&message("insert", "null", r#"{"id":1,"n":1}"#)).unwrap();
        fold.push(&message("update", r#"{"id":1,"n":1}"#, r#"{"id":1,"n":2}"#)).unwrap();
        let rows: Vec<_> = fold.table("d.t").map(|(key, row)| (key.to_owned(), row["n"].clone())).collect();
        assert_eq!(rows, [(r#"{"id":1}"#.to_owned(), Value::from(2))]);
        fold.push(&message("delete", r#"{"id":1,"n":2}"#, "null")).unwrap();
        assert_eq!(fold.table("d.t").count(), 0);
    }

    #[test]
    fn a_lost_or_doubled_message_is_noticed() {
        let insert = message("insert", "null", r#"{"id":1,"n":1}"#);
        let mut fold = Fold::default();
        fold.push(&insert).unwrap();
        assert_eq!(fold.push(&insert).unwrap_err().what, "after of a key that is there already");
        let mut fold = Fold::default();
        fold.push(&insert).unwrap();
        let late = message("update", r#"{"id":1,"n":2}"#, r#"{"id":1,"n":3}"#);
        assert_eq!(fold.push(&late).unwrap_err().what, "before is not the last after of its key");
        let none = message("delete", r#"{"id":2}"#, "null");
        assert_eq!(Fold::default().push(&none).unwrap_err().what, "before of a key that is not there");
    }

    #[test]
    fn truncate_empties_the_table() {
        let mut fold = Fold::default();
        fold.push(&message("insert", "null", r#"{"id":1}"#)).unwrap();
        fold.push(r#"{"op":"truncate","database":"d","table":"t","sql":"truncate t"}"#).unwrap();
        assert_eq!(fold.table("d.t").count(), 0);
    }
}
