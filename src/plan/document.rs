//! A plan as JSON: what `plan --format json` prints and `plan -o` saves. Every field is in docs/plan.md. The same
//! input gives the same bytes.

use super::schedule::Turn;
use super::{HostFacts, Plan, Summary};
use crate::kafka::view::{Broker, Partition, View};
use crate::service::sha256;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

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
    /// What Kafka said of itself; none where no broker answered. Topics come and go by themselves: a change of these counts
    /// only where the plan is another one by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<BTreeMap<String, String>>,
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

/// Why a saved plan is not what would be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// This has changed since.
    Facts(Vec<String>),
    /// Nothing has: the file itself was changed.
    Edited,
}

impl Saved {
    /// Compares the plan as it was saved, and its whole `text`, with the one that is made now.
    pub fn difference(
        &self,
        text: &serde_json::Value,
        now: &Document<'_>,
    ) -> Result<Option<Difference>, serde_json::Error> {
        let changed = now.facts.changed_since(&self.facts);
        if !changed.is_empty() {
            return Ok(Some(Difference::Facts(changed)));
        }
        let plan = |mut value: serde_json::Value| {
            if let Some(fields) = value.as_object_mut() {
                // Notes tell of free space and the like, which no plan rests on.
                fields.remove("notes");
                fields.get_mut("facts").and_then(|facts| facts.as_object_mut()?.remove("kafka"));
            }
            value
        };
        if plan(serde_json::to_value(now)?) == plan(text.clone()) {
            return Ok(None);
        }
        let changed = now.facts.kafka_changed_since(&self.facts);
        Ok(Some(if changed.is_empty() { Difference::Edited } else { Difference::Facts(changed) }))
    }
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

/// The facts of Kafka that a plan looks at. Leaders, lags and who follows how closely are none.
pub fn kafka_facts(key: &str, view: &View) -> BTreeMap<String, String> {
    let mut texts: BTreeMap<String, String> = BTreeMap::new();
    let mut fact = |name: String, value: String| texts.entry(name).or_default().push_str(&value);
    for (partition, settled) in view.partitions.iter().zip(view.settled()) {
        let Partition { topic, index, replicas, in_sync, .. } = partition;
        // Whose copies count matters where nobody serves who has one.
        let lost = Some(in_sync).filter(|in_sync| !in_sync.iter().any(|id| view.serves(*id)));
        let minimum = (view.min_in_sync.get(topic), view.own_min_in_sync.contains(topic));
        let value = (index, replicas, &settled.replicas, lost, minimum);
        fact(format!("Kafka's topic {topic}"), format!("{value:?}"));
    }
    for (id, Broker { address, rack, fenced }) in &view.brokers {
        fact(format!("Kafka's broker {id}"), format!("{:?}", (address, rack, fenced)));
    }
    let voters: BTreeSet<_> = view.quorum.voters.iter().map(|voter| (voter.id, &voter.directory)).collect();
    let waiting: BTreeSet<_> = view.quorum.observers.iter().map(|observer| observer.id).collect();
    let waiting: Vec<_> = waiting.into_iter().filter_map(|id| view.quorum.without_vote(id)).collect();
    let waiting: Vec<_> = waiting.iter().map(|replica| (replica.id, &replica.directory)).collect();
    fact("Kafka's quorum".to_owned(), format!("{voters:?} {waiting:?}"));
    fact("Kafka's feature level".to_owned(), format!("{:?}", view.feature));
    let limited = !view.throttled.is_empty();
    fact("what is on its way in Kafka".to_owned(), format!("{} {limited}", !view.moving.is_empty()));
    texts.into_iter().map(|(name, text)| (name, digest(key, text.as_bytes()))).collect()
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
        shortened(changed)
    }

    /// The same of what Kafka said.
    fn kafka_changed_since(&self, then: &Self) -> Vec<String> {
        match (&then.kafka, &self.kafka) {
            (Some(then), Some(now)) => shortened(differences(then, now).collect()),
            (None, None) => Vec::new(),
            (None, Some(_)) => vec!["Kafka: it did not answer then".to_owned()],
            (Some(_), None) => vec!["Kafka: it does not answer now".to_owned()],
        }
    }
}

fn shortened(mut changed: Vec<String>) -> Vec<String> {
    let more = changed.len().saturating_sub(SHOWN);
    changed.truncate(SHOWN);
    changed.extend((more > 0).then(|| format!("and {more} more")));
    changed
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
            kafka: None,
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
