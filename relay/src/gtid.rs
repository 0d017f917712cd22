//! Sets of MySQL's GTIDs: what of a source was read, and whether another server has it too.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A set as MySQL writes it, `uuid:1-5:7,uuid:tag:1-3`. MariaDB's `domain-server-number` is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// By `uuid`, or `uuid:tag`: inclusive intervals, ascending, neither touching nor overlapping.
    sets: BTreeMap<String, Vec<(u64, u64)>>,
}

/// A text that is no set of MySQL's GTIDs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no set of MySQL's GTIDs")]
pub struct GtidError(String);

impl FromStr for GtidSet {
    type Err = GtidError;

    fn from_str(text: &str) -> Result<Self, GtidError> {
        let mut set = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            set.part(part).ok_or_else(|| GtidError(part.to_owned()))?;
        }
        Ok(set)
    }
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (source, intervals)) in self.sets.iter().enumerate() {
            write!(f, "{}{source}", if i > 0 { "," } else { "" })?;
            for (first, last) in intervals {
                write!(f, ":{first}")?;
                if last > first {
                    write!(f, "-{last}")?;
                }
            }
        }
        Ok(())
    }
}

impl GtidSet {
    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Adds one GTID, `uuid:n` or `uuid:tag:n`; false when it is none.
    pub fn insert(&mut self, gtid: &str) -> bool {
        let Some((source, number)) = gtid.rsplit_once(':') else { return false };
        let Ok(number) = number.parse() else { return false };
        match self.sets.get_mut(source) {
            Some(intervals) => add(intervals, number, number),
            None if number > 0 => {
                self.sets.insert(source.to_owned(), vec![(number, number)]);
            }
            None => {}
        }
        number > 0
    }

    /// Whether a GTID is in it.
    pub fn contains(&self, gtid: &str) -> bool {
        let Some((source, number)) = gtid.rsplit_once(':') else { return false };
        let Ok(number) = number.parse::<u64>() else { return false };
        let intervals = self.sets.get(source).map_or(&[][..], Vec::as_slice);
        intervals.iter().any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// What of this set is not in `other`.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for (source, intervals) in &self.sets {
            let none = Vec::new();
            let taken = other.sets.get(source).unwrap_or(&none);
            let rest: Vec<_> = intervals.iter().flat_map(|interval| without(*interval, taken)).collect();
            if !rest.is_empty() {
                left.sets.insert(source.clone(), rest);
            }
        }
        left
    }

    /// UUIDs, tags (empty for none) and inclusive intervals.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (uuid::Uuid, &str, &[(u64, u64)])> {
        self.sets.iter().filter_map(|(source, intervals)| {
            let (uuid, tag) = source.split_once(':').unwrap_or((source, ""));
            Some((uuid::Uuid::parse_str(uuid).ok()?, tag, intervals.as_slice()))
        })
    }

    fn part(&mut self, part: &str) -> Option<()> {
        let mut fields = part.split(':').map(str::trim);
        let uuid = uuid::Uuid::parse_str(fields.next()?).ok()?.hyphenated().to_string();
        let (mut source, mut found) = (uuid.clone(), false);
        for field in fields {
            if field.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
                source = format!("{uuid}:{}", field.to_ascii_lowercase());
                continue;
            }
            let (first, last) = field.split_once('-').unwrap_or((field, field));
            let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
            if first == 0 || last < first || last == u64::MAX {
                return None;
            }
            add(self.sets.entry(source.clone()).or_default(), first, last);
            found = true;
        }
        found.then_some(())
    }
}

/// Adds an interval. The usual one follows the last.
fn add(intervals: &mut Vec<(u64, u64)>, first: u64, last: u64) {
    if let Some(end) = intervals.last_mut()
        && first >= end.0
        && first <= end.1.saturating_add(1)
    {
        end.1 = end.1.max(last);
        return;
    }
    intervals.push((first, last));
    intervals.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::with_capacity(intervals.len());
    for (first, last) in intervals.drain(..) {
        match merged.last_mut() {
            Some(end) if first <= end.1.saturating_add(1) => end.1 = end.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    *intervals = merged;
}

/// What is left of an interval.
fn without((first, last): (u64, u64), taken: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let (mut left, mut from) = (Vec::new(), first);
    for (low, high) in taken.iter().filter(|(low, high)| *high >= first && *low <= last) {
        if *low > from {
            left.push((from, low - 1));
        }
        from = from.max(high.saturating_add(1));
    }
    if from <= last {
        left.push((from, last));
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const A: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";

    #[test]
    fn what_the_server_writes_is_read_and_written_alike() {
        let text = format!("{A}:1-5:7,{A}:blue:2");
        assert_eq!(text.parse::<GtidSet>().unwrap().to_string(), text);
        let upper = format!(" {}:7:1-3:4-5 ,\n {A}:Blue:2", A.to_uppercase());
        assert_eq!(upper.parse::<GtidSet>().unwrap().to_string(), text);
        assert!("".parse::<GtidSet>().unwrap().is_empty());
        for wrong in ["0-1-42", A, &format!("{A}:0"), &format!("{A}:5-1"), &format!("{A}:blue")] {
            assert!(wrong.parse::<GtidSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_are_apart() {
        let mut set = GtidSet::default();
        assert!(set.insert(&format!("{A}:1")));
        assert!(set.insert(&format!("{A}:blue:1")));
        assert!(!set.insert("0-1-42"));
        assert_eq!(set.to_string(), format!("{A}:1,{A}:blue:1"));
    }

    proptest! {
        #[test]
        fn as_a_set_of_numbers(ours in proptest::collection::vec(1u64..40, 0..30), theirs in proptest::collection::vec(1u64..40, 0..30)) {
            let build = |numbers: &[u64]| {
                let mut set = GtidSet::default();
                for number in numbers {
                    set.insert(&format!("{A}:{number}"));
                }
                set
            };
            let (a, b) = (build(&ours), build(&theirs));
            let model = |numbers: &[u64]| numbers.iter().copied().collect::<BTreeSet<u64>>();
            let left: Vec<u64> = model(&ours).difference(&model(&theirs)).copied().collect();
            prop_assert_eq!(a.minus(&b), build(&left));
            prop_assert_eq!(a.to_string().parse::<GtidSet>().unwrap(), a);
        }
    }
}
