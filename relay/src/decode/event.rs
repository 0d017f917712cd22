//! Cutting binlog events: header, checksum, and the small events that carry no rows.

use super::DecodeError;
use super::bytes::{Bytes, uint_be, uint_le};

/// Bytes of the common header.
pub const HEADER_LEN: usize = 19;
/// Bytes of the checksum at the end.
pub const CHECKSUM_LEN: usize = 4;

/// The server made the event up for this connection; it is in no file.
pub const FLAG_ARTIFICIAL: u16 = 0x20;
/// A reader that does not know the type may skip it.
pub const FLAG_IGNORABLE: u16 = 0x80;

/// Type codes of events.
pub mod code {
    #![allow(missing_docs, reason = "the names are the documentation")]
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const TABLE_MAP: u8 = 19;
    pub const WRITE_ROWS_V1: u8 = 23;
    pub const UPDATE_ROWS_V1: u8 = 24;
    pub const DELETE_ROWS_V1: u8 = 25;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const ROWS_QUERY: u8 = 29;
    pub const WRITE_ROWS: u8 = 30;
    pub const UPDATE_ROWS: u8 = 31;
    pub const DELETE_ROWS: u8 = 32;
    pub const GTID: u8 = 33;
    pub const ANONYMOUS_GTID: u8 = 34;
    pub const PREVIOUS_GTIDS: u8 = 35;
    pub const TRANSACTION_CONTEXT: u8 = 36;
    pub const VIEW_CHANGE: u8 = 37;
    pub const XA_PREPARE: u8 = 38;
    pub const PARTIAL_UPDATE_ROWS: u8 = 39;
    pub const TRANSACTION_PAYLOAD: u8 = 40;
    pub const HEARTBEAT_V2: u8 = 41;
    pub const GTID_TAGGED: u8 = 42;
    pub const MARIA_ANNOTATE_ROWS: u8 = 160;
    pub const MARIA_BINLOG_CHECKPOINT: u8 = 161;
    pub const MARIA_GTID: u8 = 162;
    pub const MARIA_GTID_LIST: u8 = 163;
    pub const MARIA_START_ENCRYPTION: u8 = 164;
    pub const MARIA_QUERY_COMPRESSED: u8 = 165;
    pub const MARIA_WRITE_ROWS_COMPRESSED_V1: u8 = 166;
    pub const MARIA_UPDATE_ROWS_COMPRESSED_V1: u8 = 167;
    pub const MARIA_DELETE_ROWS_COMPRESSED_V1: u8 = 168;
    pub const MARIA_WRITE_ROWS_COMPRESSED: u8 = 169;
    pub const MARIA_UPDATE_ROWS_COMPRESSED: u8 = 170;
    pub const MARIA_DELETE_ROWS_COMPRESSED: u8 = 171;
}

/// The common header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Seconds since 1970 UTC, when the statement began.
    pub timestamp: u32,
    /// See [`code`].
    pub kind: u8,
    /// Server that first wrote the event.
    pub server_id: u32,
    /// Bytes of the whole event.
    pub size: u32,
    /// Low 32 bits of the offset just behind the event.
    pub end: u32,
    /// Flags.
    pub flags: u16,
}

impl Header {
    /// Reads the first 19 bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Bytes::new(bytes, "header");
        Ok(Self {
            timestamp: input.u32()?,
            kind: input.u8()?,
            server_id: input.u32()?,
            size: input.u32()?,
            end: input.u32()?,
            flags: input.u16()?,
        })
    }

    /// Made up by the server for this connection.
    pub fn is_artificial(&self) -> bool {
        self.flags & FLAG_ARTIFICIAL != 0
    }
}

/// Splits a whole event into header and body, and verifies the checksum where there is one.
pub fn split(bytes: &[u8], checksum: bool) -> Result<(Header, &[u8]), DecodeError> {
    let header = Header::parse(bytes)?;
    Ok((header, body(&header, bytes, checksum)?))
}

/// The body of a whole event with this header, its checksum verified where there is one.
pub fn body<'e>(header: &Header, bytes: &'e [u8], checksum: bool) -> Result<&'e [u8], DecodeError> {
    if usize::try_from(header.size).ok() != Some(bytes.len()) {
        return Err(DecodeError::Invalid("event size in the header"));
    }
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    if !checksum {
        return Ok(body);
    }
    let Some((body, stored)) = body.split_last_chunk::<CHECKSUM_LEN>() else {
        return Err(DecodeError::Truncated("checksum"));
    };
    let covered = bytes.get(..bytes.len() - CHECKSUM_LEN).unwrap_or_default();
    let (expected, computed) = (u32::from_le_bytes(*stored), crc32fast::hash(covered));
    if expected == computed { Ok(body) } else { Err(DecodeError::Checksum { expected, computed }) }
}

/// What a `FORMAT_DESCRIPTION` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    /// `10.11.18-MariaDB-log`.
    pub server_version: String,
    /// Events that follow end with a CRC32.
    pub checksum: bool,
    /// Post-header lengths, by type code minus one.
    pub post_header_len: Vec<u8>,
}

impl Format {
    /// Reads the event's body with its trailing five bytes: the algorithm, and a checksum that the event always
    /// has, whatever the algorithm.
    pub fn parse(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = bytes.get(HEADER_LEN..).ok_or(DecodeError::Truncated("format description"))?;
        let mut input = Bytes::new(body, "format description");
        if input.u16()? != 4 {
            return Err(DecodeError::Unsupported("binlogs older than version 4 cannot be read".to_owned()));
        }
        let version = input.take(50)?;
        let version = version.split(|b| *b == 0).next().unwrap_or_default();
        input.take(4)?;
        if usize::from(input.u8()?) != HEADER_LEN {
            return Err(DecodeError::Invalid("header length in the format description"));
        }
        let Some((lengths, stored)) = input.rest().split_last_chunk::<CHECKSUM_LEN>() else {
            return Err(DecodeError::Truncated("format description"));
        };
        let Some((algorithm, lengths)) = lengths.split_last() else {
            return Err(DecodeError::Truncated("format description"));
        };
        let checksum = match algorithm {
            0 => false,
            1 => true,
            _ => return Err(DecodeError::Invalid("checksum algorithm in the format description")),
        };
        if checksum {
            let covered = bytes.get(..bytes.len() - CHECKSUM_LEN).unwrap_or_default();
            let (expected, computed) = (u32::from_le_bytes(*stored), crc32fast::hash(covered));
            if expected != computed {
                return Err(DecodeError::Checksum { expected, computed });
            }
        }
        Ok(Self {
            server_version: String::from_utf8_lossy(version).into_owned(),
            checksum,
            post_header_len: lengths.to_vec(),
        })
    }

    /// Whether table ids take six bytes (four in very old logs).
    pub fn wide_table_ids(&self) -> bool {
        self.post_header_len.get(usize::from(code::TABLE_MAP) - 1) != Some(&6)
    }
}

/// `ROTATE`: offset in the next file, and its name.
pub fn rotate(body: &[u8]) -> Result<(u64, &str), DecodeError> {
    let mut input = Bytes::new(body, "rotate event");
    let offset = input.u64()?;
    let name = std::str::from_utf8(input.rest()).map_err(|_| DecodeError::Invalid("binlog file name"))?;
    Ok((offset, name))
}

/// A GTID event of any kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gtid {
    /// As the server writes it; none for an anonymous transaction.
    pub gtid: Option<String>,
    /// Commit time on the server read from, microseconds since 1970, where the event has it.
    pub commit_time_us: Option<i64>,
    /// MariaDB: one statement without BEGIN and COMMIT follows.
    pub standalone: bool,
    /// MariaDB: rows of this XA branch follow, named as in its XA COMMIT.
    pub branch: Option<String>,
}

/// Bit 55 of the immediate commit time: an original commit time follows.
const ORIGINAL_TIME_FOLLOWS: u64 = 1 << 55;

/// MySQL's `GTID` (`named`) and `ANONYMOUS_GTID`.
pub fn gtid(body: &[u8], named: bool) -> Result<Gtid, DecodeError> {
    let mut input = Bytes::new(body, "GTID event");
    input.u8()?;
    let uuid: [u8; 16] = input.array()?;
    let number = input.u64()?;
    let mut found = Gtid { gtid: named.then(|| gtid_text(&uuid, "", number)), ..Gtid::default() };
    // Logical clock (5.7 and later), then commit times (8.0.1 and later).
    if input.u8() == Ok(2) {
        input.take(16)?;
        if let Ok(time) = input.take(7) {
            let micros = uint_le(time) & !ORIGINAL_TIME_FOLLOWS;
            found.commit_time_us = i64::try_from(micros).ok();
        }
    }
    Ok(found)
}

/// MySQL 8.3's `GTID_TAGGED`: fields by number in the form of its serialization library.
pub fn gtid_tagged(body: &[u8]) -> Result<Gtid, DecodeError> {
    let mut input = Bytes::new(body, "tagged GTID event");
    let _version = input.varlen()?;
    let _size = input.varlen()?;
    let _last_non_ignorable = input.varlen()?;
    let (mut uuid, mut number, mut tag, mut time) = ([0u8; 16], 0u64, String::new(), None);
    while !input.is_empty() {
        match input.varlen()? {
            1 => {
                // Fixed-size array: each byte is itself a variable-length integer.
                for byte in &mut uuid {
                    *byte =
                        u8::try_from(input.varlen()?).map_err(|_| DecodeError::Invalid("UUID in a GTID"))?;
                }
            }
            2 => number = zigzag(input.varlen()?),
            3 => {
                let len = usize::try_from(input.varlen()?).unwrap_or(usize::MAX);
                tag = String::from_utf8_lossy(input.take(len)?).into_owned();
            }
            6 => time = i64::try_from(input.varlen()?).ok(),
            // Flags; logical clock; original commit time, transaction length, server versions, commit group.
            0 | 4 | 5 | 7..=11 => drop(input.varlen()?),
            _ => break,
        }
    }
    Ok(Gtid { gtid: Some(gtid_text(&uuid, &tag, number)), commit_time_us: time, ..Gtid::default() })
}

/// Signed integers are stored with the sign in the lowest bit; GTID numbers are positive.
fn zigzag(value: u64) -> u64 {
    value >> 1
}

/// MariaDB's `GTID`; the server id is the header's.
pub fn maria_gtid(body: &[u8], server_id: u32) -> Result<Gtid, DecodeError> {
    const STANDALONE: u8 = 1;
    const GROUP_COMMIT: u8 = 2;
    const PREPARED_XA: u8 = 64;
    let mut input = Bytes::new(body, "GTID event");
    let number = input.u64()?;
    let domain = input.u32()?;
    let flags = input.u8()?;
    if flags & GROUP_COMMIT != 0 {
        input.u64()?;
    }
    let branch = if flags & PREPARED_XA == 0 { None } else { Some(branch_name(&mut input)?) };
    Ok(Gtid {
        gtid: Some(format!("{domain}-{server_id}-{number}")),
        commit_time_us: None,
        standalone: flags & STANDALONE != 0,
        branch,
    })
}

/// An XA branch's format, lengths and two parts, as `X'…',X'…',format`.
fn branch_name(input: &mut Bytes<'_>) -> Result<String, DecodeError> {
    let format = input.u32()?;
    let (global, qualifier) = (input.u8()?, input.u8()?);
    let mut hex = |len: u8| -> Result<String, DecodeError> {
        let bytes = input.take(usize::from(len))?;
        Ok(bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02X}")))
    };
    Ok(format!("X'{}',X'{}',{format}", hex(global)?, hex(qualifier)?))
}

/// `uuid:number`, or `uuid:tag:number`.
fn gtid_text(uuid: &[u8; 16], tag: &str, number: u64) -> String {
    /// Digits of the largest number, and two colons.
    const MORE: usize = 22;
    let mut text = String::with_capacity(UUID_LEN + tag.len() + MORE);
    text.push_str(uuid_text(uuid, &mut [0; UUID_LEN]));
    if !tag.is_empty() {
        text.push(':');
        text.push_str(tag);
    }
    text.push(':');
    text.push_str(itoa::Buffer::new().format(number));
    text
}

/// Bytes of a UUID's text.
pub(super) const UUID_LEN: usize = uuid::fmt::Hyphenated::LENGTH;

/// Sixteen bytes as `8-4-4-4-12`.
pub(super) fn uuid_text<'t>(uuid: &[u8; 16], text: &'t mut [u8; UUID_LEN]) -> &'t str {
    uuid::Uuid::from_bytes(*uuid).hyphenated().encode_lower(text)
}

/// What a server says while it has nothing to send, or passes over what is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat<'a> {
    /// Name of the file it is in.
    pub file: &'a [u8],
    /// How far it is in that.
    pub reached: Reached,
}

/// How far a server is in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// So far.
    Offset(u64),
    /// So far, of which it says the low 32 bits alone.
    Low(u32),
    /// It does not say.
    Unknown,
}

/// `HEARTBEAT`, whose header ends at `end`. `MariaDB` has 0 there beyond 4 GiB, and the offset before the name.
pub fn heartbeat(end: u32, body: &[u8]) -> Result<Heartbeat<'_>, DecodeError> {
    if end > 0 {
        return Ok(Heartbeat { file: body, reached: Reached::Low(end) });
    }
    let mut input = Bytes::new(body, "heartbeat");
    let offset = uint_le(input.take(8)?);
    Ok(Heartbeat { file: input.rest(), reached: Reached::Offset(offset) })
}

/// `HEARTBEAT_V2`, which has the whole offset.
pub fn heartbeat_v2(body: &[u8]) -> Result<Heartbeat<'_>, DecodeError> {
    let mut input = Bytes::new(body, "heartbeat");
    let mut heartbeat = Heartbeat { file: &[], reached: Reached::Unknown };
    while !input.is_empty() {
        let kind = input.u8()?;
        if kind == 0 {
            break;
        }
        let value = input.lenenc_bytes()?;
        match kind {
            1 => heartbeat.file = value,
            2 => {
                let offset = Bytes::new(value, "heartbeat").lenenc();
                heartbeat.reached = offset.map_or(Reached::Unknown, Reached::Offset);
            }
            _ => {}
        }
    }
    Ok(heartbeat)
}

/// MariaDB's compressed form: a byte `1aaallll` (algorithm, bytes of the length), the length big endian, zlib. Gives the
/// length, and the zlib data.
pub fn maria_compressed(bytes: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    let mut input = Bytes::new(bytes, "compressed event");
    let head = input.u8()?;
    if head & 0xf0 != 0x80 {
        return Err(DecodeError::Invalid("compression algorithm"));
    }
    let len_bytes = usize::from(head & 0x07);
    if !(1..=4).contains(&len_bytes) {
        return Err(DecodeError::Invalid("compressed event's length"));
    }
    let len = uint_be(input.take(len_bytes)?);
    Ok((len, input.rest()))
}

/// Inflates MariaDB's compressed form. Replaces `out`.
pub fn maria_inflate(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    use std::io::Read as _;
    let (len, data) = maria_compressed(bytes)?;
    out.clear();
    let mut inflater = flate2::read::ZlibDecoder::new(data).take(len.saturating_add(1));
    inflater.read_to_end(out).map_err(|_| DecodeError::Invalid("compressed data"))?;
    if u64::try_from(out.len()).ok() == Some(len) {
        Ok(())
    } else {
        Err(DecodeError::Invalid("length of compressed data"))
    }
}
