//! Reads a log's blocks in order, beside the running relay: recovery, and `aesop-relay log`.

use super::segment::Segment;
use super::{LogError, Place};
use crate::wire::block::{BlockHeader, HEADER_BYTES};
use crate::wire::{Block, BlockError, BlockReader, Malformed, Sealed};
use std::path::{Path, PathBuf};

/// Reads the block at `offset`, which must end within `limit`.
pub(super) fn read_block(segment: &Segment, offset: u64, limit: u64) -> Result<Sealed, BlockError> {
    let cut = |_: std::io::Error| BlockError::Malformed(Malformed { what: "block: the file ends inside it" });
    let mut head = [0; HEADER_BYTES];
    segment.read(&mut head, offset).map_err(cut)?;
    let header = BlockHeader::parse(&head)?;
    let end = offset.saturating_add(u64::try_from(header.length).unwrap_or(u64::MAX));
    if end > limit {
        return Err(BlockError::Malformed(Malformed { what: "block: the file ends inside it" }));
    }
    let mut bytes = vec![0; header.length];
    segment.read(&mut bytes, offset).map_err(cut)?;
    Sealed::parse(bytes.into())
}

/// A block and where it lies.
#[derive(Debug)]
pub struct Scanned {
    /// Where.
    pub place: Place,
    /// What.
    pub block: Block,
}

/// Walks a log directory without locking or changing it.
#[derive(Debug)]
pub struct Scan {
    dir: PathBuf,
    segments: std::vec::IntoIter<u64>,
    current: Option<(Segment, u64, BlockReader)>,
}

impl Scan {
    /// Lists the segments of a log.
    pub fn open(dir: &Path) -> Result<Self, LogError> {
        let segments = super::recover::list(dir)?.into_iter();
        Ok(Self { dir: dir.to_owned(), segments, current: None })
    }

    fn advance(&mut self) -> Result<Option<Scanned>, LogError> {
        loop {
            let Some((segment, offset, reader)) = &mut self.current else {
                let Some(seq) = self.segments.next() else { return Ok(None) };
                self.current = Segment::open(&self.dir, seq)?.map(|segment| {
                    let first = segment.first_block();
                    (segment, first, BlockReader::default())
                });
                continue;
            };
            let place = Place { segment: segment.seq(), offset: *offset };
            let read = read_block(segment, *offset, segment.len()).and_then(|sealed| reader.open(sealed));
            if let Ok(block) = read {
                *offset += u64::try_from(block.bytes_len()).unwrap_or(u64::MAX);
                return Ok(Some(Scanned { place, block }));
            }
            // The end, or a tail that is being written.
            self.current = None;
        }
    }
}

impl Iterator for Scan {
    type Item = Result<Scanned, LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
