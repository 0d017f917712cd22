//! More brokers than Kafka's defaults were made for: what is on one alone is copied before that one restarts with the new
//! defaults; what is made meanwhile follows at the end, and `min.insync.replicas` last of all.

use super::brokers::{Cluster, Membership};
use crate::kafka::moves::{Move, arrived, gains};
use crate::kafka::raise::Raise;
use crate::kafka::view::View;

/// Of many topics, so many are named.
const NAMED: usize = 5;

impl Cluster<'_> {
    /// What is to be raised.
    pub(super) fn raise(&self) -> Option<&Raise> {
        self.members.values().find_map(|member| member.raise.as_ref())
    }

    /// Plans the copies before any restart, where there is something to copy.
    pub(super) fn copy_first(&self, changes: &[Move], result: &mut Membership) -> bool {
        let Some(raise) = self.raise() else { return false };
        let partitions = self.view.settled();
        result.notes.extend(stays(raise, self.view));
        if !result.demoted.is_empty() || raise.follow(&partitions).is_empty() {
            return false;
        }
        let gets = gains(changes).into_iter().map(|(id, count)| format!("{} gets {count}", self.named(id)));
        let words = format!("{}: {}", follows(raise, self.view), gets.collect::<Vec<_>>().join(", "));
        result.copies = self.move_stage(&[], &words);
        result.copied = Some(arrived(self.view, changes));
        true
    }

    /// What is left when the copies are there.
    pub(super) fn afterwards(&self) -> String {
        self.with_raise("partitions made meanwhile follow".to_owned(), None)
    }

    /// The words of moves with those of what is raised.
    pub(super) fn with_raise(&self, words: String, view: Option<&View>) -> String {
        let Some(raise) = self.raise() else { return words };
        let mut all = vec![words];
        all.extend(view.map(|view| follows(raise, view)).filter(|words| !words.is_empty()));
        if raise.raises_in_sync() {
            all.push(format!(
                "then min.insync.replicas is {} instead of {}",
                raise.in_sync, raise.former_in_sync
            ));
        }
        all.join(", ")
    }

    /// Why defaults stay where there are brokers enough for higher ones.
    pub(super) fn not_raised(&self) -> Option<String> {
        let raise = self.raise()?;
        Some(format!(
            "kafka: topics have {} by default, from when there were fewer brokers; with `kafka.rebalance: auto` an apply makes that {}",
            replicas(raise.former),
            raise.replicas
        ))
    }
}

/// Topics that get more replicas.
fn follows(raise: &Raise, view: &View) -> String {
    let partitions = view.settled();
    let follow = raise.follow(&partitions);
    let mut counts: Vec<usize> = follow.values().copied().collect();
    counts.sort_unstable();
    counts.dedup();
    let words = counts.into_iter().map(|count| {
        let topics: Vec<&str> =
            follow.iter().filter(|(_, n)| **n == count).map(|(topic, _)| *topic).collect();
        let verb = if topics.len() == 1 { "gets" } else { "get" };
        format!("{} {verb} {} instead of {}", some_of(&topics), replicas(count), raise.former)
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Topics that get none, though they have fewer than is the default now.
fn stays(raise: &Raise, view: &View) -> Option<String> {
    let partitions = view.settled();
    let topics: Vec<&str> = raise.stay(&partitions).into_iter().collect();
    (!topics.is_empty()).then(|| {
        format!(
            "kafka: {} keep fewer replicas than {}: they had fewer than the former default, or the inventory says how many (`replication_factor` of a group, `kafka.config`)",
            some_of(&topics),
            raise.replicas
        )
    })
}

fn replicas(count: usize) -> String {
    if count == 1 { "1 replica".to_owned() } else { format!("{count} replicas") }
}

fn some_of(topics: &[&str]) -> String {
    let more = topics.len().saturating_sub(NAMED);
    let named = topics.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    if more == 0 { named } else { format!("{named} and {more} more") }
}
