//! Partitions to members: complete, balanced to one, and with as few moves as that allows.

use std::collections::{BTreeMap, BTreeSet};

/// Gives every partition a member. `previous` is kept wherever the balance allows it; without members nothing
/// is assigned.
pub fn assign(
    partitions: u32,
    members: &BTreeSet<String>,
    previous: &BTreeMap<u32, String>,
) -> BTreeMap<u32, String> {
    let mut kept: BTreeMap<&str, Vec<u32>> =
        members.iter().map(|member| (member.as_str(), Vec::new())).collect();
    let mut free = Vec::new();
    for partition in 0..partitions {
        let owner = previous.get(&partition).and_then(|member| kept.get_mut(member.as_str()));
        match owner {
            Some(list) => list.push(partition),
            None => free.push(partition),
        }
    }
    // Who has most keeps most: those get the quota that is one larger. Names break ties, so that every
    // leader computes the same.
    let mut order: Vec<(&str, Vec<u32>)> = kept.into_iter().collect();
    order.sort_by_key(|(name, list)| (std::cmp::Reverse(list.len()), *name));
    let quotas = quotas(partitions, order.len());
    for ((_, list), quota) in order.iter_mut().zip(&quotas) {
        free.extend(list.split_off(list.len().min(*quota)));
    }
    free.sort_unstable();
    let mut free = free.into_iter();
    for ((_, list), quota) in order.iter_mut().zip(&quotas) {
        let missing = quota.saturating_sub(list.len());
        list.extend(free.by_ref().take(missing));
    }
    order.into_iter().flat_map(|(name, list)| list.into_iter().map(|p| (p, name.to_owned()))).collect()
}

/// How many partitions the first, second, … member gets: they differ by one at most.
fn quotas(partitions: u32, members: usize) -> Vec<usize> {
    let partitions = usize::try_from(partitions).unwrap_or(usize::MAX);
    let Some(base) = partitions.checked_div(members) else { return Vec::new() };
    let larger = partitions % members;
    (0..members).map(|i| base + usize::from(i < larger)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(ids: impl IntoIterator<Item = u8>) -> BTreeSet<String> {
        ids.into_iter().map(|id| format!("c{id}")).collect()
    }

    fn counts(members: &BTreeSet<String>, owners: &BTreeMap<u32, String>) -> BTreeMap<String, usize> {
        let mut counts: BTreeMap<String, usize> = members.iter().map(|m| (m.clone(), 0)).collect();
        for owner in owners.values() {
            *counts.get_mut(owner).expect("assigned to a member") += 1;
        }
        counts
    }

    /// The fewest moves any balanced assignment needs: try every choice of who gets the larger quota.
    fn fewest_moves(partitions: u32, members: &BTreeSet<String>, previous: &BTreeMap<u32, String>) -> usize {
        let total = usize::try_from(partitions).unwrap();
        let held: Vec<usize> = members
            .iter()
            .map(|m| previous.iter().filter(|(p, o)| **p < partitions && *o == m).count())
            .collect();
        let (base, larger) = (total / members.len(), total % members.len());
        (0u32..1 << members.len())
            .filter(|mask| usize::try_from(mask.count_ones()).unwrap() == larger)
            .map(|mask| {
                let stay: usize = held
                    .iter()
                    .enumerate()
                    .map(|(i, n)| (*n).min(base + usize::from(mask >> i & 1 == 1)))
                    .sum();
                total - stay
            })
            .min()
            .unwrap_or(0)
    }

    proptest! {
        #[test]
        fn complete_balanced_and_with_the_fewest_moves(
            partitions in 0u32..40,
            alive in proptest::collection::btree_set(0u8..8, 1..7),
            before in proptest::collection::btree_map(0u32..45, 0u8..9, 0..45),
        ) {
            let members = names(alive);
            let previous: BTreeMap<u32, String> = before.into_iter().map(|(p, m)| (p, format!("c{m}"))).collect();
            let owners = assign(partitions, &members, &previous);
            prop_assert!(owners.keys().copied().eq(0..partitions));
            let counts = counts(&members, &owners);
            let (min, max) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            prop_assert!(max - min <= 1, "{counts:?}");
            let moves = owners.iter().filter(|(p, m)| previous.get(p) != Some(m)).count();
            prop_assert_eq!(moves, fewest_moves(partitions, &members, &previous));
            // A second run changes nothing.
            prop_assert_eq!(&assign(partitions, &members, &owners), &owners);
        }
    }

    #[test]
    fn a_second_member_takes_half_and_leaves_the_rest() {
        let one = assign(16, &names([1]), &BTreeMap::new());
        let two = assign(16, &names([1, 2]), &one);
        let moved = two.iter().filter(|(p, m)| one.get(p) != Some(m)).count();
        assert_eq!(moved, 8);
    }

    #[test]
    fn nobody_there_nothing_assigned() {
        assert!(assign(4, &BTreeSet::new(), &BTreeMap::new()).is_empty());
    }
}
