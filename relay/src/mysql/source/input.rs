//! What a dump sends, for the assembler: whole events, and parts of large ones.

use super::Reader;
use crate::decode::stream::{Assembler, Progress, StreamError};
use crate::event::TransactionSink;
use crate::mysql::connection::{Connection, Piece, address};
use crate::mysql::{Definite, Error, packet};
use std::sync::atomic::Ordering;

/// Error of a dump whose binlog is gone, too short, or not readable.
const DUMP_FAILED: u16 = 1236;

/// An event, or a part of one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Input<'p> {
    Event(&'p [u8]),
    Part { bytes: &'p [u8], is_first: bool, is_last: bool },
}

impl Input<'_> {
    /// Its bytes.
    pub(super) fn len(&self) -> u64 {
        let (Self::Event(bytes) | Self::Part { bytes, .. }) = self;
        u64::try_from(bytes.len()).unwrap_or(0)
    }

    /// Hands it to the assembler; none while the event is not whole.
    pub(super) fn feed<S: TransactionSink>(
        self,
        assembler: &mut Assembler,
        sink: &mut S,
    ) -> Result<Option<Progress>, StreamError<S::Error>> {
        match self {
            Self::Event(event) => assembler.event(event, sink).map(Some),
            Self::Part { bytes, is_first, is_last } => {
                if is_first {
                    assembler.begin_parts(bytes, sink)?;
                } else {
                    assembler.part(bytes, sink)?;
                }
                if is_last { assembler.end_parts(sink).map(Some) } else { Ok(None) }
            }
        }
    }
}

impl Reader<'_> {
    /// What a piece of the dump holds.
    pub(super) fn input<'p>(
        &self,
        connection: &Connection,
        piece: &'p Piece,
        wanted: &str,
    ) -> Result<Input<'p>, Error> {
        match piece {
            Piece::Packet(packet) => Ok(Input::Event(self.event_bytes(connection, packet, wanted)?)),
            Piece::Part { bytes, is_first, is_last } => {
                let bytes = if *is_first { self.event_bytes(connection, bytes, wanted)? } else { bytes };
                Ok(Input::Part { bytes, is_first: *is_first, is_last: *is_last })
            }
        }
    }

    /// The event in a packet of the dump.
    pub(super) fn event_bytes<'p>(
        &self,
        connection: &Connection,
        packet: &'p [u8],
        wanted: &str,
    ) -> Result<&'p [u8], Error> {
        if let Some((0, event)) = packet.split_first() {
            return Ok(event);
        }
        let Some(error) = packet::server_error(packet) else {
            return Err(Error::Transient("the server ended the dump".to_owned()));
        };
        // Not a matter of the binlog.
        if error.message.contains("same server_uuid") || error.message.contains("same server_id") {
            self.replaced.store(true, Ordering::Relaxed);
            let (address, id) = (address(&self.job.config.mysql), self.job.config.mysql.server_id);
            return Err(Error::Transient(format!(
                "{address} ended the connection for another replica, or relay, with server_id {id}: give one of them another \
                 server_id ({error})"
            )));
        }
        if error.code == DUMP_FAILED {
            let address = address(&self.job.config.mysql);
            return Err(
                Definite::Purged { address, wanted: wanted.to_owned(), reason: error.to_string() }.into()
            );
        }
        Err(connection.classify(&error, false))
    }
}
