//! Opens a log as a crash left it.

use super::index::{self, Summary};
use super::scan::read_block;
use super::segment::{self, Segment};
use super::{Cache, Inner, LogError, LogState, Mark, Options, Place};
use crate::mysql::LastTransaction;
use crate::wire::{BlockError, Sealed};
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};
use tokio::sync::watch;

/// Opens all segments; the last one, if there is any, goes on being written.
pub(super) fn open(options: Options) -> Result<(Inner, Option<Arc<Segment>>), LogError> {
    let dir = options.dir.clone();
    std::fs::create_dir_all(&dir).map_err(LogError::io("create", &dir))?;
    let lock = lock(&dir)?;
    let mut segments: BTreeMap<u64, Arc<Segment>> = BTreeMap::new();
    let mut schemas = HashMap::new();
    let mut end: Option<Summary> = None;
    let mut unsynced = Vec::new();
    let numbers = list(&dir)?;
    let newest = numbers.last().copied();
    for seq in numbers {
        let Some(segment) = Segment::open(&dir, seq)? else {
            tracing::warn!(segment = seq, "segment without header removed");
            segment::remove(&dir, seq)?;
            continue;
        };
        // A power loss can take the end of a segment whose successor is already there.
        if end.as_ref().is_some_and(|end| end.end.position != segment.begin().position) {
            tracing::warn!(
                segment = seq,
                "segment behind a torn one removed; it is read again from the source"
            );
            segment::remove(&dir, seq)?;
            continue;
        }
        let known = index::read(&dir, seq).filter(|known| known.len == segment.len() && Some(seq) != newest);
        let durable = known.is_some();
        let summary = match known {
            Some(known) => known,
            None => summarize(&segment, segment.len()),
        };
        if summary.len < segment.len() {
            let bytes = segment.len() - summary.len;
            tracing::warn!(segment = seq, bytes, "torn tail cut; it is read again from the source");
            segment.truncate(summary.len)?;
        }
        let file_len = summary.len;
        segment.set_index(&summary.index);
        segment.set_len(file_len, summary.newest_us);
        schemas.extend(summary.definitions());
        let segment = Arc::new(segment);
        if !durable {
            unsynced.push(Arc::clone(&segment));
        }
        segments.insert(seq, segment);
        end = Some(summary);
    }
    let active = segments.last_key_value().map(|(_, segment)| Arc::clone(segment));
    if active.is_some() {
        unsynced.pop();
    }
    let state = LogState {
        lowest: segments.first_key_value().map(|(_, first)| first.begin().clone()),
        last: end.as_ref().and_then(|end| end.last.clone()),
        last_commit_time_us: end.as_ref().map_or(0, |end| end.last_commit_time_us),
        covered: end.map(|end| end.end),
        tail: active.as_ref().map(|active| Place { segment: active.seq(), offset: active.len() }),
        bytes: segments.values().map(|segment| segment.len()).sum(),
    };
    let inner = Inner {
        options,
        segments: RwLock::new(segments),
        schemas: RwLock::new(schemas),
        state: watch::channel(state).0,
        unsynced: Mutex::new(unsynced),
        cache: Mutex::new(Cache::default()),
        reading: Arc::default(),
        _lock: lock,
    };
    Ok((inner, active))
}

/// The numbers of the segments, ascending.
pub(super) fn list(dir: &Path) -> Result<Vec<u64>, LogError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(LogError::io("list", dir))? {
        let name = entry.map_err(LogError::io("list", dir))?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn lock(dir: &Path) -> Result<File, LogError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(LogError::io("create", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(LogError::Locked(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(LogError::io("lock", path)(error)),
    }
}

/// Reads a segment up to the first thing that is not a whole transaction.
pub(super) fn summarize(segment: &Segment, limit: u64) -> Summary {
    let header = segment.header();
    let mut summary = Summary {
        len: segment.first_block(),
        end: header.begin.clone(),
        last: header.last.clone(),
        last_commit_time_us: header.last_commit_time_us,
        newest_us: header.begin.commit_time_us,
        index: Vec::new(),
        schemas: Vec::new(),
    };
    // What the open large transaction would add once it is whole.
    let mut pending: Option<Summary> = None;
    let mut offset = segment.first_block();
    while let Ok(block) = read_block(segment, offset, limit) {
        let at = offset;
        offset += u64::try_from(block.bytes().len()).unwrap_or(u64::MAX);
        let header = *block.header();
        if header.begins_inside != pending.is_some() {
            break;
        }
        let mut next = pending.take().unwrap_or_else(|| summary.clone_without_vectors());
        if next.add(&block, at, offset).is_err() {
            break;
        }
        if header.ends_inside {
            pending = Some(next);
        } else {
            summary.take(next);
        }
    }
    summary
}

impl Summary {
    fn clone_without_vectors(&self) -> Self {
        let (last, end) = (self.last.clone(), self.end.clone());
        Self { last, end, index: Vec::new(), schemas: Vec::new(), ..*self }
    }

    fn take(&mut self, mut next: Self) {
        for (position, offset) in std::mem::take(&mut next.index) {
            index::note(&mut self.index, position, offset);
        }
        self.schemas.append(&mut next.schemas);
        next.index = std::mem::take(&mut self.index);
        next.schemas = std::mem::take(&mut self.schemas);
        *self = next;
    }

    fn add(&mut self, block: &Sealed, at: u64, behind: u64) -> Result<(), BlockError> {
        let header = block.header();
        let file_name = block.file_name()?;
        self.len = behind;
        self.end =
            Mark { position: header.end, file_name: file_name.into(), commit_time_us: header.commit_time_us };
        self.newest_us = self.newest_us.max(header.commit_time_us);
        if !header.begins_inside {
            self.index.push((header.first, at));
        }
        for (id, definition) in block.schemas()? {
            if let Some(definition) = definition {
                self.define(id, &definition);
            }
        }
        if let Some((position, gtid, commit_time_us)) = block.last_transaction()? {
            self.last = Some(LastTransaction { position, file_name: file_name.to_owned(), gtid });
            self.last_commit_time_us = commit_time_us;
        }
        Ok(())
    }
}
