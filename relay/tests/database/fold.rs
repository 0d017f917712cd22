//! What a stream of native messages folds to, through renames and changes of columns, with the chain of images checked on
//! the way: every `before` is the last `after` of its key.

use serde_json::{Map, Value};
use std::collections::BTreeMap;

pub(crate) type Row = Map<String, Value>;

/// A table's rows as the messages say.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    /// By key as JSON text, where the table has one.
    keyed: BTreeMap<String, Row>,
    /// The rows of a table without a key.
    bag: Vec<Row>,
    /// Rows may lack columns: some were added since, or images are partial.
    pub(crate) partial: bool,
}

impl Table {
    /// Whether both have the same rows, whatever came before.
    pub(crate) fn equals(&self, other: &Self) -> bool {
        let bag = |table: &Self| {
            let mut rows: Vec<String> =
                table.bag.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
            rows.sort();
            rows
        };
        self.keyed == other.keyed && bag(self) == bag(other)
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = &Row> {
        self.keyed.values().chain(&self.bag)
    }

    fn each(&mut self, change: impl Fn(&mut Row)) {
        self.keyed.values_mut().chain(&mut self.bag).for_each(change);
    }
}

/// A statement that changes what a table is, as the test made it.
#[derive(Clone, Debug)]
pub(crate) enum Ddl {
    /// Rows keep what they have and get a column that no message tells of.
    Added,
    Dropped(String),
    Renamed(String, String),
    /// From, to, in order.
    Moved(Vec<(String, String)>),
    Gone,
    Emptied,
    /// Nothing that concerns rows.
    Nothing,
}

#[derive(Debug, Default)]
pub(crate) struct Fold {
    pub(crate) tables: BTreeMap<String, Table>,
    pub(crate) rows: usize,
    pub(crate) ddls: usize,
    /// Images may lack columns.
    pub(crate) partial: bool,
}

impl Fold {
    /// Takes the next message; `ddl` is what the test knows of the statement with this text.
    pub(crate) fn push(&mut self, line: &str, ddl: impl Fn(&str) -> Ddl) -> Result<(), String> {
        let message: Value = serde_json::from_str(line).map_err(|e| format!("{e}: {line}"))?;
        let table = message["table"].as_str().unwrap_or_default().to_owned();
        match message["op"].as_str().unwrap_or_default() {
            "ddl" | "truncate" => {
                self.ddls += 1;
                self.define(table, ddl(message["sql"].as_str().unwrap_or_default()));
                Ok(())
            }
            op => {
                self.rows += 1;
                self.row(op, table, &message).map_err(|what| format!("{what}: {line}"))
            }
        }
    }

    fn define(&mut self, name: String, ddl: Ddl) {
        match ddl {
            Ddl::Nothing => {}
            Ddl::Moved(moves) => {
                for (from, to) in moves {
                    let table = self.tables.remove(&from).unwrap_or_default();
                    self.tables.insert(to, table);
                }
            }
            Ddl::Gone => drop(self.tables.remove(&name)),
            Ddl::Emptied => {
                let table = self.tables.entry(name).or_default();
                table.keyed.clear();
                table.bag.clear();
            }
            Ddl::Added => self.tables.entry(name).or_default().partial = true,
            Ddl::Dropped(column) => self.tables.entry(name).or_default().each(|row| {
                row.remove(&column);
            }),
            Ddl::Renamed(from, to) => self.tables.entry(name).or_default().each(|row| {
                if let Some(value) = row.remove(&from) {
                    row.insert(to.clone(), value);
                }
            }),
        }
    }

    fn row(&mut self, op: &str, name: String, message: &Value) -> Result<(), String> {
        let table = self.tables.entry(name).or_default();
        let loose = table.partial || self.partial;
        let (before, after) = (message["before"].as_object(), message["after"].as_object());
        match (op, before, after) {
            ("insert" | "read", None, Some(_)) | ("update", Some(_), Some(_)) | ("delete", Some(_), None) => {
            }
            _ => return Err("images do not fit the op".to_owned()),
        }
        let mut row = match before {
            None => Row::new(),
            Some(before) => {
                let fits = |known: &Row| agree(known, before, loose);
                let mut known = if message["key"].is_object() {
                    let known = table.keyed.remove(&key_of(message, before));
                    let known = known.ok_or("before of a row that is not there")?;
                    if !fits(&known) {
                        return Err(format!("before differs from the last after {known:?}"));
                    }
                    known
                } else {
                    let at = table.bag.iter().position(fits).ok_or("before of a row that is not there")?;
                    table.bag.swap_remove(at)
                };
                known.extend(before.clone());
                known
            }
        };
        let Some(after) = after else { return Ok(()) };
        row.extend(after.clone());
        if !message["key"].is_object() {
            table.bag.push(row);
        } else if table.keyed.insert(key_of(message, &row), row).is_some() {
            return Err("after of a row that is there already".to_owned());
        }
        Ok(())
    }
}

/// Each column in both is the same, and none is in one only unless that may be.
fn agree(known: &Row, before: &Row, loose: bool) -> bool {
    (loose || known.len() == before.len())
        && before.iter().all(|(name, value)| known.get(name).map_or(loose, |known| known == value))
}

/// The key's columns of an image, as text.
fn key_of(message: &Value, image: &Row) -> String {
    let names = message["key"].as_object().into_iter().flat_map(Map::keys);
    let values: Vec<&Value> = names.map(|name| image.get(name).unwrap_or(&message["key"][name])).collect();
    serde_json::to_string(&values).unwrap()
}
