//! Sets of GTIDs: what of a source was read, and whether another server has it too.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// A set as MySQL writes it, `uuid:1-5:7,uuid:tag:1-3`, or as MariaDB does: `domain-server-number`, the last one of each
/// domain, which stands for all before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GtidSet {
    /// By `uuid`, or `uuid:tag`: inclusive intervals, ascending, neither touching nor overlapping.
    sets: BTreeMap<String, Vec<(u64, u64)>>,
    /// MariaDB's, by domain.
    domains: BTreeMap<u32, MariaGtid>,
}

/// MariaDB's GTID without its domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MariaGtid {
    server: u32,
    number: u64,
}

/// A text that is no set of GTIDs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no set of GTIDs")]
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
        let mut comma = "";
        for (domain, MariaGtid { server, number }) in &self.domains {
            write!(f, "{comma}{domain}-{server}-{number}")?;
            comma = ",";
        }
        for (source, intervals) in &self.sets {
            write!(f, "{comma}{source}")?;
            comma = ",";
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
        self.sets.is_empty() && self.domains.is_empty()
    }

    /// Adds one GTID, `uuid:n`, `uuid:tag:n` or `domain-server-n`; false when it is none.
    pub fn insert(&mut self, gtid: &str) -> bool {
        let Some((source, number)) = gtid.rsplit_once(':') else {
            let Some((domain, gtid)) = maria(gtid) else { return false };
            self.reach(domain, gtid);
            return true;
        };
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
        if let Some((domain, MariaGtid { number, .. })) = maria(gtid) {
            return self.domains.get(&domain).is_some_and(|last| last.number >= number);
        }
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
        for (domain, ours) in &self.domains {
            // The same number of another server is another transaction.
            let has = |theirs: &MariaGtid| theirs.number > ours.number || theirs == ours;
            if !other.domains.get(domain).is_some_and(has) {
                left.domains.insert(*domain, *ours);
            }
        }
        left
    }

    /// What of this a server has lost that has executed `theirs` and calls itself `own`. What a server knows nothing of
    /// was told by somebody else, unless it knows nothing at all. Of `MariaDB` the numbers of one server only grow, those
    /// of two may come out of order.
    #[must_use]
    pub fn lost_by(&self, theirs: &Self, own: &str) -> Self {
        let uuid = |source: &str| source.split(':').next().unwrap_or_default().to_owned();
        let mut lost = self.minus(theirs);
        if !theirs.is_empty() {
            let knows = |of: &str| of == own || theirs.sets.keys().any(|source| uuid(source) == of);
            lost.sets.retain(|source, _| knows(&uuid(source)));
            let same = |domain: &u32, ours: &MariaGtid| {
                theirs.domains.get(domain).is_some_and(|theirs| theirs.server == ours.server)
            };
            lost.domains.retain(|domain, ours| same(domain, ours));
        }
        lost
    }

    /// Whether all of this can have been executed where `there` and nothing more was, by what `MariaDB`'s numbers tell: it has
    /// every domain at least as far, and the same number is the same server's.
    pub fn reaches(&self, there: &Self) -> bool {
        there.domains.iter().all(|(domain, theirs)| {
            self.domains.get(domain).is_some_and(|ours| ours.number > theirs.number || ours == theirs)
        })
    }

    /// Adds all of `other`.
    pub fn add(&mut self, other: &Self) {
        for (source, intervals) in &other.sets {
            let ours = self.sets.entry(source.clone()).or_default();
            for (first, last) in intervals {
                add(ours, *first, *last);
            }
        }
        for (domain, gtid) in &other.domains {
            self.reach(*domain, *gtid);
        }
    }

    /// Adds what a server has executed of its own before this GTID, and the GTID: a MySQL server numbers its own without
    /// tags in the order of their commits. False, and nothing added, where that cannot be told.
    pub fn add_up_to(&mut self, gtid: &str, server_uuid: &str) -> bool {
        if maria(gtid).is_some() {
            return self.insert(gtid);
        }
        match gtid.rsplit_once(':') {
            Some((source, number)) if source == server_uuid => match number.parse() {
                Ok(number) if number > 0 => {
                    add(self.sets.entry(source.to_owned()).or_default(), 1, number);
                    true
                }
                _ => false,
            },
            _ => false,
        }
    }

    fn reach(&mut self, domain: u32, gtid: MariaGtid) {
        let last = self.domains.entry(domain).or_insert(gtid);
        if gtid.number > last.number {
            *last = gtid;
        }
    }

    /// `MariaDB`'s domains, each with its last number.
    pub(crate) fn domains(&self) -> impl Iterator<Item = (u32, u64)> {
        self.domains.iter().map(|(domain, gtid)| (*domain, gtid.number))
    }

    /// UUIDs, tags (empty for none) and inclusive intervals.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (uuid::Uuid, &str, &[(u64, u64)])> {
        self.sets.iter().filter_map(|(source, intervals)| {
            let (uuid, tag) = source.split_once(':').unwrap_or((source, ""));
            Some((uuid::Uuid::parse_str(uuid).ok()?, tag, intervals.as_slice()))
        })
    }

    fn part(&mut self, part: &str) -> Option<()> {
        if let Some((domain, gtid)) = maria(part) {
            self.reach(domain, gtid);
            return Some(());
        }
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

/// The domain and the rest of `domain-server-number`.
fn maria(gtid: &str) -> Option<(u32, MariaGtid)> {
    let mut fields = gtid.split('-');
    let (domain, server, number) = (fields.next()?, fields.next()?, fields.next()?);
    let gtid = MariaGtid { server: server.parse().ok()?, number: number.parse().ok()? };
    fields.next().is_none().then_some(())?;
    Some((domain.parse().ok()?, gtid))
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
        for wrong in ["0-1", "0-1-2-3", A, &format!("{A}:0"), &format!("{A}:5-1"), &format!("{A}:blue")] {
            assert!(wrong.parse::<GtidSet>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_are_apart() {
        let mut set = GtidSet::default();
        assert!(set.insert(&format!("{A}:1")));
        assert!(set.insert(&format!("{A}:blue:1")));
        assert!(!set.insert("blue"));
        assert_eq!(set.to_string(), format!("{A}:1,{A}:blue:1"));
    }

    #[test]
    fn mariadbs_are_the_last_of_each_domain() {
        let set = |text: &str| text.parse::<GtidSet>().unwrap();
        let mut ours = set("0-1-42,7-3-1");
        assert!(ours.insert("0-2-43") && ours.insert("0-1-5"));
        assert_eq!(ours.to_string(), "0-2-43,7-3-1");
        assert!(ours.contains("0-1-42") && !ours.contains("0-1-44") && !ours.contains("1-1-1"));
        assert_eq!(ours.minus(&set("0-1-50,7-3-1")), GtidSet::default());
        assert_eq!(ours.minus(&set("0-2-42")).to_string(), "0-2-43,7-3-1");
        // Another server wrote another transaction under that number.
        assert_eq!(ours.minus(&set("0-1-43,7-3-1")).to_string(), "0-2-43");
        assert!(ours.reaches(&set("0-2-43")) && ours.reaches(&set("0-9-42,7-3-1")));
        assert!(
            !ours.reaches(&set("0-1-43")) && !ours.reaches(&set("0-2-44")) && !ours.reaches(&set("9-1-1"))
        );
        ours.add(&set("0-9-99,8-1-1"));
        assert_eq!(ours.to_string(), "0-9-99,7-3-1,8-1-1");
    }

    #[test]
    fn what_a_server_has_lost_is_told_from_what_it_never_had() {
        let set = |text: &str| text.parse::<GtidSet>().unwrap();
        let own = A.replacen('3', "4", 1);
        let lost = |read: &str, theirs: &str| {
            set(&read.replace("own", &own)).lost_by(&set(&theirs.replace("own", &own)), &own).to_string()
        };
        assert_eq!(lost("own:1-9", "own:1-9"), "");
        assert_eq!(lost("own:1-9", "own:1-7"), format!("{own}:8-9"));
        // Reset, and perhaps written to since.
        assert_eq!(lost("own:1-9", ""), format!("{own}:1-9"));
        assert_eq!(lost(&format!("own:1-2,{A}:1-9"), &format!("{A}:1-9")), format!("{own}:1-2"));
        // A start that others have told names what this server never had.
        assert_eq!(lost(&format!("own:1-9,{A}:1-5"), "own:1-9"), "");
        assert_eq!(lost(&format!("own:1-9,{A}:1-5"), &format!("own:1-9,{A}:blue:1")), format!("{A}:1-5"));
        // MariaDB.
        assert_eq!(lost("0-1-9", "0-1-7"), "0-1-9");
        assert_eq!(lost("0-1-9", ""), "0-1-9");
        assert_eq!(lost("0-1-9,5-1-3", "0-1-12"), "");
        // Another server has written later under a lower number.
        assert_eq!(lost("0-1-9", "0-2-7"), "");
    }

    #[test]
    fn a_servers_own_are_numbered_as_they_were_committed() {
        let mut set: GtidSet = format!("{A}:1-5").parse().unwrap();
        assert!(set.add_up_to(&format!("{A}:9"), A));
        assert!(!set.add_up_to(&format!("{A}:blue:9"), A));
        assert!(!set.add_up_to("8df73393-e6c3-11f1-8c4b-96b1c9bb65cd:9", A));
        assert_eq!(set.to_string(), format!("{A}:1-9"));
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
