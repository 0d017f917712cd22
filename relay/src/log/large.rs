//! Large blocks, of one large row each, read from disk: one copy for all readers that want it at a time, and so many bytes
//! of them in memory and no more, however many readers there are.

use super::segment::Segment;
use super::{Log, Place, ReadError};
use crate::wire::Sealed;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Weak};
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio_util::task::AbortOnDropHandle;

/// Blocks above are large: caches would hold few of them.
pub(super) const LARGE_BYTES: usize = 1 << 20;
/// Of large blocks in memory at a time, in all logs of the program. A block that has more is alone.
const BLOCK_BYTES: u32 = 64 << 20;
/// Likewise of what readers make of them, who send a part of a block.
const COPY_BYTES: u32 = 32 << 20;

static BLOCKS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| room(BLOCK_BYTES));
static COPIES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| room(COPY_BYTES));

fn room(bytes: u32) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes).unwrap_or(Semaphore::MAX_PERMITS)))
}

/// Room for bytes, once others have given enough back.
async fn take(room: &Arc<Semaphore>, bytes: usize, most: u32) -> Option<OwnedSemaphorePermit> {
    let bytes = u32::try_from(bytes).unwrap_or(most).min(most);
    // It is never closed.
    Arc::clone(room).acquire_many_owned(bytes).await.ok()
}

/// The large blocks of a log that somebody has, or waits for.
#[derive(Debug, Default)]
pub(super) struct LargeBlocks(HashMap<Place, Weak<Shared>>);

/// One of them, as long as somebody has it.
#[derive(Debug, Default)]
struct Shared(OnceCell<Sealed>);

/// The bytes that a reader gets.
struct Handle(Arc<Shared>);

impl AsRef<[u8]> for Handle {
    fn as_ref(&self) -> &[u8] {
        self.0.0.get().map_or(&[], |block| block.bytes().as_ref())
    }
}

/// What was read, and its room.
struct Buffer {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl LargeBlocks {
    fn at(&mut self, place: Place) -> Arc<Shared> {
        self.0.retain(|_, block| block.strong_count() > 0);
        if let Some(block) = self.0.get(&place).and_then(Weak::upgrade) {
            return block;
        }
        let block = Arc::new(Shared::default());
        self.0.insert(place, Arc::downgrade(&block));
        block
    }
}

/// A large block on its way to one reader.
#[derive(Debug)]
pub(super) struct Loading {
    pub(super) place: Place,
    task: AbortOnDropHandle<Result<Loaded, ReadError>>,
}

/// A large block, and room for a copy where one was asked for.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) block: Sealed,
    pub(super) copy: Option<OwnedSemaphorePermit>,
}

impl Loading {
    /// Begins to read. It goes on whether it is waited for or not, so that a reader that looks elsewhere meanwhile loses
    /// neither its turn nor what was read.
    pub(super) fn begin(
        log: &Log,
        segment: &Arc<Segment>,
        place: Place,
        length: usize,
        copying: bool,
    ) -> Self {
        let (log, segment) = (log.clone(), Arc::clone(segment));
        let task = tokio::spawn(async move {
            // In this order for all: who has both waits for nothing more.
            let copy = if copying { take(&COPIES, length, COPY_BYTES).await } else { None };
            let shared = super::lock(&log.inner.cache).large.at(place);
            let block = shared.0.get_or_try_init(|| load(segment, place, length)).await?;
            let block = block.held_as(Bytes::from_owner(Handle(Arc::clone(&shared))));
            Ok(Loaded { block, copy })
        });
        Self { place, task: AbortOnDropHandle::new(task) }
    }

    /// Waits for it. Dropping the future loses nothing.
    pub(super) async fn done(&mut self) -> Result<Loaded, ReadError> {
        let failed = |error| io(self.place, std::io::Error::other(error));
        (&mut self.task).await.unwrap_or_else(|error| Err(failed(error)))
    }
}

async fn load(segment: Arc<Segment>, place: Place, length: usize) -> Result<Sealed, ReadError> {
    let room = take(&BLOCKS, length, BLOCK_BYTES).await;
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = vec![0; length];
        segment.read(&mut bytes, place.offset).map_err(|error| io(place, error))?;
        let bytes = Bytes::from_owner(Buffer { bytes, _room: room });
        Sealed::parse(bytes).map_err(|error| super::reader::damaged(place, error))
    });
    read.await.unwrap_or_else(|error| Err(io(place, std::io::Error::other(error))))
}

fn io(place: Place, error: std::io::Error) -> ReadError {
    ReadError::Io { segment: place.segment, offset: place.offset, error }
}

#[cfg(test)]
mod tests {
    use crate::event::{Op, RowChange, TransactionSink as _, TxnEnd, TxnStart};
    use crate::log::{Log, Options};
    use crate::position::Position;
    use crate::schema::TableSchema;
    use crate::wire::frame::StartFrom;
    use std::sync::Arc;
    use std::time::Duration;

    /// Two fit into the room for blocks, one into that for copies.
    const ROW_BYTES: usize = 30 << 20;

    fn position(number: u64) -> Position {
        Position::new(1, 1, 1000 * (number + 1))
    }

    fn log(dir: &std::path::Path) -> (Log, crate::log::Writer) {
        let (log, mut writer) = Log::open(Options::new(dir.to_owned(), u64::MAX, u64::MAX)).unwrap();
        let schema = Arc::new(TableSchema::new("d".into(), "t".into(), Vec::new(), Vec::new()));
        for number in 0..4 {
            let (position, file_name) = (position(number), "mysql-bin.000001".into());
            let start = TxnStart { position, file_name, gtid: None, server_id: 1, commit_time_us: 1 };
            writer.begin(start).unwrap();
            let after = vec![u8::try_from(number).unwrap(); ROW_BYTES];
            let row = RowChange {
                op: Op::Insert,
                schema: &schema,
                key_hash_before: 1,
                key_hash: 1,
                before: &[],
                after: &after,
            };
            writer.row(row).unwrap();
            writer.commit(TxnEnd { end_offset: position.offset + 1000 }).unwrap();
        }
        writer.flush().unwrap();
        (log, writer)
    }

    async fn is_waiting<T>(future: &mut (impl Future<Output = T> + Unpin)) -> bool {
        tokio::time::timeout(Duration::from_millis(300), future).await.is_err()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn large_blocks_are_shared_and_only_so_many_are_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let (log, _writer) = log(dir.path());
        let reader = |number| log.reader(StartFrom::Position { position: position(number), rows: 0 });
        let mut readers: Vec<_> = (0..4).map(reader).collect();
        let first = readers[0].next().await.unwrap();
        let again = reader(0).next().await.unwrap();
        assert_eq!(first.bytes().as_ptr(), again.bytes().as_ptr(), "one copy for both");
        let second = readers[1].next().await.unwrap();
        assert_ne!(first.bytes().as_ptr(), second.bytes().as_ptr());
        let [_, _, third, fourth] = &mut readers[..] else { unreachable!() };
        let mut third = Box::pin(third.next());
        assert!(is_waiting(&mut third).await, "there is no room for a third");
        drop(first);
        assert!(is_waiting(&mut third).await, "somebody still has the first");
        drop(again);
        let third = third.await.unwrap();
        assert_eq!(third.header().first, position(2));
        drop((second, third));
        // Who sends parts needs room for these too, until they are sent.
        let (mut one, mut other) = (reader(3).copying(true), reader(3).copying(true));
        let block = one.next().await.unwrap();
        let whole = fourth.next().await.unwrap();
        assert_eq!(block.bytes().as_ptr(), whole.bytes().as_ptr());
        let mut waiting = Box::pin(other.next());
        assert!(is_waiting(&mut waiting).await, "there is no room for a second copy");
        one.done();
        assert_eq!(waiting.await.unwrap().bytes().as_ptr(), whole.bytes().as_ptr());
    }
}
