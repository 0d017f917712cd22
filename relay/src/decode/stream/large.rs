//! Events too large to be held: the rows and compressed transactions of which are taken as their bytes come.

use super::payload::Payload;
use super::{Assembler, Progress, StreamError};
use crate::decode::DecodeError;
use crate::decode::event::{self, CHECKSUM_LEN, HEADER_LEN, Header, code};
use crate::decode::rows::{self, Encoding, Rows, RowsKind};
use crate::decode::walk::Walk;
use crate::event::TransactionSink;

/// Within so many bytes an event says all that stands before its rows, or before the data of a compressed transaction:
/// 64 KiB of extra data, and bitmaps of 4096 columns.
pub const FRONT: usize = 128 * 1024;
/// Rows events from this size on are not held, wherever they come from: a packet of the protocol.
pub(super) const LARGE: usize = 1 << 24;

/// A rows event of which the bytes are still coming.
pub(super) struct LargeRows {
    kind: RowsKind,
    /// None: nobody wants its rows.
    walk: Option<Walk>,
    inflate: Option<Inflate>,
}

/// The zlib data of MariaDB's compressed events.
struct Inflate {
    state: flate2::Decompress,
    out: Vec<u8>,
    len: u64,
    ended: bool,
}

impl Inflate {
    /// Bytes inflated at once.
    const CHUNK: usize = 64 * 1024;

    fn new(len: u64) -> Self {
        Self { state: flate2::Decompress::new(true), out: vec![0; Self::CHUNK], len, ended: false }
    }

    fn push<E: From<DecodeError>>(
        &mut self,
        mut input: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        const INVALID: DecodeError = DecodeError::Invalid("compressed data");
        while !self.ended {
            let (read, written) = (self.state.total_in(), self.state.total_out());
            let status = self.state.decompress(input, &mut self.out, flate2::FlushDecompress::None);
            self.ended = status.map_err(|_| INVALID)? == flate2::Status::StreamEnd;
            let took = usize::try_from(self.state.total_in() - read).map_err(|_| INVALID)?;
            let gave = usize::try_from(self.state.total_out() - written).map_err(|_| INVALID)?;
            if self.state.total_out() > self.len {
                return Err(DecodeError::Invalid("length of compressed data").into());
            }
            input = input.get(took..).unwrap_or_default();
            each(self.out.get(..gave).unwrap_or_default())?;
            if input.is_empty() && gave < self.out.len() {
                break;
            }
            if took == 0 && gave == 0 {
                return Err(INVALID.into());
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), DecodeError> {
        match (self.ended, self.state.total_out() == self.len) {
            (true, true) => Ok(()),
            (true, false) => Err(DecodeError::Invalid("length of compressed data")),
            (false, _) => Err(DecodeError::Invalid("compressed data")),
        }
    }
}

/// An event that comes in parts.
pub(super) struct Parts {
    header: Header,
    start: u64,
    /// Bytes of its body that are still to come.
    left: usize,
    sum: crc32fast::Hasher,
    /// The checksum so far.
    stored: Vec<u8>,
    body: Body,
}

enum Body {
    Rows(Box<LargeRows>),
    Payload(Box<Payload>),
    /// Of no meaning to us.
    Passed,
    /// All others: they are as large as statements are.
    Whole(Vec<u8>),
}

/// Whether an event means nothing to us, so that its content is not needed.
pub(super) fn is_passed(header: &Header) -> bool {
    matches!(header.kind, code::ROWS_QUERY | code::USER_VAR | code::IGNORABLE | code::MARIA_ANNOTATE_ROWS)
}

impl Assembler {
    /// Begins an event that comes in parts: `first` has its header and its front, [`FRONT`] bytes are enough.
    pub fn begin_parts<S: TransactionSink>(
        &mut self,
        first: &[u8],
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        const SIZE: DecodeError = DecodeError::Invalid("event size in the header");
        let header = Header::parse(first)?;
        let start = self.advance(&header);
        let around = HEADER_LEN + if self.checksum { CHECKSUM_LEN } else { 0 };
        let left = usize::try_from(header.size).ok().and_then(|size| size.checked_sub(around)).ok_or(SIZE)?;
        let (head, rest) = first.split_at_checked(HEADER_LEN).ok_or(SIZE)?;
        let front = rest.get(..left).unwrap_or(rest);
        // Each begins behind what its front took.
        let (body, read) = if rows::layout(header.kind).is_some() {
            let (rows, read) = self.large_rows(&header, front)?;
            (Body::Rows(Box::new(rows)), read)
        } else if header.kind == code::TRANSACTION_PAYLOAD {
            let (payload, read) = Payload::new(&header, front, start)?;
            (Body::Payload(Box::new(payload)), read)
        } else if is_passed(&header) {
            (Body::Passed, 0)
        } else {
            (Body::Whole(Vec::new()), 0)
        };
        let mut sum = crc32fast::Hasher::new();
        sum.update(head);
        let (front, rest) = rest.split_at_checked(read).ok_or(SIZE)?;
        sum.update(front);
        self.parts = Some(Parts { header, start, left: left - read, sum, stored: Vec::new(), body });
        self.part(rest, sink)
    }

    /// The next bytes of an event that comes in parts.
    pub fn part<S: TransactionSink>(
        &mut self,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let Some(mut parts) = self.parts.take() else {
            return Err(DecodeError::Invalid("part of an event that did not begin").into());
        };
        let (body, behind) = bytes.split_at_checked(parts.left).unwrap_or((bytes, &[]));
        parts.left -= body.len();
        parts.sum.update(body);
        parts.stored.extend_from_slice(behind);
        if parts.stored.len() > CHECKSUM_LEN {
            return Err(DecodeError::Invalid("event size in the header").into());
        }
        match &mut parts.body {
            Body::Rows(rows) => self.push_rows(rows, body, sink)?,
            Body::Payload(payload) => self.push_payload(payload, body, sink)?,
            Body::Passed => {}
            Body::Whole(whole) => whole.extend_from_slice(body),
        }
        self.parts = Some(parts);
        Ok(())
    }

    /// The event ends here: its checksum tells whether all its bytes were right. Rows of it were handed on before, but
    /// no end of a transaction.
    pub fn end_parts<S: TransactionSink>(&mut self, sink: &mut S) -> Result<Progress, StreamError<S::Error>> {
        let Some(mut parts) = self.parts.take() else {
            return Err(DecodeError::Invalid("end of an event that did not begin").into());
        };
        let stored = parts.stored.first_chunk().copied();
        if parts.left > 0 || stored.is_some() != self.checksum {
            return Err(DecodeError::Invalid("event size in the header").into());
        }
        if let Some(stored) = stored {
            let (expected, computed) = (u32::from_le_bytes(stored), parts.sum.finalize());
            if expected != computed {
                return Err(DecodeError::Checksum { expected, computed }.into());
            }
        }
        match &mut parts.body {
            Body::Rows(rows) => {
                rows.finish()?;
                Ok(Progress::Event)
            }
            Body::Payload(payload) => self.finish_payload(payload, sink),
            Body::Passed => Ok(Progress::Event),
            Body::Whole(whole) => self.inner(&parts.header, whole, parts.start, sink),
        }
    }

    /// Begins the rows of an event with this front; also how many bytes stand before them.
    pub(super) fn large_rows<E>(
        &self,
        header: &Header,
        front: &[u8],
    ) -> Result<(LargeRows, usize), StreamError<E>> {
        let Some((kind, version, encoding)) = rows::layout(header.kind) else {
            return Err(DecodeError::Invalid("rows event").into());
        };
        let parsed = rows::parse(front, kind, version, self.wide_ids)?;
        let (inflate, encoding, data) = if encoding == Encoding::Compressed {
            let (len, data) = event::maria_compressed(parsed.data)?;
            (Some(Inflate::new(len)), Encoding::Plain, data)
        } else {
            (None, encoding, parsed.data)
        };
        let walk = self
            .wanted(&parsed)?
            .map(|table| Walk::new(&table.schema, &parsed, kind, encoding, self.limit.bytes));
        Ok((LargeRows { kind, walk, inflate }, front.len() - data.len()))
    }

    pub(super) fn push_rows<S: TransactionSink>(
        &mut self,
        large: &mut LargeRows,
        bytes: &[u8],
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let LargeRows { kind, walk: Some(walk), inflate } = large else { return Ok(()) };
        let mut row = |rows: &Rows<'_>, encoding| self.rows(rows, *kind, encoding, sink);
        match inflate {
            Some(inflate) => inflate.push(bytes, |piece| walk.push(piece, &mut row)),
            None => walk.push(bytes, &mut row),
        }
    }

    /// A whole rows event that was compressed and is large when it is not.
    pub(super) fn inflated_rows<S: TransactionSink>(
        &mut self,
        header: &Header,
        body: &[u8],
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let (mut rows, read) = self.large_rows(header, body)?;
        self.push_rows(&mut rows, body.get(read..).unwrap_or_default(), sink)?;
        Ok(rows.finish()?)
    }
}

impl LargeRows {
    /// The event ends here.
    pub(super) fn finish(&self) -> Result<(), DecodeError> {
        let Some(walk) = &self.walk else { return Ok(()) };
        self.inflate.as_ref().map_or(Ok(()), Inflate::finish)?;
        walk.finish()
    }
}
