//! When a broker or a controller may stop. Pure; the rules are those of Strimzi's roller (`KafkaAvailability`,
//! `KafkaQuorumCheck`), restated.

use super::view::{Quorum, View};

/// A voter that was caught up so recently counts as in sync: the default of `controller.quorum.fetch.timeout.ms`.
pub const CAUGHT_UP_MS: i64 = 2000;
/// Of many partitions that forbid a stop, so many are named.
const NAMED: usize = 3;

/// Why something may not stop now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotNow(pub String);

/// Whether a broker may stop: no partition may fall below its topic's `min.insync.replicas` by that. Where a topic
/// has no more replicas than it needs in sync, a stop makes it unavailable whatever one does; those are allowed, and
/// [`unavailable_without`] names them beforehand.
pub fn may_stop_broker(view: &View, broker: i32) -> Result<(), NotNow> {
    let forbidding: Vec<String> = view
        .on(broker)
        .filter_map(|partition| {
            let needed = *view.min_in_sync.get(&partition.topic)?;
            let in_sync = partition.in_sync.len();
            let forbids = partition.replicas.len() > needed
                && (in_sync < needed || in_sync == needed && partition.in_sync.contains(&broker));
            forbids.then(|| format!("{partition} has {in_sync} in sync and needs {needed}"))
        })
        .collect();
    if forbidding.is_empty() {
        return Ok(());
    }
    Err(NotNow(format!("broker {broker} must not stop now: {}", some_of(&forbidding))))
}

/// Partitions that nobody can write to while a broker is away, because their topic has too few replicas.
pub fn unavailable_without(view: &View, broker: i32) -> Vec<String> {
    view.on(broker)
        .filter(|partition| {
            let needed = view.min_in_sync.get(&partition.topic).copied().unwrap_or(1);
            partition.replicas.len() <= needed
        })
        .map(ToString::to_string)
        .collect()
}

/// Whether a broker may begin anew with an empty disk: nobody else may lack what it had.
pub fn may_lose_disk(view: &View, broker: i32) -> Result<(), NotNow> {
    if view.serves(broker) {
        return Err(NotNow(format!("broker {broker} takes part in the cluster")));
    }
    let only: Vec<String> = super::moves::only_on(view, &[broker].into());
    if only.is_empty() {
        return may_stop_controller(&view.quorum, broker);
    }
    let partitions = some_of(&only);
    Err(NotNow(format!("broker {broker} alone had what was last acknowledged of {partitions}")))
}

/// Whether a controller may stop: of the others enough must be caught up for a majority. A node without a vote may
/// always.
pub fn may_stop_controller(quorum: &Quorum, node: i32) -> Result<(), NotNow> {
    if quorum.voters.iter().all(|voter| voter.id != node) {
        return Ok(());
    }
    let Some(leader) = quorum.leader else {
        return Err(NotNow(format!("controller {node} must not stop now: no controller is active")));
    };
    let now = quorum.voters.iter().find(|voter| voter.id == leader).map_or(-1, |voter| voter.caught_up_ms);
    let caught_up = |id: i32, at: i64| id == leader || (at >= 0 && now - at < CAUGHT_UP_MS);
    let others = quorum
        .voters
        .iter()
        .filter(|voter| voter.id != node && caught_up(voter.id, voter.caught_up_ms))
        .count();
    let needed = match quorum.voters.len() {
        // There is nobody else: the quorum is gone until it is back.
        1 => 0,
        2 => 1,
        voters => voters / 2 + 1,
    };
    if others >= needed {
        return Ok(());
    }
    Err(NotNow(format!(
        "controller {node} must not stop now: of {} controllers {others} others are caught up, {needed} are needed",
        quorum.voters.len()
    )))
}

fn some_of(all: &[String]) -> String {
    let named = all.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.len().checked_sub(NAMED) {
        None | Some(0) => named,
        Some(more) => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::view::{Partition, Replica};

    type BrokerCase = (&'static [i32], &'static [i32], Option<usize>, i32, bool);
    type ControllerCase = (&'static [(i32, bool)], Option<i32>, i32, bool);

    fn view(replicas: &[i32], in_sync: &[i32], needed: Option<usize>) -> View {
        let partition = Partition {
            topic: "t".to_owned(),
            index: 0,
            leader: in_sync.first().copied(),
            replicas: replicas.to_vec(),
            in_sync: in_sync.iter().copied().collect(),
        };
        View {
            partitions: vec![partition],
            min_in_sync: needed.map(|needed| ("t".to_owned(), needed)).into_iter().collect(),
            ..View::default()
        }
    }

    #[test]
    fn a_broker_may_stop_only_where_enough_stay_in_sync() {
        // replicas, in sync, min.insync.replicas, broker, may stop
        let table: &[BrokerCase] = &[
            (&[1, 2, 3], &[1, 2, 3], Some(2), 1, true),
            (&[1, 2, 3], &[1, 2, 3], Some(2), 4, true),
            // Exactly enough: nobody who is in sync may go, the one that is not may.
            (&[1, 2, 3], &[1, 2], Some(2), 1, false),
            (&[1, 2, 3], &[1, 2], Some(2), 2, false),
            (&[1, 2, 3], &[1, 2], Some(2), 3, true),
            (&[1, 2, 3], &[1, 2], Some(2), 4, true),
            // Too few already: no replica may go, also one that is behind, it may be the first to catch up.
            (&[1, 2, 3], &[1], Some(2), 1, false),
            (&[1, 2, 3], &[1], Some(2), 3, false),
            (&[1, 2, 3], &[], Some(2), 3, false),
            (&[1, 2, 3], &[1], Some(2), 4, true),
            // One is enough.
            (&[1, 2, 3], &[1, 2], Some(1), 1, true),
            (&[1, 2, 3], &[1], Some(1), 1, false),
            (&[1, 2, 3], &[1], Some(1), 2, true),
            // As many replicas as are needed, or fewer: unavoidable.
            (&[1], &[1], Some(1), 1, true),
            (&[1, 2], &[1, 2], Some(2), 1, true),
            (&[1, 2], &[1], Some(2), 2, true),
            (&[1, 2], &[1, 2], Some(3), 1, true),
            (&[1, 2, 3], &[1, 2, 3], Some(3), 2, true),
            // A topic that was deleted between two questions.
            (&[1, 2, 3], &[1], None, 1, true),
        ];
        for (replicas, in_sync, needed, broker, may) in table {
            let verdict = may_stop_broker(&view(replicas, in_sync, *needed), *broker);
            assert_eq!(verdict.is_ok(), *may, "{replicas:?} {in_sync:?} {needed:?} {broker}: {verdict:?}");
        }
        let error = may_stop_broker(&view(&[1, 2, 3], &[1, 2], Some(2)), 1).unwrap_err().to_string();
        assert_eq!(error, "broker 1 must not stop now: t-0 has 2 in sync and needs 2");
    }

    #[test]
    fn a_disk_is_given_up_only_where_the_others_have_all_that_was_on_it() {
        let table: &[(&[i32], &[i32], bool)] = &[
            (&[1, 2, 3], &[2, 3], true),
            (&[1, 2, 3], &[1], false),
            (&[1], &[1], false),
            (&[2], &[2], true),
        ];
        for (replicas, in_sync, may) in table {
            let verdict = may_lose_disk(&view(replicas, in_sync, Some(1)), 1);
            assert_eq!(verdict.is_ok(), *may, "{replicas:?} {in_sync:?}: {verdict:?}");
        }
    }

    #[test]
    fn what_a_stop_makes_unavailable_is_known_beforehand() {
        assert_eq!(unavailable_without(&view(&[1], &[1], Some(1)), 1), ["t-0"]);
        assert_eq!(unavailable_without(&view(&[1, 2], &[1, 2], Some(2)), 2), ["t-0"]);
        assert!(unavailable_without(&view(&[1, 2, 3], &[1, 2, 3], Some(2)), 1).is_empty());
        assert!(unavailable_without(&view(&[1], &[1], Some(1)), 2).is_empty());
    }

    #[test]
    fn a_controller_may_stop_only_where_a_majority_is_caught_up() {
        // The leader's clock says 10 000; who is caught up was so a second ago, who is not half a minute ago.
        let quorum = |voters: &[(i32, bool)], leader: Option<i32>| Quorum {
            leader,
            voters: voters
                .iter()
                .map(|(id, good)| Replica {
                    id: *id,
                    caught_up_ms: match (Some(*id) == leader, good) {
                        (true, _) => 100_000,
                        (false, true) => 99_000,
                        (false, false) => 70_000,
                    },
                    ..Replica::default()
                })
                .collect(),
            observers: Vec::new(),
        };
        let table: &[ControllerCase] = &[
            (&[(1, true)], Some(1), 1, true),
            (&[(1, true), (2, true)], Some(1), 2, true),
            (&[(1, true), (2, true)], Some(1), 1, true),
            (&[(1, true), (2, false)], Some(1), 1, false),
            (&[(1, true), (2, false)], Some(1), 2, true),
            (&[(1, true), (2, true), (3, true)], Some(1), 1, true),
            (&[(1, true), (2, true), (3, true)], Some(1), 3, true),
            (&[(1, true), (2, true), (3, false)], Some(1), 3, true),
            (&[(1, true), (2, true), (3, false)], Some(1), 2, false),
            (&[(1, true), (2, true), (3, false)], Some(1), 1, false),
            (&[(1, true), (2, false), (3, false)], Some(1), 2, false),
            (&[(1, true), (2, true), (3, true)], None, 1, false),
            // Not a voter.
            (&[(1, true), (2, false), (3, false)], Some(1), 4, true),
            (&[(1, true), (2, true), (3, true), (4, true), (5, false)], Some(1), 2, true),
            (&[(1, true), (2, true), (3, true), (4, false), (5, false)], Some(1), 2, false),
            (&[(1, true), (2, true), (3, true), (4, false), (5, false)], Some(1), 5, true),
        ];
        for (voters, leader, node, may) in table {
            let verdict = may_stop_controller(&quorum(voters, *leader), *node);
            assert_eq!(verdict.is_ok(), *may, "{voters:?} leader {leader:?}, stop {node}: {verdict:?}");
        }
    }
}
