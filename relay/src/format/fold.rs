//! What a stream of native messages folds to: the last row of each key, with the chain of images checked on the
//! way. The oracle of the tests that compare a topic, or `tail`'s output, with the server's own `SELECT`.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The last rows, by table (`database.table`) and key (as JSON text).
#[derive(Debug, Default)]
pub struct Fold {
    rows: BTreeMap<Key, Map<String, Value>>,
    /// SCN and row of the last message that was taken for a key.
    last: BTreeMap<Key, (u64, u64)>,
    messages: u64,
    repeats: u64,
}

type Key = (String, String);

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
    /// Takes the next message. An insert needs a free key, an update or delete the very row it says was there.
    /// TRUNCATE and DROP TABLE empty the table, other DDL changes nothing. A message that stands before the last one of
    /// its key, or is that one, is a repeat: counted, and passed over.
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
        let key_of = |image: Map<String, Value>| {
            let names = message.get("key").and_then(Value::as_object).ok_or_else(|| broken("no key"))?.keys();
            let key: Map<String, Value> =
                names.map(|name| (name.clone(), image.get(name).cloned().unwrap_or_default())).collect();
            Ok(((table.clone(), Value::Object(key).to_string()), image))
        };
        let before = row("before").map(key_of).transpose()?;
        let after = row("after").map(key_of).transpose()?;
        let number = |name: &str| message.get(name).and_then(Value::as_u64);
        if let (Some(scn), Some(row)) = (number("scn"), number("row")) {
            let keys = || before.iter().chain(&after).map(|(key, _)| key);
            if keys().any(|key| self.last.get(key).is_some_and(|last| (scn, row) <= *last)) {
                self.repeats += 1;
                return Ok(());
            }
            self.last.extend(keys().map(|key| (key.clone(), (scn, row))));
        }
        if let Some((key, before)) = &before {
            match self.rows.remove(key) {
                Some(known) if known == *before => {}
                Some(_) => return Err(broken("before is not the last after of its key")),
                None => return Err(broken("before of a key that is not there")),
            }
        }
        if let Some((key, after)) = after
            && self.rows.insert(key, after).is_some()
            && op != "read"
        {
            return Err(broken("after of a key that is there already"));
        }
        Ok(())
    }

    /// The rows of a table, by key.
    pub fn table<'a>(&'a self, table: &'a str) -> impl Iterator<Item = (&'a str, &'a Map<String, Value>)> {
        self.rows.iter().filter(move |((of, _), _)| of == table).map(|((_, key), row)| (key.as_str(), row))
    }

    /// Messages taken, repeats and DDL included.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Messages that had been taken before.
    pub fn repeats(&self) -> u64 {
        self.repeats
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
    fn what_is_delivered_again_after_a_crash_is_a_repeat() {
        let at = |message: String, scn: u64| message.replacen('{', &format!(r#"{{"scn":{scn},"row":0,"#), 1);
        let insert = at(message("insert", "null", r#"{"id":1,"n":1}"#), 4);
        let update = at(message("update", r#"{"id":1,"n":1}"#, r#"{"id":1,"n":2}"#), 5);
        let mut fold = Fold::default();
        for line in [&insert, &update, &insert, &update] {
            fold.push(line).unwrap();
        }
        assert_eq!((fold.messages(), fold.repeats()), (4, 2));
        assert_eq!(fold.table("d.t").next().unwrap().1["n"], 2);
    }

    #[test]
    fn truncate_empties_the_table() {
        let mut fold = Fold::default();
        fold.push(&message("insert", "null", r#"{"id":1}"#)).unwrap();
        fold.push(r#"{"op":"truncate","database":"d","table":"t","sql":"truncate t"}"#).unwrap();
        assert_eq!(fold.table("d.t").count(), 0);
    }
}
