//! What a member does next, from what it sees.

use std::collections::{BTreeMap, BTreeSet};

/// What a member sees of its group.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Members alive.
    pub members: &'a BTreeSet<String>,
    /// Who leads.
    pub leader: Option<&'a str>,
    /// The assignment's owners, none before the first.
    pub assignment: Option<&'a BTreeMap<u32, String>>,
    /// Partitions that have an owner node now, whoever's.
    pub owned: &'a BTreeSet<u32>,
}

/// What to do about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intent {
    /// Nobody leads: try to.
    pub lead: bool,
    /// We lead and the assignment does not fit the members: write a new one, after the settle time.
    pub reassign: bool,
    /// Ours by assignment and free: take over.
    pub acquire: BTreeSet<u32>,
    /// Held and no longer ours by assignment: finish, checkpoint, release.
    pub release: BTreeSet<u32>,
    /// Ours by assignment but still with somebody else: wait for the owner node to go.
    pub awaited: BTreeSet<u32>,
    /// We believe to hold it and no owner node is there: the session that made it is gone. Stop at once.
    pub lost: BTreeSet<u32>,
}

/// Decides for member `me`, which holds `held`.
pub fn decide(me: &str, partitions: u32, seen: Seen<'_>, held: &BTreeSet<u32>) -> Intent {
    let mine: BTreeSet<u32> = seen.assignment.map_or_else(BTreeSet::new, |owners| {
        owners.iter().filter(|(_, owner)| *owner == me).map(|(p, _)| *p).collect()
    });
    let lost: BTreeSet<u32> = held.difference(seen.owned).copied().collect();
    let missing = mine.difference(held).copied();
    let (awaited, acquire) = missing.partition(|partition| seen.owned.contains(partition));
    Intent {
        lead: seen.leader.is_none(),
        reassign: seen.leader == Some(me) && !fits(partitions, seen.members, seen.assignment),
        acquire,
        release: held.difference(&mine).filter(|p| !lost.contains(p)).copied().collect(),
        awaited,
        lost,
    }
}

/// Whether an assignment is complete, balanced and names only members that are alive.
fn fits(partitions: u32, members: &BTreeSet<String>, assignment: Option<&BTreeMap<u32, String>>) -> bool {
    let Some(owners) = assignment else { return false };
    super::assign(partitions, members, owners) == *owners
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
        items.into_iter().collect()
    }

    #[test]
    fn takes_what_is_free_waits_for_what_is_not_and_gives_back_what_went() {
        let members = set(["a".to_owned(), "b".to_owned()]);
        let owners = [(0, "a"), (1, "a"), (2, "b"), (3, "b")].map(|(p, m)| (p, m.to_owned())).into();
        let owned = set([1, 3]);
        let seen = Seen { members: &members, leader: Some("b"), assignment: Some(&owners), owned: &owned };
        let intent = decide("a", 4, seen, &set([3]));
        assert_eq!(
            intent,
            Intent { acquire: set([0]), awaited: set([1]), release: set([3]), ..Intent::default() }
        );
    }

    #[test]
    fn a_held_partition_without_owner_node_is_lost_not_released() {
        let members = set(["a".to_owned()]);
        let owners = [(0, "a".to_owned())].into();
        let owned = BTreeSet::new();
        let seen = Seen { members: &members, leader: Some("a"), assignment: Some(&owners), owned: &owned };
        let intent = decide("a", 1, seen, &set([0]));
        assert_eq!(intent, Intent { lost: set([0]), ..Intent::default() });
    }

    #[test]
    fn only_the_leader_reassigns_and_only_when_it_must() {
        let members = set(["a".to_owned(), "b".to_owned()]);
        let old = [(0, "a".to_owned()), (1, "a".to_owned())].into();
        let owned = set([0, 1]);
        let seen = |leader, assignment| Seen { members: &members, leader, assignment, owned: &owned };
        assert!(decide("a", 2, seen(Some("a"), Some(&old)), &owned).reassign);
        assert!(!decide("a", 2, seen(Some("b"), Some(&old)), &owned).reassign);
        assert!(decide("a", 2, seen(None, None), &owned).lead);
        let new = [(0, "a".to_owned()), (1, "b".to_owned())].into();
        assert!(!decide("a", 2, seen(Some("a"), Some(&new)), &owned).reassign);
    }

    proptest! {
        /// Members that follow their intents, one at a time in any order, never hold a partition twice and end
        /// with everything held as assigned.
        #[test]
        fn following_intents_converges_without_double_ownership(
            partitions in 1u32..12,
            turns in proptest::collection::vec((0usize..3, any::<bool>()), 1..60),
        ) {
            let all = ["a", "b", "c"];
            let mut members: BTreeSet<String> = BTreeSet::new();
            let mut owners: BTreeMap<u32, String> = BTreeMap::new();
            let mut held: BTreeMap<&str, BTreeSet<u32>> = all.iter().map(|m| (*m, BTreeSet::new())).collect();
            let mut schedule = turns;
            schedule.extend((0..9).map(|i| (i % 3, false)));
            for (turn, (who, flips)) in schedule.into_iter().enumerate() {
                let me = all[who];
                if flips && members.contains(me) && members.len() > 1 {
                    members.remove(me);
                    held.get_mut(me).unwrap().clear();
                } else {
                    members.insert(me.to_owned());
                }
                let owned: BTreeSet<u32> = held.values().flatten().copied().collect();
                let leader = members.first().cloned();
                let seen = Seen { members: &members, leader: leader.as_deref(), assignment: Some(&owners), owned: &owned };
                let intent = decide(me, partitions, seen, &held[me]);
                if !members.contains(me) {
                    continue;
                }
                let reassign = intent.reassign;
                let mine = held.get_mut(me).unwrap();
                mine.retain(|p| !intent.release.contains(p));
                mine.extend(intent.acquire);
                if reassign || turn == 0 {
                    owners = crate::group::assign(partitions, &members, &owners);
                }
                let total: usize = held.values().map(BTreeSet::len).sum();
                let distinct: BTreeSet<u32> = held.values().flatten().copied().collect();
                prop_assert_eq!(total, distinct.len());
            }
            // Everybody acts a few more rounds without disturbance.
            for _ in 0..4 {
                for me in members.clone() {
                    let owned: BTreeSet<u32> = held.values().flatten().copied().collect();
                    let leader = members.first().cloned();
                    let seen = Seen { members: &members, leader: leader.as_deref(), assignment: Some(&owners), owned: &owned };
                    let intent = decide(&me, partitions, seen, &held[me.as_str()]);
                    let mine = held.get_mut(me.as_str()).unwrap();
                    mine.retain(|p| !intent.release.contains(p));
                    mine.extend(intent.acquire);
                    if intent.reassign {
                        owners = crate::group::assign(partitions, &members, &owners);
                    }
                }
            }
            for (partition, owner) in &owners {
                prop_assert!(held[owner.as_str()].contains(partition));
            }
        }
    }
}
