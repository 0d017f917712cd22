//! The frames between a consumer and a relay: length-prefixed, versioned, checksummed.
//!
//! `magic u16, version u8, kind u8, length u32, crc32 u32, payload`; all little-endian. The checksum covers the
//! eight bytes before it and the payload, save that of a block, which has its own.

use super::block::{MAX_BYTES, MAX_SCHEMA_BYTES};
use super::codec::{Input, Malformed, Output};
use super::partitions::PartitionSet;
use super::selection::Selection;
use crate::position::Position;
use crate::schema::SchemaId;
use bytes::{Buf as _, Bytes, BytesMut};

const MAGIC: u16 = u16::from_le_bytes(*b"AE");
/// The protocol. A peer that knows less is spoken to in it as long as nothing later is asked of it.
pub const VERSION: u8 = 1;
/// Of a hello that selects tables or columns: a relay that cannot do so refuses it, rather than send everything.
const SELECTING_VERSION: u8 = 2;
/// Of a hello that says of which process it is, behind what it selects.
const PROCESS_VERSION: u8 = 3;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 12;
/// The longest control frame: a hello with 65,536 partitions (8 KiB) and a long GTID set.
pub const MAX_CONTROL_BYTES: usize = 64 * 1024;

/// Where a stream begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// Behind the first `rows` rows of the transaction at `position`.
    Position {
        /// Start of a transaction, or a covered position.
        position: Position,
        /// Rows of it that are done, counted before any filter.
        rows: u64,
    },
    /// With the first transaction in the relay's log.
    Earliest,
    /// Behind the last transaction in the relay's log.
    Latest,
    /// With the first transaction that is not in this GTID set.
    Gtid(String),
    /// With the first transaction committed at this time or later, microseconds since 1970 UTC.
    Time(i64),
}

/// Opens a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The inventory's cluster; a relay serves its own only.
    pub cluster: String,
    /// Which source.
    pub source: String,
    /// The consumer group.
    pub group: String,
    /// The member of the group; a newer stream of the same group, member, source and process ends the older.
    pub member: String,
    /// Where to begin.
    pub from: StartFrom,
    /// Which partitions.
    pub partitions: PartitionSet,
    /// Bytes of blocks the client is ready to hold.
    pub credit_bytes: u64,
    /// Which tables and columns.
    pub selection: Selection,
    /// A number that the member's process has drawn and tells relays alone: nobody else ends its streams. None of a
    /// client of protocol version 2 or 1.
    pub process: Option<u128>,
}

/// Answers a hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// `server_uuid` of the source (MariaDB: `server_id` in decimal); empty while the relay never reached it.
    pub server_uuid: String,
    /// The source's current epoch.
    pub epoch: u32,
    /// From here on the log holds everything; `None` while it is empty.
    pub lowest: Option<Position>,
    /// Last whole transaction in the log.
    pub highest: Option<Position>,
    /// What binlog file names begin with: `mysql-bin`.
    pub file_base: String,
}

/// Why a stream is refused or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// The relay does not serve this source, or not this cluster.
    UnknownSource,
    /// The position asked for is older than the log.
    BelowLowest,
    /// The relay has as many streams as it takes.
    Busy,
    /// A newer stream of the same member took over.
    Replaced,
    /// The relay is stopping.
    Stopping,
    /// The client broke the protocol.
    Protocol,
    /// The relay failed to read its log.
    Internal,
    /// What was asked for cannot be served from here.
    Unsupported,
}

/// Ends a stream with a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorFrame {
    /// What kind.
    pub code: ErrorCode,
    /// Trying again, here or at another relay, will not help.
    pub definite: bool,
    /// For people; names the remedy.
    pub message: String,
}

/// How far the relay has read its source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceHead {
    /// Binlog file name.
    pub file_name: String,
    /// End offset of the last event read.
    pub end_offset: u64,
    /// Its commit time, microseconds since 1970 UTC.
    pub commit_time_us: i64,
}

/// Everything of the stream's partitions before `position` was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Covered {
    /// A stream may begin again here with nothing lost.
    pub position: Position,
    /// Binlog file name of `position`.
    pub file_name: String,
    /// Commit time of the last thing before it, microseconds since 1970 UTC; 0 where unknown.
    pub commit_time_us: i64,
    /// `server_uuid` of the source (MariaDB: `server_id` in decimal).
    pub server_uuid: String,
    /// How far the relay itself is.
    pub head: SourceHead,
}

/// One message.
#[derive(Clone, Debug)]
pub enum Frame {
    /// Client: opens the stream; first and once.
    Hello(Hello),
    /// Server: accepts it.
    Welcome(Welcome),
    /// Server: ends it.
    Error(ErrorFrame),
    /// Server: a block, not yet verified.
    Block(Bytes),
    /// Server: a schema that the next block uses.
    Schema(SchemaId, Bytes),
    /// Server: each second.
    Covered(Covered),
    /// Client: this many more bytes of blocks.
    Credit(u64),
}

const HELLO: u8 = 1;
const WELCOME: u8 = 2;
const ERROR: u8 = 3;
const BLOCK: u8 = 4;
const SCHEMA: u8 = 5;
const COVERED: u8 = 6;
const CREDIT: u8 = 7;

/// Why bytes are no frame; the connection is of no more use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Something else speaks on this port.
    #[error("the peer does not speak aesop's protocol; check the port")]
    Magic,
    /// A newer peer.
    #[error("protocol version {0} is not known to this version of aesop; upgrade it")]
    Version(u8),
    /// More than this kind of frame may have.
    #[error("frame of kind {kind} with {length} bytes is over the limit")]
    TooLong {
        /// Kind byte.
        kind: u8,
        /// Length it claims.
        length: usize,
    },
    /// No such kind.
    #[error("unknown frame kind {0}")]
    Kind(u8),
    /// A kind that the other side alone sends.
    #[error("clients send no frames of kind {0}")]
    Direction(u8),
    /// Bits changed on the way.
    #[error("frame checksum does not match")]
    Checksum,
    /// The checksum is right and the content makes no sense.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

impl Frame {
    /// Appends the frame. A block is better sent as [`block_header`] and its own bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut payload = Vec::new();
        let mut version = VERSION;
        let kind = match self {
            Self::Hello(hello) => {
                put_hello(hello, &mut payload);
                if !hello.selection.is_all() || hello.process.is_some() {
                    version = SELECTING_VERSION;
                    put_selection(&hello.selection, &mut payload);
                }
                if let Some(process) = hello.process {
                    version = PROCESS_VERSION;
                    payload.put(&process.to_le_bytes());
                }
                HELLO
            }
            Self::Welcome(welcome) => {
                payload.put_text(&welcome.server_uuid);
                payload.put_u32(welcome.epoch);
                put_position(welcome.lowest, &mut payload);
                put_position(welcome.highest, &mut payload);
                payload.put_text(&welcome.file_base);
                WELCOME
            }
            Self::Error(error) => {
                payload.put_u8(code_byte(error.code));
                payload.put_u8(u8::from(error.definite));
                payload.put_text(&error.message);
                ERROR
            }
            Self::Block(bytes) => {
                out.extend_from_slice(&block_header(bytes.len()));
                out.extend_from_slice(bytes);
                return;
            }
            Self::Schema(id, definition) => {
                payload.put_u64(id.0);
                payload.put(definition);
                SCHEMA
            }
            Self::Covered(covered) => {
                put_position(Some(covered.position), &mut payload);
                payload.put_text(&covered.file_name);
                payload.put_i64(covered.commit_time_us);
                payload.put_text(&covered.server_uuid);
                payload.put_text(&covered.head.file_name);
                payload.put_u64(covered.head.end_offset);
                payload.put_i64(covered.head.commit_time_us);
                COVERED
            }
            Self::Credit(bytes) => {
                payload.put_u64(*bytes);
                CREDIT
            }
        };
        out.extend_from_slice(&header(version, kind, payload.len(), &payload));
        out.extend_from_slice(&payload);
    }

    /// As [`Frame::decode`], of what a client sends: what it may not send is refused by its header, before anything of it
    /// is kept.
    pub fn decode_clients(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        match buffer.first_chunk() {
            Some(&[a, b, VERSION..=PROCESS_VERSION, kind])
                if u16::from_le_bytes([a, b]) == MAGIC && !matches!(kind, HELLO | CREDIT) =>
            {
                Err(FrameError::Direction(kind))
            }
            _ => Self::decode(buffer),
        }
    }

    /// Takes a frame off the front of `buffer`; `None` when it is not all there yet.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Self>, FrameError> {
        let Some(head) = buffer.get(..HEADER_BYTES) else {
            return Ok(None);
        };
        let mut input = Input::new(head);
        if input.u16("frame magic")? != MAGIC {
            return Err(FrameError::Magic);
        }
        let version = input.u8("frame version")?;
        let kind = input.u8("frame kind")?;
        let newest = if kind == HELLO { PROCESS_VERSION } else { VERSION };
        if !(VERSION..=newest).contains(&version) {
            return Err(FrameError::Version(version));
        }
        let length = input.len32("frame length")?;
        let stored = input.u32("frame checksum")?;
        if length > limit(kind)? {
            return Err(FrameError::TooLong { kind, length });
        }
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(head.get(..8).unwrap_or_default());
        // A damaged length must not make us wait for bytes that never come: a block's header is checked at once.
        if kind == BLOCK && hasher.clone().finalize() != stored {
            return Err(FrameError::Checksum);
        }
        if buffer.len() < HEADER_BYTES + length {
            return Ok(None);
        }
        buffer.advance(HEADER_BYTES);
        let payload = buffer.split_to(length).freeze();
        if kind == BLOCK {
            return Ok(Some(Self::Block(payload)));
        }
        hasher.update(&payload);
        if hasher.finalize() != stored {
            return Err(FrameError::Checksum);
        }
        parse(version, kind, &payload).map(Some)
    }
}

/// The frame header of a block of this length.
pub fn block_header(length: usize) -> [u8; HEADER_BYTES] {
    header(VERSION, BLOCK, length, &[])
}

fn header(version: u8, kind: u8, length: usize, summed: &[u8]) -> [u8; HEADER_BYTES] {
    let mut head = Vec::with_capacity(HEADER_BYTES);
    head.put_u16(MAGIC);
    head.put_u8(version);
    head.put_u8(kind);
    head.put_len(length);
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&head);
    hasher.update(summed);
    head.put_u32(hasher.finalize());
    head.first_chunk().copied().unwrap_or_default()
}

fn limit(kind: u8) -> Result<usize, FrameError> {
    match kind {
        HELLO | WELCOME | ERROR | COVERED | CREDIT => Ok(MAX_CONTROL_BYTES),
        SCHEMA => Ok(MAX_SCHEMA_BYTES + 8),
        BLOCK => Ok(MAX_BYTES),
        other => Err(FrameError::Kind(other)),
    }
}

fn parse(version: u8, kind: u8, payload: &Bytes) -> Result<Frame, FrameError> {
    let mut input = Input::new(payload);
    let frame = match kind {
        HELLO => {
            let mut hello = hello(&mut input)?;
            if version >= SELECTING_VERSION {
                hello.selection = selection(&mut input)?;
            }
            if version >= PROCESS_VERSION {
                let process = input.bytes(16, "hello process")?;
                hello.process = process.first_chunk().map(|bytes| u128::from_le_bytes(*bytes));
            }
            Frame::Hello(hello)
        }
        WELCOME => Frame::Welcome(Welcome {
            server_uuid: input.text("welcome server uuid")?.to_owned(),
            epoch: input.u32("welcome epoch")?,
            lowest: position(&mut input)?,
            highest: position(&mut input)?,
            file_base: input.text("welcome file base")?.to_owned(),
        }),
        ERROR => Frame::Error(ErrorFrame {
            code: code(input.u8("error code")?)?,
            definite: input.u8("error kind")? != 0,
            message: input.text("error message")?.to_owned(),
        }),
        SCHEMA => {
            let id = SchemaId(input.u64("schema id")?);
            let definition = input.bytes(input.len(), "schema definition")?;
            Frame::Schema(id, payload.slice_ref(definition))
        }
        COVERED => Frame::Covered(Covered {
            position: position(&mut input)?.ok_or(Malformed { what: "covered position" })?,
            file_name: input.text("covered file name")?.to_owned(),
            commit_time_us: input.i64("covered commit time")?,
            server_uuid: input.text("covered server uuid")?.to_owned(),
            head: SourceHead {
                file_name: input.text("head file name")?.to_owned(),
                end_offset: input.u64("head end offset")?,
                commit_time_us: input.i64("head commit time")?,
            },
        }),
        CREDIT => Frame::Credit(input.u64("credit")?),
        other => return Err(FrameError::Kind(other)),
    };
    if input.is_empty() { Ok(frame) } else { Err(Malformed { what: "frame length" }.into()) }
}

fn put_hello(hello: &Hello, out: &mut Vec<u8>) {
    out.put_text(&hello.cluster);
    out.put_text(&hello.source);
    out.put_text(&hello.group);
    out.put_text(&hello.member);
    match &hello.from {
        StartFrom::Position { position, rows } => {
            out.put_u8(1);
            put_position(Some(*position), out);
            out.put_u64(*rows);
        }
        StartFrom::Earliest => out.put_u8(2),
        StartFrom::Latest => out.put_u8(3),
        StartFrom::Gtid(set) => {
            out.put_u8(4);
            out.put_text(set);
        }
        StartFrom::Time(time_us) => {
            out.put_u8(5);
            out.put_i64(*time_us);
        }
    }
    out.put_u64(hello.credit_bytes);
    out.put_u32(hello.partitions.count());
    for word in hello.partitions.words() {
        out.put_u64(*word);
    }
}

fn hello(input: &mut Input<'_>) -> Result<Hello, Malformed> {
    let cluster = input.text("hello cluster")?.to_owned();
    let source = input.text("hello source")?.to_owned();
    let group = input.text("hello group")?.to_owned();
    let member = input.text("hello member")?.to_owned();
    let from = match input.u8("hello start")? {
        1 => {
            let position = position(input)?.ok_or(Malformed { what: "hello position" })?;
            StartFrom::Position { position, rows: input.u64("hello rows")? }
        }
        2 => StartFrom::Earliest,
        3 => StartFrom::Latest,
        4 => StartFrom::Gtid(input.text("hello gtid set")?.to_owned()),
        5 => StartFrom::Time(input.i64("hello time")?),
        _ => return Err(Malformed { what: "hello start" }),
    };
    let credit_bytes = input.u64("hello credit")?;
    let count = input.u32("hello partition count")?;
    if count == 0 || count > PartitionSet::MAX {
        return Err(Malformed { what: "hello partition count" });
    }
    let mut partitions = PartitionSet::empty(count);
    for at in 0..count.div_ceil(64) {
        let word = input.u64("hello partitions")?;
        (0..64).filter(|bit| word >> bit & 1 == 1).for_each(|bit| partitions.insert(at * 64 + bit));
    }
    let (selection, process) = (Selection::default(), None);
    Ok(Hello { cluster, source, group, member, from, partitions, credit_bytes, selection, process })
}

fn put_selection(selection: &Selection, out: &mut Vec<u8>) {
    for globs in [&selection.tables, &selection.include_columns, &selection.exclude_columns] {
        out.put_len(globs.len());
        for glob in globs {
            out.put_text(glob);
        }
    }
}

fn selection(input: &mut Input<'_>) -> Result<Selection, Malformed> {
    let mut globs = || -> Result<Vec<String>, Malformed> {
        let count = input.u32("hello pattern count")?;
        (0..count).map(|_| Ok(input.text("hello pattern")?.to_owned())).collect()
    };
    Ok(Selection { tables: globs()?, include_columns: globs()?, exclude_columns: globs()? })
}

fn put_position(position: Option<Position>, out: &mut Vec<u8>) {
    out.put_u8(u8::from(position.is_some()));
    let position = position.unwrap_or_default();
    out.put_u32(position.epoch);
    out.put_u32(position.file);
    out.put_u64(position.offset);
}

fn position(input: &mut Input<'_>) -> Result<Option<Position>, Malformed> {
    let present = input.u8("position")? != 0;
    let (epoch, file) = (input.u32("position epoch")?, input.u32("position file")?);
    let offset = input.u64("position offset")?;
    Ok(present.then_some(Position::new(epoch, file, offset)))
}

const CODES: [ErrorCode; 8] = [
    ErrorCode::UnknownSource,
    ErrorCode::BelowLowest,
    ErrorCode::Busy,
    ErrorCode::Replaced,
    ErrorCode::Stopping,
    ErrorCode::Protocol,
    ErrorCode::Internal,
    ErrorCode::Unsupported,
];

fn code_byte(code: ErrorCode) -> u8 {
    let at = CODES.iter().position(|known| *known == code).unwrap_or_default();
    u8::try_from(at + 1).unwrap_or_default()
}

fn code(byte: u8) -> Result<ErrorCode, Malformed> {
    let at = usize::from(byte).checked_sub(1).ok_or(Malformed { what: "error code" })?;
    CODES.get(at).copied().ok_or(Malformed { what: "error code" })
}

#[cfg(test)]
mod tests;
