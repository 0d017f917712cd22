//! The hash by which rows are spread over partitions.
//!
//! `key_hash` is xxh3-64 of: the database name, a zero byte, the table name, then for each key column in key
//! order a zero byte and the column's value as canonical text. Canonical text is the value exactly as
//! the native JSON shape writes it (numbers in decimal, text quoted and escaped), so that a key keeps its
//! partition when INT becomes BIGINT or latin1 becomes utf8mb4. A table without a primary key hashes
//! its two names only: all of its rows share a partition. DDL and TRUNCATE belong to partition 0.

/// The partition of a row among `partitions`.
pub fn partition(key_hash: u64, partitions: u32) -> u32 {
    u32::try_from(key_hash % u64::from(partitions.max(1))).unwrap_or(0)
}
