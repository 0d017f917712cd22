//! Which partitions of a group a stream carries.

use crate::event::Op;

/// The partition of a row by one of its key hashes. Statements belong to partition 0.
pub fn partition_of(op: Op, key_hash: u64, count: u32) -> u32 {
    match op {
        Op::Ddl | Op::Truncate => 0,
        Op::Insert | Op::Update | Op::Delete | Op::Read => {
            u32::try_from(key_hash % u64::from(count.max(1))).unwrap_or(0)
        }
    }
}

/// A set of partitions out of `count`, as a bitmap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionSet {
    count: u32,
    words: Vec<u64>,
}

impl PartitionSet {
    /// The most partitions a group may have; a bitmap of them fits a control frame.
    pub const MAX: u32 = 65_536;

    /// None of `count` partitions; `count` is kept within 1 ..= [`Self::MAX`].
    pub fn empty(count: u32) -> Self {
        let count = count.clamp(1, Self::MAX);
        let words = usize::try_from(count.div_ceil(64)).unwrap_or(1);
        Self { count, words: vec![0; words] }
    }

    /// All of `count` partitions.
    pub fn all(count: u32) -> Self {
        (0..count).fold(Self::empty(count), |mut set, partition| {
            set.insert(partition);
            set
        })
    }

    /// These partitions out of `count`.
    pub fn of(count: u32, partitions: impl IntoIterator<Item = u32>) -> Self {
        partitions.into_iter().fold(Self::empty(count), |mut set, partition| {
            set.insert(partition);
            set
        })
    }

    /// Adds a partition; one beyond `count` is no partition and is left out.
    pub fn insert(&mut self, partition: u32) {
        if partition < self.count
            && let Some(word) = word_index(partition).and_then(|at| self.words.get_mut(at))
        {
            *word |= 1 << (partition % 64);
        }
    }

    /// Whether the partition is in the set.
    pub fn contains(&self, partition: u32) -> bool {
        word_index(partition)
            .and_then(|at| self.words.get(at))
            .is_some_and(|word| word >> (partition % 64) & 1 == 1)
    }

    /// The number of partitions of the group.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// How many are in the set.
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// Whether all are: nothing needs filtering.
    pub fn is_all(&self) -> bool {
        self.len() == self.count
    }

    /// The partitions in the set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|partition| self.contains(*partition))
    }

    /// Whether a row with these hashes belongs to the set, by its old or its new key.
    pub fn wants(&self, op: Op, key_hash_before: u64, key_hash: u64) -> bool {
        self.contains(partition_of(op, key_hash, self.count))
            || (key_hash_before != key_hash && self.contains(partition_of(op, key_hash_before, self.count)))
    }

    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }
}

fn word_index(partition: u32) -> Option<usize> {
    usize::try_from(partition / 64).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_key_belongs_to_both_owners_and_statements_to_partition_zero() {
        let set = PartitionSet::of(16, [3]);
        assert!(set.wants(Op::Update, 3, 4));
        assert!(set.wants(Op::Update, 4, 19));
        assert!(!set.wants(Op::Update, 4, 5));
        assert!(!set.wants(Op::Ddl, 3, 3));
        assert!(PartitionSet::of(16, [0]).wants(Op::Ddl, 3, 3));
        assert_eq!(PartitionSet::all(70).len(), 70);
        assert!(PartitionSet::all(70).is_all());
        assert!(!PartitionSet::of(70, [69, 70, 71]).contains(70));
    }
}
