use super::*;
use crate::event::{RowChange, TxnStart};
use crate::schema::TableSchema;
use crate::wire::{PartitionSet, partition_of};
use proptest::prelude::*;
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Row {
    op: Op,
    table: u64,
    hashes: (u64, u64),
    before: Vec<u8>,
    after: Vec<u8>,
}

type Txn = Vec<Row>;

fn rows() -> impl Strategy<Value = Row> {
    let image = || proptest::collection::vec(any::<u8>(), 0..40);
    let op = prop_oneof![Just(Op::Insert), Just(Op::Update), Just(Op::Delete), Just(Op::Ddl)];
    (op, 0_u64..3, 0_u64..8, 0_u64..8, image(), image())
        .prop_map(|(op, table, old, new, before, after)| Row { op, table, hashes: (old, new), before, after })
}

fn txns() -> impl Strategy<Value = Vec<Txn>> {
    proptest::collection::vec(proptest::collection::vec(rows(), 0..6), 1..8)
}

fn table(id: u64) -> Arc<TableSchema> {
    Arc::new(TableSchema::new("d".into(), format!("t{id}"), Vec::new(), Vec::new()))
}

fn start(at: usize) -> TxnStart {
    let offset = u64::try_from(at).unwrap() * 100 + 4;
    TxnStart {
        position: Position::new(1, 3, offset),
        file_name: "mysql-bin.000003".into(),
        gtid: at.is_multiple_of(2).then(|| format!("u:{at}")),
        server_id: 97,
        commit_time_us: 1_000_000 + i64::try_from(at).unwrap(),
    }
}

/// Packs as the log's writer does: one block for the small, several for each transaction at a place in `large`.
fn pack(txns: &[Txn], large: &[bool]) -> Vec<Sealed> {
    let mut blocks = Vec::new();
    let mut defined = Vec::new();
    let name: Arc<str> = "mysql-bin.000003".into();
    let mut builder = BlockBuilder::new(start(0).position, Arc::clone(&name));
    for (at, txn) in txns.iter().enumerate() {
        let start = start(at);
        builder.begin(&start);
        let mut pieces = Vec::new();
        for (index, row) in txn.iter().enumerate() {
            if index > 0 && large.get(at).copied().unwrap_or(false) {
                if builder.has_whole() {
                    let rest = builder.split_open();
                    blocks.push(builder.seal(false));
                    builder = rest;
                }
                pieces.push(std::mem::replace(&mut builder, BlockBuilder::continuing(&start)));
            }
            let schema = table(row.table);
            let slot = builder.slot(schema.id).unwrap_or_else(|| {
                let definition = (!defined.contains(&schema.id)).then(|| schema.serialize().into());
                defined.push(schema.id);
                builder.add_schema(NewSchema { id: schema.id, definition }).unwrap()
            });
            let change = RowChange {
                op: row.op,
                schema: &schema,
                key_hash_before: row.hashes.0,
                key_hash: row.hashes.1,
                before: &row.before,
                after: &row.after,
            };
            builder.row(slot, u64::try_from(index).unwrap(), &change);
        }
        let (end, rows) = (start.position.offset + 90, u64::try_from(txn.len()).unwrap());
        if let Some(first) = pieces.first_mut() {
            first.commit(end, rows);
            blocks.extend(pieces.iter().map(|piece| piece.seal(true)));
            builder.commit(end, rows);
            blocks.push(builder.seal(false));
            builder = BlockBuilder::new(start.position, Arc::clone(&name));
        } else {
            builder.commit(end, rows);
        }
    }
    builder.covered(10_000, 5);
    blocks.push(builder.seal(false));
    blocks
}

/// Every row that the blocks bring: its transaction's offset, index and content.
fn read(blocks: &[Sealed], defined: &mut BlockReader) -> Vec<(u64, u64, u64, Row)> {
    let mut out = Vec::new();
    for sealed in blocks {
        let sealed = Sealed::parse(sealed.bytes().clone()).unwrap();
        let block = defined.open(sealed).unwrap();
        for item in block.items() {
            if let BlockItem::Row { txn, row, change } = item {
                out.push((
                    txn.start.position.offset,
                    txn.rows,
                    row,
                    Row {
                        op: change.op,
                        table: change.schema.table.trim_start_matches('t').parse().unwrap(),
                        hashes: (change.key_hash_before, change.key_hash),
                        before: change.before.to_vec(),
                        after: change.after.to_vec(),
                    },
                ));
            }
        }
    }
    out
}

fn model(txns: &[Txn]) -> Vec<(u64, u64, u64, Row)> {
    let len = |len: usize| u64::try_from(len).unwrap();
    txns.iter()
        .enumerate()
        .flat_map(|(at, txn)| {
            txn.iter()
                .enumerate()
                .map(move |(index, row)| (start(at).position.offset, len(txn.len()), len(index), row.clone()))
        })
        .collect()
}

fn text(rows: &[(u64, u64, u64, Row)]) -> Vec<String> {
    rows.iter().map(|row| format!("{row:?}")).collect()
}

proptest! {
    #[test]
    fn what_is_packed_is_read(txns in txns(), large in proptest::collection::vec(any::<bool>(), 8)) {
        let blocks = pack(&txns, &large);
        prop_assert_eq!(text(&read(&blocks, &mut BlockReader::default())), text(&model(&txns)));
        prop_assert_eq!(blocks.last().unwrap().header().end.offset, 10_000);
    }

    #[test]
    fn a_filter_keeps_what_its_partitions_want_from_its_start_on(
        txns in txns(), large in proptest::collection::vec(any::<bool>(), 8),
        wanted in proptest::collection::vec(0_u32..4, 0..4), at in 0_usize..8, skip in 0_u64..6,
    ) {
        let set = PartitionSet::of(4, wanted.iter().copied());
        let from = start(at).position;
        let mut filter = Filter::new(set, Some((from, skip)));
        let mut out = Vec::new();
        let mut reader = BlockReader::default();
        for id in 0..3 {
            reader.define(table(id).id, &table(id).serialize()).unwrap();
        }
        // Another stream of the same group, and one of a group with other partitions, over the same blocks.
        let mut others = [Filter::new(PartitionSet::of(4, [1, 2]), None), Filter::new(PartitionSet::of(3, [0]), None)];
        let mut theirs = [Vec::new(), Vec::new()];
        for block in pack(&txns, &large) {
            for (filter, out) in others.iter_mut().zip(&mut theirs) {
                if let Filtered::Repacked(block) = filter.apply(&block).unwrap() {
                    out.push(block);
                }
            }
            match filter.apply(&block).unwrap() {
                Filtered::Whole => out.push(block),
                Filtered::Repacked(block) => out.push(block),
                Filtered::Nothing => {}
            }
        }
        for ((partitions, count), out) in [(vec![1, 2], 4), (vec![0], 3)].into_iter().zip(&theirs) {
            let mut reader = BlockReader::default();
            for id in 0..3 {
                reader.define(table(id).id, &table(id).serialize()).unwrap();
            }
            let expected: Vec<_> = model(&txns).into_iter().filter(|(_, _, _, row)| {
                [row.hashes.0, row.hashes.1].iter().any(|hash| partitions.contains(&partition_of(row.op, *hash, count)))
            }).collect();
            prop_assert_eq!(text(&read(out, &mut reader)), text(&expected));
        }
        let expected: Vec<_> = model(&txns).into_iter().filter(|(offset, _, index, row)| {
            let late = *offset > from.offset || (*offset == from.offset && *index >= skip);
            let mine = [row.hashes.0, row.hashes.1].iter().any(|hash| wanted.contains(&partition_of(row.op, *hash, 4)));
            late && mine
        }).collect();
        prop_assert_eq!(text(&read(&out, &mut reader)), text(&expected));
    }

    #[test]
    fn a_flipped_bit_is_refused(txns in txns(), at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        for block in pack(&txns, &[]) {
            let mut bytes = block.bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Sealed::parse(bytes.into()).is_err());
        }
    }

    /// The checksum keeps accidents out, not an enemy: content that makes no sense must not panic either.
    #[test]
    fn damage_under_a_right_checksum_never_panics(txns in txns(), damage in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4)) {
        for block in pack(&txns, &[]) {
            let mut bytes = block.bytes().to_vec();
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            let sum = crc(&bytes).to_le_bytes();
            bytes[CRC_AT..BEHIND_CRC].copy_from_slice(&sum);
            if let Ok(sealed) = Sealed::parse(bytes.into()) {
                let filtered = Filter::new(PartitionSet::of(4, [1]), None).apply(&sealed);
                if let Ok(Filtered::Repacked(block)) = filtered {
                    prop_assert!(Sealed::parse(block.bytes().clone()).is_ok());
                }
                if let Ok(block) = BlockReader::default().open(sealed) {
                    prop_assert!(block.items().count() <= bytes_limit(&block));
                }
            }
        }
    }

    #[test]
    fn arbitrary_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(Sealed::parse(bytes.into()).is_err());
    }
}

fn bytes_limit(block: &Block) -> usize {
    block.bytes_len()
}

#[test]
fn an_aborted_transaction_leaves_no_trace() {
    let mut builder = BlockBuilder::new(start(0).position, "mysql-bin.000003".into());
    builder.begin(&start(0));
    builder.commit(50, 0);
    let before = builder.seal(false);
    builder.begin(&start(1));
    builder.abort();
    assert_eq!(builder.seal(false).bytes(), before.bytes());
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let mut bytes = BlockBuilder::new(start(0).position, "f".into()).seal(false).bytes().to_vec();
    bytes[4] = 2;
    assert_eq!(Sealed::parse(bytes.into()).unwrap_err(), BlockError::Version(2));
}
