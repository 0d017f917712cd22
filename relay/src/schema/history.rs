//! What tables were when, for a binlog that does not say: declarations that were seen at known positions, and the
//! statements between that may have changed them.
//!
//! A declaration that was seen at one position holds at another one if all statements between the two are known and
//! none may have changed the table; a RENAME TABLE between is followed. Everything else is not known.

use super::Declared;
use crate::position::Position;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Statements kept; beyond it the older half of history is folded into what it led to.
const MAX_TOUCHES: usize = 8192;

/// Database and table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableName {
    /// Database.
    pub database: String,
    /// Table.
    pub table: String,
}

impl TableName {
    /// Puts the two together.
    pub fn new(database: impl Into<String>, table: impl Into<String>) -> Self {
        Self { database: database.into(), table: table.into() }
    }

    /// Whether both may mean the same table: servers may ignore case, and a statement's text may be in another
    /// character set than ours, so only its ASCII letters count.
    fn may_be(&self, other: &Self) -> bool {
        loosely(&self.database, &other.database) && loosely(&self.table, &other.table)
    }
}

impl std::fmt::Display for TableName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.database, self.table)
    }
}

fn loosely(a: &str, b: &str) -> bool {
    let ascii = |text: &str| -> Vec<u8> {
        text.bytes().filter(u8::is_ascii).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    a.eq_ignore_ascii_case(b) || (!(a.is_ascii() && b.is_ascii()) && ascii(a) == ascii(b))
}

/// What a statement may have done to tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Touch {
    /// From, to, one after the other.
    Renamed(Vec<(TableName, TableName)>),
    /// These may be something else now.
    Changed(Vec<TableName>),
    /// Every table of the database may be.
    Database(String),
    /// Every table may be: a statement that was not understood.
    Everything,
}

impl Touch {
    /// The table's name after the statement; none where the table may be something else.
    fn after(&self, name: &TableName) -> Option<TableName> {
        self.follow(name, false)
    }

    /// The table's name before the statement; none where the table may have been something else.
    fn before(&self, name: &TableName) -> Option<TableName> {
        self.follow(name, true)
    }

    fn follow(&self, name: &TableName, back: bool) -> Option<TableName> {
        match self {
            Self::Everything => None,
            Self::Database(database) => (!loosely(database, &name.database)).then(|| name.clone()),
            Self::Changed(names) => (!names.iter().any(|other| other.may_be(name))).then(|| name.clone()),
            Self::Renamed(pairs) => {
                let mut current = name.clone();
                let step = |current: &mut TableName, old: &TableName, new: &TableName| {
                    if *old == *current {
                        *current = new.clone();
                        return true;
                    }
                    // Under a name that is given away, or nearly the same, it would be another table.
                    !old.may_be(current) && !new.may_be(current)
                };
                let whole = if back {
                    pairs.iter().rev().all(|(from, to)| step(&mut current, to, from))
                } else {
                    pairs.iter().all(|(from, to)| step(&mut current, from, to))
                };
                whole.then_some(current)
            }
        }
    }

    /// Whether the table may be something else, or go by another name, after the statement.
    pub fn concerns(&self, name: &TableName) -> bool {
        self.after(name).as_ref() != Some(name)
    }

    /// The tables it names, as they are called after it; none where that is not known.
    pub fn names(&self) -> Option<Vec<TableName>> {
        match self {
            Self::Changed(names) => Some(names.clone()),
            Self::Renamed(pairs) => Some(pairs.iter().map(|(_, to)| to.clone()).collect()),
            Self::Database(_) | Self::Everything => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    table: TableName,
    at: Position,
    #[serde(serialize_with = "serialize_shared", deserialize_with = "deserialize_shared")]
    declared: Arc<Declared>,
}

fn serialize_shared<S: Serializer>(declared: &Arc<Declared>, to: S) -> Result<S::Ok, S::Error> {
    Declared::serialize(declared, to)
}

fn deserialize_shared<'de, D: Deserializer<'de>>(from: D) -> Result<Arc<Declared>, D::Error> {
    Declared::deserialize(from).map(Arc::new)
}

/// The history of a server's tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Whose: positions mean this server.
    server: String,
    /// All statements that start at or behind the first and before the second are known.
    covered: Option<(Position, Position)>,
    /// In order of position; two of one transaction in theirs.
    touches: Vec<(Position, Touch)>,
    /// In order of position.
    seen: Vec<Seen>,
}

impl History {
    /// Forgets everything unless it is this server's.
    pub fn for_server(&mut self, server: &str) {
        if self.server != server {
            *self = Self { server: server.to_owned(), ..Self::default() };
        }
    }

    /// Where all statements are known: from, and up to.
    pub fn covered(&self) -> Option<(Position, Position)> {
        self.covered
    }

    /// Whether nothing has been looked at yet.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    fn covers(&self, position: Position) -> bool {
        self.covered.is_some_and(|(from, to)| (from..=to).contains(&position))
    }

    /// Whose it is.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The binlog was read from one position to the other, and every statement between was told to [`History::touch`].
    /// False when that does not join what is known, and so is of no use.
    pub fn join(&mut self, from: Position, to: Position) -> bool {
        match &mut self.covered {
            Some((low, high)) if from <= *high && to >= *low && from.epoch == high.epoch => {
                *low = from.min(*low);
                *high = to.max(*high);
                true
            }
            _ => false,
        }
    }

    /// From here on, what was known before is of no use: the binlog was read from one position to the other, and does
    /// not join it.
    pub fn restart(&mut self, from: Position, to: Position) {
        self.touches.retain(|(at, _)| (from..=to).contains(at));
        self.seen.retain(|seen| seen.at >= from && seen.at.epoch == from.epoch);
        self.covered = Some((from, to));
    }

    /// A statement stands at this position: from there on its effect holds. False when it was known.
    pub fn touch(&mut self, at: Position, touch: Touch) -> bool {
        let end = self.touches.partition_point(|(other, _)| *other <= at);
        if self.touches.get(..end).is_some_and(|before| {
            before.iter().rev().take_while(|(other, _)| *other == at).any(|(_, other)| *other == touch)
        }) {
            return false;
        }
        self.touches.insert(end, (at, touch));
        if self.touches.len() > MAX_TOUCHES
            && let Some((middle, _)) = self.touches.get(MAX_TOUCHES / 2)
        {
            self.forget_before(*middle);
        }
        true
    }

    /// A table was declared so at this position, between transactions. False when something else was thought to hold
    /// there: a statement that changed the table is not in the binlog. From here on the new one holds.
    pub fn saw(&mut self, table: TableName, at: Position, declared: Declared) -> bool {
        // Statements that start before the position have had their effect.
        let known = self.resolve(&table, at, false);
        let agrees = known.as_ref().is_none_or(|known| **known == declared);
        if known.is_some() && agrees {
            return true;
        }
        if !agrees {
            let just_before = Position { offset: at.offset.saturating_sub(1), ..at };
            self.touch(just_before, Touch::Changed(vec![table.clone()]));
        }
        let end = self.seen.partition_point(|seen| seen.at <= at);
        self.seen.insert(end, Seen { table, at, declared: Arc::new(declared) });
        agrees
    }

    /// What the table was for rows of the transaction that starts at `position`; none where that is not known.
    pub fn at(&self, table: &TableName, position: Position) -> Option<Arc<Declared>> {
        self.resolve(table, position, true)
    }

    /// `inclusive`: the effect of a statement at `position` itself holds.
    fn resolve(&self, table: &TableName, position: Position, inclusive: bool) -> Option<Arc<Declared>> {
        if !self.covers(position) {
            return None;
        }
        // Statements before `split` have had their effect at `position`.
        let split = self.touches.partition_point(|(at, _)| *at < position || inclusive && *at == position);
        self.behind(table, position, split).or_else(|| self.ahead(table, position, split))
    }

    /// A declaration that was seen earlier and still held. One seen at P holds the effect of what starts before P.
    fn behind(&self, table: &TableName, position: Position, split: usize) -> Option<Arc<Declared>> {
        let mut name = table.clone();
        let mut until = position;
        for (at, touch) in self.touches.get(..split)?.iter().rev() {
            if let Some(found) = self.seen_between(&name, *at, until) {
                return Some(found);
            }
            name = touch.before(&name)?;
            until = until.min(*at);
        }
        let low = self.covered?.0;
        // Seen at the very beginning counts.
        let low = Position { offset: low.offset.saturating_sub(1), ..low };
        self.seen_between(&name, low, until)
    }

    /// A declaration that was seen later and held already.
    fn ahead(&self, table: &TableName, position: Position, split: usize) -> Option<Arc<Declared>> {
        let mut name = table.clone();
        let mut since = position;
        for (at, touch) in self.touches.get(split..)? {
            if let Some(found) = self.seen_between(&name, since, *at) {
                return Some(found);
            }
            name = touch.after(&name)?;
            since = *at;
        }
        self.seen_between(&name, since, self.covered?.1)
    }

    /// Behind the first, up to the second and it too.
    fn seen_between(&self, name: &TableName, after: Position, until: Position) -> Option<Arc<Declared>> {
        let start = self.seen.partition_point(|seen| seen.at <= after);
        let end = self.seen.partition_point(|seen| seen.at <= until);
        self.seen
            .get(start..end)?
            .iter()
            .rev()
            .find(|seen| seen.table == *name)
            .map(|seen| Arc::clone(&seen.declared))
    }

    /// What the table of the transaction at `position` is called by the end of what is known, as far as it is still the
    /// same.
    pub fn called_later(&self, table: &TableName, position: Position) -> TableName {
        let later = self.touches.iter().filter(|(at, _)| *at > position);
        let mut name = table.clone();
        for (_, touch) in later {
            match touch.after(&name) {
                Some(next) => name = next,
                None => break,
            }
        }
        name
    }

    /// The first statement behind `position` that may have changed the table.
    pub fn changed_after(&self, table: &TableName, position: Position) -> Option<Position> {
        let mut name = table.clone();
        for (at, touch) in self.touches.iter().filter(|(at, _)| *at > position) {
            match touch.after(&name) {
                Some(next) => name = next,
                None => return Some(*at),
            }
        }
        None
    }

    /// Folds what lies before into what was known at this position.
    pub fn forget_before(&mut self, position: Position) {
        let Some((low, high)) = self.covered else { return };
        if position <= low || position > high {
            return;
        }
        let earlier = self.touches.iter().take_while(|(at, _)| *at < position);
        let renamed = earlier.filter_map(|(_, touch)| touch.names()).flatten();
        let names: BTreeSet<TableName> =
            self.seen.iter().map(|seen| seen.table.clone()).chain(renamed).collect();
        let held: Vec<Seen> = names
            .into_iter()
            .filter_map(|table| {
                let declared = self.resolve(&table, position, false)?;
                Some(Seen { table, at: position, declared })
            })
            .collect();
        self.touches.retain(|(at, _)| *at >= position);
        self.seen.retain(|seen| seen.at > position);
        self.seen.splice(0..0, held);
        self.covered = Some((position, high));
    }
}

#[cfg(test)]
mod tests;
