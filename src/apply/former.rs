//! What hosts were in an earlier generation, from the snapshots that they keep.

use super::session::{Session, snapshots};
use crate::plan::{HostFacts, Observation, Observed};
use crate::service::HostState;
use std::collections::{BTreeMap, BTreeSet};

/// Why there is no going back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormerError {
    /// Nothing to go back to.
    #[error("no host keeps a generation before the last ({kept}); there is nothing to go back to")]
    NoneBefore {
        /// What is kept.
        kept: String,
    },
    /// Not that one.
    #[error("no host keeps generation {generation}; there are {kept}")]
    NotKept {
        /// What was asked for.
        generation: u64,
        /// What is kept.
        kept: String,
    },
    /// It is the last one.
    #[error("generation {0} is the last one; to repair it, run `aesop apply`")]
    Last(u64),
    /// A snapshot cannot be had.
    #[error("{0}")]
    Unreadable(String),
    /// A member of a quorum has no snapshot so old: it was not there, or it was changed too often since.
    #[error(
        "{host} runs {now} and keeps nothing of generation {generation} (it keeps {kept}): it was not there yet, or was changed too often since; members of a quorum go back together, and come and go by the inventory"
    )]
    Forgotten {
        /// The host.
        host: String,
        /// The generation.
        generation: u64,
        /// What it keeps.
        kept: String,
        /// Its quorum services.
        now: String,
    },
    /// Members of a quorum have come or gone since.
    #[error(
        "{host} had {then} in generation {generation} and has {now} now; members of a quorum come and go by the inventory, not by a rollback"
    )]
    Membership {
        /// The host.
        host: String,
        /// Its quorum services then.
        then: String,
        /// Its quorum services now.
        now: String,
        /// The generation.
        generation: u64,
    },
}

/// A generation.
#[derive(Clone, Debug)]
pub struct Former {
    /// Its number.
    pub generation: u64,
    /// What hosts looked like.
    pub desired: BTreeMap<String, HostState>,
    /// Hosts that know nothing of it; they stay as they are.
    pub unknown: Vec<String>,
}

/// Reads a generation back; none: the one before the last. Where a way back was broken off, hosts with a generation above
/// `since` have got there: theirs is what the wanted one was.
pub async fn former(
    session: &Session,
    observed: &Observed,
    selected: &BTreeSet<String>,
    generation: Option<u64>,
    since: Option<u64>,
    parallel: usize,
) -> Result<Former, FormerError> {
    let answers: BTreeMap<&String, &HostFacts> = observed
        .hosts
        .iter()
        .filter_map(|(host, observation)| match observation {
            Observation::Facts(facts) => Some((host, facts.as_ref())),
            Observation::Failed(_) => None,
        })
        .collect();
    let kept = answers.values().flat_map(|facts| facts.generations.keys().copied()).collect();
    let generation = match (generation, since) {
        (Some(generation), Some(_)) => generation,
        _ => choose(&kept, generation)?,
    };
    let (mut wanted, mut unknown) = (BTreeMap::new(), Vec::new());
    for (host, facts) in answers.iter().filter(|(host, _)| selected.contains(**host)) {
        let last = facts.generations.last_key_value();
        let there = last.filter(|(last, _)| since.is_some_and(|since| **last > since));
        match there.or_else(|| facts.generations.range(..=generation).next_back()) {
            Some((at, _)) => drop(wanted.insert((*host).clone(), *at)),
            None => unknown.push((*host).clone()),
        }
    }
    let mut desired = BTreeMap::new();
    for (host, state) in snapshots(session, &wanted, parallel).await {
        desired.insert(host, state.map_err(FormerError::Unreadable)?);
    }
    for (host, facts) in answers.iter().filter(|(host, _)| selected.contains(**host)) {
        let then = desired.get(*host).map(HostState::quorums).unwrap_or_default();
        let now = facts.manifest.quorums();
        if then != now {
            let (then, now) = (list(&then), list(&now));
            if !desired.contains_key(*host) {
                let kept = numbers(facts.generations.keys());
                return Err(FormerError::Forgotten { host: (*host).clone(), generation, kept, now });
            }
            return Err(FormerError::Membership { host: (*host).clone(), then, now, generation });
        }
    }
    Ok(Former { generation, desired, unknown })
}

fn choose(kept: &BTreeSet<u64>, generation: Option<u64>) -> Result<u64, FormerError> {
    let words = || numbers(kept.iter());
    let generation = match generation {
        Some(generation) if kept.contains(&generation) => generation,
        Some(generation) => return Err(FormerError::NotKept { generation, kept: words() }),
        None => *kept.iter().rev().nth(1).ok_or_else(|| FormerError::NoneBefore { kept: words() })?,
    };
    if kept.last() == Some(&generation) { Err(FormerError::Last(generation)) } else { Ok(generation) }
}

fn numbers<'a>(generations: impl ExactSizeIterator<Item = &'a u64>) -> String {
    if generations.len() == 0 {
        return "none".to_owned();
    }
    generations.map(u64::to_string).collect::<Vec<_>>().join(", ")
}

fn list(services: &BTreeSet<String>) -> String {
    if services.is_empty() {
        return "no quorum service".to_owned();
    }
    services.iter().cloned().collect::<Vec<_>>().join(" and ")
}
