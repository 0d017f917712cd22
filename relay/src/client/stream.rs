//! Connects, shakes hands, and hands on what comes.

use super::ClientError;
use crate::wire::frame::{Covered, ErrorCode, Frame, Hello, StartFrom, Welcome};
use crate::wire::{Block, BlockReader, PartitionSet, Selection};
use bytes::BytesMut;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// A relay that does not accept or answer for this long is not there.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// A relay sends a covered mark each second; one that is silent for this long is lost.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Credit goes back when it has grown to this part of the whole: each frame of it wakes the relay up.
const CREDIT_SHARE: u64 = 8;
/// Of this process: what tells its streams from those of another that uses the same name.
static PROCESS: LazyLock<u128> = LazyLock::new(|| uuid::Uuid::new_v4().as_u128());
/// What one read from the socket may bring.
const READ_BYTES: usize = 256 * 1024;

/// What to stream, and how much to hold.
#[derive(Clone, Debug)]
pub struct Subscription {
    /// `host:port` of a relay.
    pub address: String,
    /// The inventory's cluster.
    pub cluster: String,
    /// Which source.
    pub source: String,
    /// The consumer group.
    pub group: String,
    /// This member.
    pub member: String,
    /// Where to begin.
    pub from: StartFrom,
    /// Which partitions, of how many.
    pub partitions: PartitionSet,
    /// Bytes of blocks that may be on their way or undropped at a time.
    pub credit_bytes: u64,
}

/// What a stream brings.
#[derive(Debug)]
pub enum StreamEvent {
    /// Transactions. Dropping the block gives its credit back: keep it until its rows are handed on.
    Block(Block),
    /// Everything of these partitions before a position has come.
    Covered(Covered),
}

/// An open stream.
#[derive(Debug)]
pub struct Stream {
    address: String,
    welcome: Welcome,
    socket: OwnedReadHalf,
    buffer: BytesMut,
    reader: BlockReader,
    credit: Arc<Credit>,
    _credit_task: AbortOnDropHandle<()>,
}

/// Opens a stream of everything in these partitions.
pub async fn subscribe(subscription: Subscription) -> Result<Stream, ClientError> {
    subscribe_to(subscription, Selection::default()).await
}

/// Opens a stream of some tables and columns. A relay that knows no selections refuses it.
pub async fn subscribe_to(subscription: Subscription, selection: Selection) -> Result<Stream, ClientError> {
    let address = subscription.address.clone();
    let opened = async {
        match open(subscription.clone(), selection.clone(), Some(*PROCESS)).await {
            // A relay of the version before does not know a hello that says of which process it is.
            Err(ClientError::Definite { code: Some(ErrorCode::Protocol), .. }) => {
                open(subscription, selection, None).await
            }
            opened => opened,
        }
    };
    match timeout(HANDSHAKE_TIMEOUT, opened).await {
        Ok(result) => result,
        Err(_) => Err(transient(&address, format!("no answer within {} s", HANDSHAKE_TIMEOUT.as_secs()))),
    }
}

async fn open(
    subscription: Subscription,
    selection: Selection,
    process: Option<u128>,
) -> Result<Stream, ClientError> {
    let address = subscription.address;
    let io = |error: std::io::Error| transient(&address, error.to_string());
    let socket = TcpStream::connect(&address).await.map_err(io)?;
    socket.set_nodelay(true).map_err(io)?;
    let (read, mut write) = socket.into_split();
    let hello = Hello {
        cluster: subscription.cluster,
        source: subscription.source,
        group: subscription.group,
        member: subscription.member,
        from: subscription.from,
        partitions: subscription.partitions,
        credit_bytes: subscription.credit_bytes,
        selection,
        process,
    };
    let mut bytes = Vec::new();
    Frame::Hello(hello).encode(&mut bytes);
    write.write_all(&bytes).await.map_err(io)?;
    let credit = Arc::new(Credit::default());
    let at_least = subscription.credit_bytes / CREDIT_SHARE;
    let task = AbortOnDropHandle::new(tokio::spawn(return_credit(write, Arc::clone(&credit), at_least)));
    let mut stream = Stream {
        address,
        welcome: Welcome {
            server_uuid: String::new(),
            epoch: 0,
            lowest: None,
            highest: None,
            file_base: String::new(),
        },
        socket: read,
        buffer: BytesMut::with_capacity(READ_BYTES),
        reader: BlockReader::default(),
        credit,
        _credit_task: task,
    };
    let frame = stream.frame().await?;
    let Frame::Welcome(welcome) = frame else {
        return Err(stream.unexpected(&frame));
    };
    stream.welcome = welcome;
    Ok(stream)
}

impl Stream {
    /// What the relay said of the source when the stream opened.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The next event. Dropping the future loses nothing. After an error the stream is of no more use.
    pub async fn next(&mut self) -> Result<StreamEvent, ClientError> {
        loop {
            let frame = self.frame().await?;
            match frame {
                Frame::Block(bytes) => {
                    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    let block = self.reader.read(bytes).map_err(|error| self.damaged(&error))?;
                    let guard = CreditGuard { credit: Arc::clone(&self.credit), length };
                    return Ok(StreamEvent::Block(block.with_credit(Box::new(guard))));
                }
                Frame::Schema(id, definition) => {
                    self.reader.define(id, &definition).map_err(|error| self.damaged(&error))?;
                }
                Frame::Covered(covered) => return Ok(StreamEvent::Covered(covered)),
                // A sign of life while there is nothing to say.
                Frame::Credit(_) => {}
                Frame::Hello(_) | Frame::Welcome(_) | Frame::Error(_) => {
                    return Err(self.unexpected(&frame));
                }
            }
        }
    }

    async fn frame(&mut self) -> Result<Frame, ClientError> {
        loop {
            match Frame::decode(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(self.damaged(&error)),
            }
            self.buffer.reserve(READ_BYTES);
            let read = timeout(SILENCE_TIMEOUT, self.socket.read_buf(&mut self.buffer)).await;
            match read {
                Ok(Ok(0)) => return Err(transient(&self.address, "connection closed")),
                Ok(Ok(_)) => {}
                Ok(Err(error)) => return Err(transient(&self.address, error.to_string())),
                Err(_) => {
                    let reason = format!("silent for {} s", SILENCE_TIMEOUT.as_secs());
                    return Err(transient(&self.address, reason));
                }
            }
        }
    }

    /// Damage on the way is cured by sending again; a relay that is damaged itself says so.
    fn damaged(&self, error: &dyn std::error::Error) -> ClientError {
        transient(&self.address, error.to_string())
    }

    fn unexpected(&self, frame: &Frame) -> ClientError {
        match frame {
            Frame::Error(error) if error.definite => ClientError::Definite {
                address: self.address.clone(),
                code: Some(error.code),
                reason: error.message.clone(),
            },
            Frame::Error(error) => transient(&self.address, error.message.clone()),
            Frame::Hello(_)
            | Frame::Welcome(_)
            | Frame::Block(_)
            | Frame::Schema(..)
            | Frame::Covered(_)
            | Frame::Credit(_) => transient(&self.address, "frame out of turn"),
        }
    }
}

fn transient(address: &str, reason: impl Into<String>) -> ClientError {
    ClientError::Transient { address: address.to_owned(), reason: reason.into() }
}

#[derive(Debug, Default)]
struct Credit {
    bytes: AtomicU64,
    returned: Notify,
}

#[derive(Debug)]
struct CreditGuard {
    credit: Arc<Credit>,
    length: u64,
}

impl Drop for CreditGuard {
    fn drop(&mut self) {
        self.credit.bytes.fetch_add(self.length, Ordering::Relaxed);
        self.credit.returned.notify_one();
    }
}

/// Sends credit back as blocks are dropped. A broken connection shows on the reading side.
async fn return_credit(mut socket: OwnedWriteHalf, credit: Arc<Credit>, at_least: u64) {
    let mut frame = Vec::new();
    loop {
        credit.returned.notified().await;
        // The relay has the rest of the whole meanwhile, so it never waits for what is kept back here.
        if credit.bytes.load(Ordering::Relaxed) < at_least.max(1) {
            continue;
        }
        let bytes = credit.bytes.swap(0, Ordering::Relaxed);
        frame.clear();
        Frame::Credit(bytes).encode(&mut frame);
        if let Err(error) = socket.write_all(&frame).await {
            tracing::debug!(%error, "credit not returned");
            return;
        }
    }
}
