//! A plan as JSON: what `plan --format json` prints and `plan -o` saves. Every field is in docs/plan.md. The same
//! input gives the same bytes.

use super::schedule::Turn;
use super::{HostFacts, Plan, Summary};
use crate::service::sha256;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the format; fields may be added within one.
pub const FORMAT: u32 = 1;
/// Digests tell equal from unequal; nobody need be able to forge one.
const DIGEST_CHARS: usize = 24;
/// More changed facts than this are counted.
const SHOWN: usize = 8;

/// The whole document.
#[derive(Clone, Debug, Serialize)]
pub struct Document<'a> {
    /// [`FORMAT`].
    pub format: u32,
    /// The aesop that made it.
    pub aesop: &'a str,
    /// The selection of hosts it was made with; empty: all.
    pub on: &'a [String],
    /// How much it changes.
    pub summary: Summary,
    /// The plan.
    #[serde(flatten)]
    pub plan: &'a Plan,
    /// What starts, restarts and stops, in order.
    pub schedule: Vec<Turn>,
    /// What it rests on.
    pub facts: &'a Facts,
}

/// What a plan rests on, by name, each with a digest. Digests are keyed: nothing can be guessed from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The inventory, the lock file, templates, artifacts, secrets, and what each host should look like.
    pub inputs: BTreeMap<String, String>,
    /// What each host said.
    pub hosts: BTreeMap<String, BTreeMap<String, String>>,
}

/// A saved plan, as far as it is read back: what it would do is computed anew and compared.
#[derive(Clone, Debug, Deserialize)]
pub struct Saved {
    /// [`FORMAT`].
    pub format: u32,
    /// The aesop that made it.
    pub aesop: String,
    /// The cluster it is for.
    pub cluster: String,
    /// The selection of hosts.
    pub on: Vec<String>,
    /// What it rests on.
    pub facts: Facts,
}

/// A digest that only those who have `key` can compare with a guess.
pub fn digest(key: &str, value: &[u8]) -> String {
    let mut text = key.as_bytes().to_vec();
    text.push(0);
    text.extend_from_slice(value);
    sha256(&text).chars().take(DIGEST_CHARS).collect()
}

/// The facts of one host that a plan looks at. Time, free space and the like are none.
pub fn host_facts(key: &str, facts: &HostFacts) -> BTreeMap<String, String> {
    let mut named = BTreeMap::new();
    let mut fact = |name: String, value: String| drop(named.insert(name, digest(key, value.as_bytes())));
    fact("its generation".to_owned(), facts.generation.to_string());
    fact("what of aesop's is on it".to_owned(), facts.manifest.to_string());
    for (path, stat) in &facts.stats {
        let sum = facts.sha256.get(path).map_or("", String::as_str);
        fact(path.clone(), format!("{} {} {} {} {sum}", stat.kind, stat.mode, stat.owner, stat.group));
    }
    for (path, target) in &facts.links {
        fact(format!("link {path}"), target.clone());
    }
    for (unit, unit_fact) in &facts.units {
        fact(unit.clone(), format!("{} {} {}", unit_fact.active, unit_fact.file, unit_fact.needs_reload));
    }
    for (unit, record) in &facts.records {
        fact(format!("record of {unit}"), format!("{} {} {}", record.restart, record.reload, record.ready));
    }
    for (path, id) in &facts.ids {
        fact(format!("id in {path}"), id.clone());
    }
    if let Some(ensemble) = &facts.ensemble {
        fact("ZooKeeper's members".to_owned(), format!("{} {}", ensemble.version, ensemble.members));
    }
    for (package, version) in &facts.packages {
        fact(format!("package {package}"), version.clone());
    }
    for user in &facts.users {
        fact(format!("user {user}"), String::new());
    }
    for artifact in &facts.artifacts {
        fact(format!("artifact {artifact}"), String::new());
    }
    named
}

impl Facts {
    /// What is not as it was, in words; empty where all is.
    pub fn changed_since(&self, then: &Self) -> Vec<String> {
        let mut changed: Vec<String> = differences(&then.inputs, &self.inputs).collect();
        for (host, now) in &self.hosts {
            match then.hosts.get(host) {
                Some(then) => changed.extend(differences(then, now).map(|name| format!("{host}: {name}"))),
                None => changed.push(format!("{host}: it did not answer then")),
            }
        }
        let gone = then.hosts.keys().filter(|host| !self.hosts.contains_key(*host));
        changed.extend(gone.map(|host| format!("{host}: it does not answer now")));
        let more = changed.len().saturating_sub(SHOWN);
        changed.truncate(SHOWN);
        changed.extend((more > 0).then(|| format!("and {more} more")));
        changed
    }
}

fn differences<'a>(
    then: &'a BTreeMap<String, String>,
    now: &'a BTreeMap<String, String>,
) -> impl Iterator<Item = String> + 'a {
    let changed = now.iter().filter_map(|(name, digest)| match then.get(name) {
        None => Some(format!("{name} is new")),
        Some(old) => (old != digest).then(|| format!("{name} has changed")),
    });
    let gone = then.keys().filter(|name| !now.contains_key(*name)).map(|name| format!("{name} is gone"));
    changed.chain(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_fact_is_named() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<BTreeMap<_, _>>()
        };
        let facts = |inputs: &[(&str, &str)], host: &str, k1: &[(&str, &str)]| Facts {
            inputs: map(inputs),
            hosts: BTreeMap::from([(host.to_owned(), map(k1))]),
        };
        let then = facts(&[("the inventory", "a")], "k1", &[("/etc/a", "1"), ("/etc/b", "1")]);
        assert_eq!(then.changed_since(&then), Vec::<String>::new());
        let now = facts(&[("the inventory", "b")], "k1", &[("/etc/a", "2"), ("/etc/c", "1")]);
        assert_eq!(
            now.changed_since(&then),
            [
                "the inventory has changed",
                "k1: /etc/a has changed",
                "k1: /etc/c is new",
                "k1: /etc/b is gone"
            ]
        );
        let now = facts(&[("the inventory", "a")], "k2", &[]);
        assert_eq!(now.changed_since(&then), ["k2: it did not answer then", "k1: it does not answer now"]);
    }

    #[test]
    fn digests_are_keyed() {
        assert_ne!(digest("a", b"hunter2"), digest("b", b"hunter2"));
    }
}
