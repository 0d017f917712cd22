//! The sidecar of a full segment: saves reading it whole at the next start. It exists only once the segment is on
//! disk; without it, or if it does not fit the segment, the segment is scanned.

use super::segment::{Segment, path};
use super::{LogError, Mark};
use crate::mysql::LastTransaction;
use crate::position::Position;
use crate::schema::SchemaId;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// At least this far apart lie the blocks that are kept in memory, for every segment there is: at low rates a
/// transaction is a block, and gigabytes of log hold millions of those.
pub(super) const SPACING_BYTES: u64 = 64 * 1024;

/// Notes that a block whose first transaction starts at `position` lies at `offset`, unless one that is noted lies
/// near before it. Blocks come in order.
pub(super) fn note(index: &mut Vec<(Position, u64)>, position: Position, offset: u64) {
    if index.last().is_none_or(|(_, last)| offset >= last + SPACING_BYTES) {
        index.push((position, offset));
    }
}

/// What is found out about a segment by reading it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// Where its whole transactions end.
    pub(super) len: u64,
    pub(super) end: Mark,
    pub(super) last: Option<LastTransaction>,
    pub(super) last_commit_time_us: i64,
    pub(super) newest_us: i64,
    pub(super) index: Vec<(Position, u64)>,
    /// Definitions, base64, by id.
    pub(super) schemas: Vec<(u64, String)>,
}

impl Summary {
    pub(super) fn definitions(&self) -> impl Iterator<Item = (SchemaId, Bytes)> {
        self.schemas
            .iter()
            .filter_map(|(id, text)| Some((SchemaId(*id), BASE64_STANDARD.decode(text).ok()?.into())))
    }

    pub(super) fn define(&mut self, id: SchemaId, definition: &[u8]) {
        self.schemas.push((id.0, BASE64_STANDARD.encode(definition)));
    }
}

/// Writes the sidecar of a segment that is on disk, by reading the segment: it is in the page cache still.
pub(super) fn write(dir: &Path, segment: &Segment) -> Result<(), LogError> {
    let summary = super::recover::summarize(segment, segment.len());
    let (partial, whole) = (path(dir, segment.seq(), "idx.partial"), path(dir, segment.seq(), "idx"));
    let json = serde_json::to_vec(&summary).map_err(|error| LogError::io("encode", &whole)(error.into()))?;
    let mut bytes = crc32fast::hash(&json).to_le_bytes().to_vec();
    bytes.extend_from_slice(&json);
    std::fs::write(&partial, bytes).map_err(LogError::io("write", &partial))?;
    std::fs::rename(&partial, &whole).map_err(LogError::io("rename", &partial))
}

/// Reads a sidecar; `None` when it is missing or damaged.
pub(super) fn read(dir: &Path, seq: u64) -> Option<Summary> {
    let bytes = std::fs::read(path(dir, seq, "idx")).ok()?;
    let (crc, json) = bytes.split_first_chunk::<4>()?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}
