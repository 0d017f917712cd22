//! Compressed transactions of MySQL.

use super::large::{FRONT, LargeRows, is_passed};
use super::{Assembler, Progress, StreamError};
use crate::decode::event::{HEADER_LEN, Header};
use crate::decode::{Bytes, DecodeError, rows};
use crate::event::TransactionSink;
use zstd::stream::raw::{Decoder, Operation as _};

/// Greatest event inside a compressed transaction: MySQL's greatest `max_allowed_packet`.
const MAX_INNER_EVENT: usize = 1 << 30;
/// Bytes inflated at once.
const CHUNK: usize = 128 * 1024;
const INVALID: DecodeError = DecodeError::Invalid("compressed transaction");

/// A compressed transaction of which the bytes are still coming.
pub(super) struct Payload {
    /// None: its data are as they are.
    inflate: Option<Decoder<'static>>,
    out: Vec<u8>,
    /// No frame of the data is unfinished.
    at_end: bool,
    /// Header and start of the event that it came in.
    outer: Header,
    start: u64,
    /// The event inside that comes now; it waits for the next one when it is whole. So the last, which ends the
    /// transaction, is handled when the outer event was found to be right.
    event: Vec<u8>,
    is_whole: bool,
    /// A large event, in place of `event`.
    large: Option<Large>,
    progress: Progress,
}

/// An event inside that is not held.
struct Large {
    /// None for an event that means nothing to us.
    rows: Option<LargeRows>,
    left: usize,
}

impl Payload {
    /// Begins with the fields that stand before the data; also how many bytes they take.
    pub(super) fn new(outer: &Header, front: &[u8], start: u64) -> Result<(Self, usize), DecodeError> {
        const UNCOMPRESSED: u64 = 255;
        let mut input = Bytes::new(front, "compressed transaction");
        let mut method = UNCOMPRESSED;
        loop {
            let field = input.lenenc()?;
            if field == 0 {
                break;
            }
            let value = input.lenenc_bytes()?;
            if field == 2 {
                method = Bytes::new(value, "compressed transaction").lenenc()?;
            }
        }
        let inflate = match method {
            0 => Some(Decoder::new().map_err(|_| INVALID)?),
            UNCOMPRESSED => None,
            _ => {
                return Err(DecodeError::Unsupported(format!(
                    "a transaction is compressed by method {method}, which is not known"
                )));
            }
        };
        let out = if inflate.is_some() { vec![0; CHUNK] } else { Vec::new() };
        let payload = Self {
            inflate,
            out,
            at_end: true,
            outer: *outer,
            start,
            event: Vec::new(),
            is_whole: false,
            large: None,
            progress: Progress::Event,
        };
        Ok((payload, front.len() - input.rest().len()))
    }

    /// Bytes to have of the event before something can be done with it.
    fn wanted(&self, large: usize) -> Result<usize, DecodeError> {
        if self.event.len() < HEADER_LEN {
            return Ok(HEADER_LEN);
        }
        let header = Header::parse(&self.event)?;
        let size = usize::try_from(header.size).map_err(|_| INVALID)?;
        if !(HEADER_LEN..=MAX_INNER_EVENT).contains(&size) {
            return Err(INVALID);
        }
        let passes = rows::layout(header.kind).is_some() || is_passed(&header);
        Ok(if passes && size > large { size.min(FRONT.min(large)) } else { size })
    }
}

impl Assembler {
    /// A whole event with a compressed transaction.
    pub(super) fn payload<S: TransactionSink>(
        &mut self,
        outer: &Header,
        body: &[u8],
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        let (mut payload, read) = Payload::new(outer, body, start)?;
        self.push_payload(&mut payload, body.get(read..).unwrap_or_default(), sink)?;
        self.finish_payload(&mut payload, sink)
    }

    /// The next bytes of a compressed transaction.
    pub(super) fn push_payload<S: TransactionSink>(
        &mut self,
        payload: &mut Payload,
        mut input: &[u8],
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let Some(mut inflate) = payload.inflate.take() else { return self.push_inner(payload, input, sink) };
        let mut out = std::mem::take(&mut payload.out);
        while !input.is_empty() || !payload.at_end {
            let status = inflate.run_on_buffers(input, &mut out).map_err(|_| INVALID)?;
            payload.at_end = status.remaining == 0;
            input = input.get(status.bytes_read..).unwrap_or_default();
            let piece = out.get(..status.bytes_written).unwrap_or_default();
            self.push_inner(payload, piece, sink)?;
            // All is taken, and nothing waits inside for room.
            if input.is_empty() && status.bytes_written < out.len() {
                break;
            }
        }
        (payload.inflate, payload.out) = (Some(inflate), out);
        Ok(())
    }

    /// The next bytes of the events inside.
    fn push_inner<S: TransactionSink>(
        &mut self,
        payload: &mut Payload,
        mut input: &[u8],
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        while !input.is_empty() {
            if let Some(large) = &mut payload.large {
                let (taken, rest) = input.split_at_checked(large.left).unwrap_or((input, &[]));
                input = rest;
                large.left -= taken.len();
                if let Some(rows) = &mut large.rows {
                    self.push_rows(rows, taken, sink)?;
                }
                if large.left == 0 {
                    large.rows.as_ref().map_or(Ok(()), LargeRows::finish)?;
                    payload.large = None;
                }
                continue;
            }
            if payload.is_whole {
                self.handle_inner(payload, sink)?;
            }
            let missing = payload.wanted(self.large)?.saturating_sub(payload.event.len());
            let (taken, rest) = input.split_at_checked(missing).unwrap_or((input, &[]));
            input = rest;
            payload.event.extend_from_slice(taken);
            if taken.len() == missing && payload.wanted(self.large)? == payload.event.len() {
                self.begin_inner(payload, sink)?;
            }
        }
        Ok(())
    }

    /// An event inside is whole, or so large that it is not held.
    fn begin_inner<S: TransactionSink>(
        &mut self,
        payload: &mut Payload,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let header = Header::parse(&payload.event)?;
        let size = usize::try_from(header.size).map_err(|_| INVALID)?;
        if size == payload.event.len() {
            payload.is_whole = true;
            return Ok(());
        }
        let left = size - payload.event.len();
        let front = payload.event.get(HEADER_LEN..).unwrap_or_default();
        let rows = if is_passed(&header) {
            None
        } else {
            let (mut rows, read) = self.large_rows(&header, front)?;
            self.push_rows(&mut rows, front.get(read..).unwrap_or_default(), sink)?;
            Some(rows)
        };
        payload.large = Some(Large { rows, left });
        payload.event.clear();
        Ok(())
    }

    /// Handles the event inside that is whole.
    fn handle_inner<S: TransactionSink>(
        &mut self,
        payload: &mut Payload,
        sink: &mut S,
    ) -> Result<(), StreamError<S::Error>> {
        let mut header = Header::parse(&payload.event)?;
        // Inner events have no place of their own.
        header.end = payload.outer.end;
        let body = payload.event.get(HEADER_LEN..).unwrap_or_default();
        payload.progress = self.inner(&header, body, payload.start, sink)?;
        payload.event.clear();
        payload.is_whole = false;
        Ok(())
    }

    /// The transaction ends here.
    pub(super) fn finish_payload<S: TransactionSink>(
        &mut self,
        payload: &mut Payload,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        if !payload.at_end || payload.large.is_some() || (!payload.is_whole && !payload.event.is_empty()) {
            return Err(INVALID.into());
        }
        if payload.is_whole {
            self.handle_inner(payload, sink)?;
        }
        Ok(payload.progress)
    }
}
