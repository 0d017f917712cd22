//! One file of the log.

use super::{LogError, Mark, index};
use crate::mysql::LastTransaction;
use crate::position::Position;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

const MAGIC: &[u8; 8] = b"AESOPLOG";
const VERSION: u32 = 1;
/// Magic, version, length and checksum of the JSON that follows.
const PREFIX_BYTES: usize = 20;
/// The JSON is a few hundred bytes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// What a segment file says before its first block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) seq: u64,
    /// Where the segment takes over.
    pub(super) begin: Mark,
    /// The last transaction before it.
    pub(super) last: Option<LastTransaction>,
    pub(super) last_commit_time_us: i64,
}

/// An open segment. Its length is what is published; the writer may be ahead of it.
#[derive(Debug)]
pub(super) struct Segment {
    header: Header,
    first_block: u64,
    path: PathBuf,
    file: File,
    len: AtomicU64,
    newest_us: AtomicI64,
    index: RwLock<Vec<(Position, u64)>>,
}

pub(super) fn path(dir: &Path, seq: u64, extension: &str) -> PathBuf {
    dir.join(format!("{seq:012}.{extension}"))
}

impl Segment {
    /// Makes a new file; an older one of that number never got a block that counts.
    pub(super) fn create(dir: &Path, header: Header) -> Result<Self, LogError> {
        let path = path(dir, header.seq, "seg");
        let json =
            serde_json::to_vec(&header).map_err(|error| LogError::io("encode", &path)(error.into()))?;
        let mut bytes = Vec::with_capacity(PREFIX_BYTES + json.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes.extend_from_slice(&crc32fast::hash(&json).to_le_bytes());
        bytes.extend_from_slice(&json);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path);
        let file = opened.map_err(LogError::io("create", &path))?;
        file.write_all_at(&bytes, 0).map_err(LogError::io("write", &path))?;
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(Self::with(header, path, file, len, len))
    }

    /// Opens a file; `None` when its header was never written whole.
    pub(super) fn open(dir: &Path, seq: u64) -> Result<Option<Self>, LogError> {
        let path = path(dir, seq, "seg");
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let file = opened.map_err(LogError::io("open", &path))?;
        let len = file.metadata().map_err(LogError::io("read", &path))?.len();
        let mut prefix = [0; PREFIX_BYTES];
        if len < u64::try_from(PREFIX_BYTES).unwrap_or(u64::MAX) {
            return Ok(None);
        }
        file.read_exact_at(&mut prefix, 0).map_err(LogError::io("read", &path))?;
        let (magic, rest) = prefix.split_at(8);
        let mut fields = rest
            .chunks_exact(4)
            .map(|field| field.first_chunk().map_or(0, |field| u32::from_le_bytes(*field)));
        let (version, json_len, crc) =
            (fields.next().unwrap_or(0), fields.next().unwrap_or(0), fields.next().unwrap_or(0));
        if magic != MAGIC {
            return Ok(None);
        }
        if version != VERSION {
            return Err(LogError::Version { path, version });
        }
        let json_len = usize::try_from(json_len).unwrap_or(usize::MAX);
        let mut json = vec![0; json_len.min(MAX_HEADER_BYTES)];
        let at = u64::try_from(PREFIX_BYTES).unwrap_or(u64::MAX);
        if file.read_exact_at(&mut json, at).is_err() || crc32fast::hash(&json) != crc {
            return Ok(None);
        }
        let Ok(header) = serde_json::from_slice::<Header>(&json) else { return Ok(None) };
        let first_block = u64::try_from(PREFIX_BYTES + json.len()).unwrap_or(u64::MAX);
        Ok((header.seq == seq).then(|| Self::with(header, path, file, first_block, len)))
    }

    fn with(header: Header, path: PathBuf, file: File, first_block: u64, len: u64) -> Self {
        let newest_us = AtomicI64::new(header.begin.commit_time_us);
        let index = RwLock::default();
        Self { header, first_block, path, file, len: AtomicU64::new(len), newest_us, index }
    }

    pub(super) fn seq(&self) -> u64 {
        self.header.seq
    }

    pub(super) fn header(&self) -> &Header {
        &self.header
    }

    pub(super) fn begin(&self) -> &Mark {
        &self.header.begin
    }

    pub(super) fn first_block(&self) -> u64 {
        self.first_block
    }

    pub(super) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    /// Publishes a length and the commit time of the newest transaction within it.
    pub(super) fn set_len(&self, len: u64, newest_us: i64) {
        self.newest_us.fetch_max(newest_us, Ordering::Relaxed);
        self.len.store(len, Ordering::Release);
    }

    pub(super) fn newest_us(&self) -> i64 {
        self.newest_us.load(Ordering::Relaxed)
    }

    /// Notes that a block whose first transaction starts at `position` lies at `offset`; blocks come in order.
    pub(super) fn note(&self, position: Position, offset: u64) {
        index::note(&mut self.index.write().unwrap_or_else(PoisonError::into_inner), position, offset);
    }

    #[cfg(test)]
    pub(super) fn indexed(&self) -> usize {
        self.index.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Sidecars of former versions hold every block.
    pub(super) fn set_index(&self, blocks: &[(Position, u64)]) {
        let mut index = self.index.write().unwrap_or_else(PoisonError::into_inner);
        index.clear();
        for (position, offset) in blocks {
            index::note(&mut index, *position, *offset);
        }
        index.shrink_to_fit();
    }

    /// The offset of a block at or some way before which the transaction at `position` begins.
    pub(super) fn seek(&self, position: Position) -> u64 {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        let behind = index.partition_point(|(at, _)| *at <= position);
        let entry = behind.checked_sub(1).and_then(|at| index.get(at));
        entry.map_or(self.first_block, |(_, offset)| *offset)
    }

    pub(super) fn write(&self, bytes: &[u8], offset: u64) -> Result<(), LogError> {
        self.file.write_all_at(bytes, offset).map_err(LogError::io("write", &self.path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Cuts the file here.
    pub(super) fn truncate(&self, len: u64) -> Result<(), LogError> {
        self.file.set_len(len).map_err(LogError::io("truncate", &self.path))
    }

    pub(super) fn sync(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(LogError::io("sync", &self.path))
    }

    /// Takes the files away; those who have it open read on.
    pub(super) fn remove(&self, dir: &Path) -> Result<(), LogError> {
        remove(dir, self.seq())
    }
}

pub(super) fn remove(dir: &Path, seq: u64) -> Result<(), LogError> {
    for extension in ["idx", "seg"] {
        let path = path(dir, seq, extension);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LogError::io("remove", path)(error));
            }
            _ => {}
        }
    }
    Ok(())
}
