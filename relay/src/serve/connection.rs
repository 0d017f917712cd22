//! One connection from hello to its end.

use super::hub::{Hub, Seat, Served};
use super::outbox::Outbox;
use super::places::{Patience, Place};
use super::reading::Reading;
use super::write_within;
use crate::config::Limits;
use crate::log::ReadError;
use crate::schema::SchemaId;
use crate::telemetry::{Bean, Counter, Gauge, ObjectName};
use crate::wire::block::{Filter, Filtered, Selector};
use crate::wire::frame::{
    Covered, ErrorCode, ErrorFrame, Frame, Hello, SourceHead, StartFrom, Welcome, block_header,
};
use crate::wire::{BlockError, Sealed};
use bytes::{Buf as _, BytesMut};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// A client that has not said hello by then is none.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// The last word must not delay a stop.
const FAREWELL: Patience = Patience { idle: Duration::from_millis(500), more: Duration::ZERO };
/// Between covered marks; also the sign of life that clients wait for.
const COVERED_EVERY: Duration = Duration::from_secs(1);
/// The most credit a client may claim.
const MAX_CREDIT_BYTES: i64 = 1 << 40;
/// Credit frames that a client may send between two covered marks: one a block is plenty.
const MAX_CREDIT_FRAMES: u32 = 100_000;
/// The longest that an acknowledgement is waited for.
const MAX_GONE: Duration = Duration::from_hours(24);
/// Small blocks that follow each other go out together, up to about this size.
const GATHER_BYTES: usize = 128 * 1024;
/// The longest name of a member or group that becomes a label.
const MAX_NAME_BYTES: usize = 256;

/// Why a stream ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// The client went away or is stuck.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// It is told so.
    #[error("{}", .0.message)]
    Told(ErrorFrame),
}

impl End {
    fn told(code: ErrorCode, definite: bool, message: impl Into<String>) -> Self {
        Self::Told(ErrorFrame { code, definite, message: message.into() })
    }
}

impl End {
    /// It broke the protocol, or is stuck.
    fn is_clients_fault(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == std::io::ErrorKind::TimedOut,
            Self::Told(error) => error.code == ErrorCode::Protocol,
        }
    }
}

impl From<ReadError> for End {
    fn from(error: ReadError) -> Self {
        let (code, definite) = match &error {
            ReadError::BelowLowest { .. } => (ErrorCode::BelowLowest, true),
            ReadError::Unsupported(_) => (ErrorCode::Unsupported, true),
            // Another relay may have it whole.
            ReadError::Io { .. } | ReadError::Damaged { .. } => (ErrorCode::Internal, false),
        };
        Self::told(code, definite, error.to_string())
    }
}

impl From<BlockError> for End {
    fn from(error: BlockError) -> Self {
        Self::told(ErrorCode::Internal, false, error.to_string())
    }
}

/// Serves one client until it leaves, fails, is replaced, or `shutdown`.
pub(super) async fn run(
    socket: TcpStream,
    peer: SocketAddr,
    place: &Place,
    hub: &Hub,
    shutdown: &CancellationToken,
) {
    if let Err(error) = prepare(&socket, hub.limits()) {
        tracing::debug!(%peer, %error, "socket options not set");
    }
    let (read, mut write) = socket.into_split();
    let mut input = Input { socket: read, buffer: BytesMut::new() };
    let result = tokio::select! {
        () = shutdown.cancelled() => Err(End::told(ErrorCode::Stopping, false, "the relay is stopping")),
        result = stream(&mut input, &mut write, peer, place, hub) => result,
    };
    let Err(end) = result else { return };
    if end.is_clients_fault() {
        place.cut();
        tracing::warn!(%peer, reason = %end, "client cut off");
    } else {
        tracing::info!(%peer, reason = %end, "stream ended");
    }
    if let End::Told(error) = end {
        let mut bytes = Vec::new();
        Frame::Error(error).encode(&mut bytes);
        if let Err(error) = write_within(&mut write, &bytes[..], FAREWELL).await {
            tracing::debug!(%peer, %error, "reason not told");
        }
    }
}

/// What is sent goes out at once; and a client whose host acknowledges nothing of it is gone, although nobody said so:
/// it is sent a mark each second, so that this is noticed whatever its credit. Twice as long as a client that is there may
/// take nothing, so that it is told why.
fn prepare(socket: &TcpStream, limits: &Limits) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let gone = Duration::from_secs(limits.stuck_secs.saturating_mul(2)).min(MAX_GONE);
    socket2::SockRef::from(socket).set_tcp_user_timeout(Some(gone))
}

struct Input {
    socket: OwnedReadHalf,
    buffer: BytesMut,
}

impl Input {
    /// The client's next frame. Dropping the future loses nothing.
    async fn next(&mut self) -> Result<Frame, End> {
        loop {
            match Frame::decode_clients(&mut self.buffer) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(error) => return Err(End::told(ErrorCode::Protocol, true, error.to_string())),
            }
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into());
            }
        }
    }
}

async fn hello(input: &mut Input, hub: &Hub) -> Result<Hello, End> {
    let Ok(frame) = timeout(HELLO_TIMEOUT, input.next()).await else {
        return Err(End::told(ErrorCode::Protocol, false, "no hello came"));
    };
    let Frame::Hello(hello) = frame? else {
        return Err(End::told(ErrorCode::Protocol, true, "the first frame must be a hello"));
    };
    if hello.cluster != hub.cluster() {
        let message = format!("this relay belongs to cluster {:?}, not {:?}", hub.cluster(), hello.cluster);
        return Err(End::told(ErrorCode::UnknownSource, true, message));
    }
    if hello.member.len() > MAX_NAME_BYTES || hello.group.len() > MAX_NAME_BYTES {
        return Err(End::told(
            ErrorCode::Protocol,
            true,
            format!("names are at most {MAX_NAME_BYTES} bytes"),
        ));
    }
    Ok(hello)
}

async fn stream(
    input: &mut Input,
    output: &mut OwnedWriteHalf,
    peer: SocketAddr,
    place: &Place,
    hub: &Hub,
) -> Result<(), End> {
    let hello = hello(input, hub).await?;
    let Some(served) = hub.source(&hello.source) else {
        // Another relay may serve it: not definite.
        let message = format!("this relay does not serve source {:?}", hello.source);
        return Err(End::told(ErrorCode::UnknownSource, false, message));
    };
    let seat = hub.take_seat(&hello);
    tracing::info!(%peer, source = hello.source, group = hello.group, member = hello.member, from = ?hello.from, partitions = hello.partitions.len(), "stream begins");
    let mut bytes = Vec::new();
    Frame::Welcome(welcome(&served)).encode(&mut bytes);
    write_within(output, &bytes[..], place.patience(bytes.len())).await?;
    let numbers = Numbers::new(hub, &hello, seat.has_namesake);
    Streaming::new(&served, &hello, output, place, numbers).run(input, &seat).await
}

fn welcome(served: &Served) -> Welcome {
    let (state, identity) = (served.log.state(), served.identity());
    Welcome {
        server_uuid: identity.server_uuid,
        epoch: identity.epoch,
        lowest: state.lowest.map(|mark| mark.position),
        highest: state.last.map(|last| last.position),
        file_base: identity.file_base,
    }
}

/// The numbers of one stream.
struct Numbers {
    _bean: Bean,
    scn: Gauge,
    rows: Counter,
    bytes: Counter,
    credit: Gauge,
}

impl Numbers {
    fn new(hub: &Hub, hello: &Hello, has_namesake: bool) -> Self {
        let mut keys = vec![
            ("type", "Stream"),
            ("source", &*hello.source),
            ("group", &*hello.group),
            ("member", &*hello.member),
        ];
        // Not the whole number: whoever knows it can end the other streams of that process.
        let process = format!("{:04x}", hello.process.unwrap_or(0) & 0xffff);
        if has_namesake {
            keys.push(("process", &process));
        }
        let bean = hub.registry().bean(ObjectName::new("aesop.relay", &keys));
        let (scn, rows) = (bean.gauge("Scn"), bean.counter("RowsSentTotal"));
        let (bytes, credit) = (bean.counter("BytesSentTotal"), bean.gauge("CreditBytes"));
        Self { _bean: bean, scn, rows, bytes, credit }
    }
}

struct Streaming<'a> {
    served: &'a Served,
    output: &'a mut OwnedWriteHalf,
    place: &'a Place,
    reader: Reading<'a>,
    filter: Filter,
    /// By table and column, where the client asked for it.
    selector: Option<Selector>,
    /// What the client may still be sent; one block may go beyond it.
    credit: i64,
    /// How long it may yet do without: time passes, and what it takes gives some back.
    leisure: Duration,
    /// Schemas the client has.
    defined: HashSet<SchemaId>,
    /// Frames on their way out.
    outbox: Outbox,
    numbers: Numbers,
}

impl<'a> Streaming<'a> {
    fn new(
        served: &'a Served,
        hello: &Hello,
        output: &'a mut OwnedWriteHalf,
        place: &'a Place,
        numbers: Numbers,
    ) -> Self {
        let begin = served.begin(hello.from.clone());
        let from = match &begin {
            StartFrom::Position { position, rows } => Some((*position, *rows)),
            StartFrom::Earliest | StartFrom::Latest | StartFrom::Gtid(_) | StartFrom::Time(_) => None,
        };
        let mut streaming = Self {
            served,
            output,
            place,
            reader: Reading::new(served, begin, !hello.partitions.is_all() || !hello.selection.is_all()),
            filter: Filter::new(hello.partitions.clone(), from),
            selector: Selector::new(hello.selection.clone()),
            credit: 0,
            leisure: place.patience(0).idle,
            defined: HashSet::new(),
            outbox: Outbox::default(),
            numbers,
        };
        streaming.add_credit(hello.credit_bytes);
        streaming
    }

    async fn run(mut self, input: &mut Input, seat: &Seat<'_>) -> Result<(), End> {
        let mut tick = interval(COVERED_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut credit_frames = 0;
        loop {
            tokio::select! {
                biased;
                () = seat.replaced.cancelled() => {
                    return Err(End::told(ErrorCode::Replaced, false, "a newer stream of this member took over"));
                }
                frame = input.next() => match frame? {
                    Frame::Credit(bytes) => {
                        credit_frames += 1;
                        if credit_frames > MAX_CREDIT_FRAMES {
                            let message = format!("more than {MAX_CREDIT_FRAMES} frames of credit in a second");
                            return Err(End::told(ErrorCode::Protocol, true, message));
                        }
                        self.add_credit(bytes);
                    }
                    Frame::Hello(_) | Frame::Welcome(_) | Frame::Error(_) | Frame::Block(_) | Frame::Schema(..)
                    | Frame::Covered(_) => {
                        return Err(End::told(ErrorCode::Protocol, true, "after hello a client sends credit only"));
                    }
                },
                _ = tick.tick() => {
                    credit_frames = 0;
                    self.wait_for_credit()?;
                    self.covered().await?;
                }
                block = self.reader.next(), if self.credit > 0 => self.block(&block?).await?,
            }
        }
    }

    /// Another second has passed. A client that takes nothing, or next to nothing, holds nothing that others may want.
    fn wait_for_credit(&mut self) -> Result<(), End> {
        if self.credit > 0 {
            return Ok(());
        }
        self.leisure = self.leisure.saturating_sub(COVERED_EVERY);
        if self.leisure.is_zero() { self.reader.rest() } else { Ok(()) }
    }

    fn add_credit(&mut self, bytes: u64) {
        let bytes = i64::try_from(bytes).unwrap_or(MAX_CREDIT_BYTES).min(MAX_CREDIT_BYTES);
        self.credit = self.credit.saturating_add(bytes).min(MAX_CREDIT_BYTES);
        if self.credit > 0 && self.leisure.is_zero() {
            self.leisure = self.place.patience(0).idle;
        }
        self.numbers.credit.set(self.credit);
    }

    /// The place where the stream begins may be found late, or be another than the block's.
    fn begin(&mut self) {
        if let Some(position) = self.reader.begins() {
            self.filter.begin_at(position);
        }
    }

    async fn block(&mut self, block: &Sealed) -> Result<(), End> {
        let sent = self.part_of(block).await;
        self.reader.sent();
        sent
    }

    async fn part_of(&mut self, block: &Sealed) -> Result<(), End> {
        self.begin();
        let repacked;
        let block = match self.filter.apply(block)? {
            Filtered::Whole => block,
            Filtered::Repacked(block) => {
                repacked = block;
                &repacked
            }
            Filtered::Nothing => return self.send_gathered(false).await,
        };
        let selected;
        let block = match &mut self.selector {
            None => block,
            Some(selector) => match selector.apply(block, |id| self.reader.schema(id))? {
                Filtered::Whole => block,
                Filtered::Repacked(block) => {
                    selected = block;
                    &selected
                }
                Filtered::Nothing => return self.send_gathered(false).await,
            },
        };
        self.define(block)?;
        let bytes = block.bytes();
        self.outbox.tail().extend_from_slice(&block_header(bytes.len()));
        self.outbox.push(bytes);
        let length = u64::try_from(bytes.len()).unwrap_or(0);
        self.credit -= i64::try_from(length).unwrap_or(i64::MAX);
        let patience = self.place.patience(bytes.len());
        self.leisure = patience.idle.min(self.leisure + patience.more);
        self.numbers.credit.set(self.credit);
        self.numbers.bytes.add(length);
        self.numbers.rows.add(u64::from(block.header().rows));
        self.numbers.scn.set_u64(block.header().last.scn().0);
        self.send_gathered(false).await
    }

    /// Sends what is gathered, if it is much, or if nothing can be added to it at once.
    async fn send_gathered(&mut self, all: bool) -> Result<(), End> {
        let more =
            !all && self.credit > 0 && self.outbox.remaining() < GATHER_BYTES && self.reader.is_ready();
        if self.outbox.is_empty() || more {
            return Ok(());
        }
        let patience = self.place.patience(self.outbox.remaining());
        Ok(write_within(self.output, &mut self.outbox, patience).await?)
    }

    /// Sends the schemas of a block that the client lacks and the block does not bring.
    fn define(&mut self, block: &Sealed) -> Result<(), End> {
        for (id, definition) in block.schemas()? {
            if !self.defined.insert(id) || definition.is_some() {
                continue;
            }
            let seen = self.selector.as_ref().and_then(|selector| selector.definition(id));
            let definition =
                seen.or_else(|| self.reader.schema(id)).ok_or(BlockError::UnknownSchema(id.0))?;
            Frame::Schema(id, definition).encode(self.outbox.tail());
        }
        Ok(())
    }

    async fn covered(&mut self) -> Result<(), End> {
        self.begin();
        let mark = self.reader.covered().filter(|mark| !self.filter.is_before(mark.position));
        let frame = match mark {
            Some(mark) => {
                let head =
                    self.served.log.state().covered.map_or_else(SourceHead::default, |head| SourceHead {
                        file_name: head.file_name,
                        end_offset: head.position.offset,
                        commit_time_us: head.commit_time_us,
                    });
                Frame::Covered(Covered {
                    position: mark.position,
                    file_name: mark.file_name,
                    commit_time_us: mark.commit_time_us,
                    server_uuid: self.served.identity().server_uuid,
                    head,
                })
            }
            // Nothing to say yet, but alive.
            None => Frame::Credit(0),
        };
        // Behind the blocks that it covers.
        frame.encode(self.outbox.tail());
        self.send_gathered(true).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn a_host_that_acknowledges_nothing_is_given_up() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (served, _) = listener.accept().await.unwrap();
        for (stuck_secs, expected) in [(30, 60), (u64::MAX, 24 * 3600)] {
            prepare(&served, &Limits { stuck_secs, ..Limits::default() }).unwrap();
            let set = socket2::SockRef::from(&served).tcp_user_timeout().unwrap();
            assert_eq!(set, Some(Duration::from_secs(expected)));
        }
    }
}
