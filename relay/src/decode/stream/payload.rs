//! Compressed transactions of MySQL.

use super::{Assembler, Progress, StreamError};
use crate::decode::event::{HEADER_LEN, Header};
use crate::decode::{Bytes, DecodeError};
use crate::event::TransactionSink;
use std::io::Read as _;

/// Greatest event inside a compressed transaction: MySQL's greatest `max_allowed_packet`.
const MAX_INNER_EVENT: usize = 1 << 30;

impl Assembler {
    /// The events of a compressed transaction, inflated one at a time.
    pub(super) fn payload<S: TransactionSink>(
        &mut self,
        outer: &Header,
        body: &[u8],
        start: u64,
        sink: &mut S,
    ) -> Result<Progress, StreamError<S::Error>> {
        const UNCOMPRESSED: u64 = 255;
        let mut input = Bytes::new(body, "compressed transaction");
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
        let mut reader: Box<dyn std::io::Read> = match method {
            0 => Box::new(
                zstd::stream::read::Decoder::with_buffer(input.rest())
                    .map_err(|_| DecodeError::Invalid("compressed transaction"))?,
            ),
            UNCOMPRESSED => Box::new(input.rest()),
            _ => {
                return Err(DecodeError::Unsupported(format!(
                    "a transaction is compressed by method {method}, which is not known"
                ))
                .into());
            }
        };
        let mut buffer = Vec::new();
        let mut progress = Progress::Event;
        while read_inner(&mut reader, &mut buffer)? {
            let mut header = Header::parse(&buffer)?;
            // Inner events have no place of their own.
            header.end = outer.end;
            let body = buffer.get(HEADER_LEN..).unwrap_or_default();
            progress = self.inner(&header, body, start, sink)?;
        }
        Ok(progress)
    }
}

/// Reads the next event of a compressed transaction; false at its end.
fn read_inner(reader: &mut dyn std::io::Read, buffer: &mut Vec<u8>) -> Result<bool, DecodeError> {
    const INVALID: DecodeError = DecodeError::Invalid("compressed transaction");
    let mut fill = |buffer: &mut Vec<u8>, len: usize| -> Result<usize, DecodeError> {
        let want = u64::try_from(len).map_err(|_| INVALID)?;
        (&mut *reader).take(want).read_to_end(buffer).map_err(|_| INVALID)
    };
    buffer.clear();
    match fill(buffer, HEADER_LEN)? {
        0 => return Ok(false),
        HEADER_LEN => {}
        _ => return Err(INVALID),
    }
    let size = usize::try_from(Header::parse(buffer)?.size).map_err(|_| INVALID)?;
    let rest = size.checked_sub(HEADER_LEN).ok_or(INVALID)?;
    if size > MAX_INNER_EVENT || fill(buffer, rest)? != rest {
        return Err(INVALID);
    }
    Ok(true)
}
