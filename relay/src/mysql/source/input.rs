//! What a dump sends, for the assembler: whole events, and parts of large ones.

use super::Reader;
use crate::decode::stream::{Assembler, Progress, StreamError};
use crate::event::TransactionSink;
use crate::mysql::connection::{Connection, Piece, address};
use crate::mysql::packet::{self, ServerError};
use crate::mysql::{Definite, Error};
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
            return Err(unsent(address(&self.job.config.mysql), wanted.to_owned(), &error).into());
        }
        Err(connection.classify(&error, false))
    }
}

/// What the one code stands for, by the words that come with it. They are English whatever the server's language.
fn unsent(address: String, wanted: String, error: &ServerError) -> Definite {
    const PURGED: [&str; 5] = [
        "Could not find first log file name",
        "purged required binary logs",
        "has purged binary logs",
        "required binlog files have been purged",
        "Could not find target log",
    ];
    const LOST: [&str; 6] = [
        "position > file size",
        "impossible position",
        "has more GTIDs than",
        "which is not in the master's binlog",
        "missing the GTID requested by the slave",
        "has diverged",
    ];
    /// Words, and what mends it.
    const OTHERS: [(&str, &str); 4] = [
        ("exceeded max_allowed_packet", "SET GLOBAL max_allowed_packet = 1073741824 on it"),
        ("GTID_MODE", "SET PERSIST gtid_mode = ON on it, step by step, or begin at a position"),
        ("Binary log is not open", "set log_bin = mysql-bin under [mysqld] in its my.cnf and restart it"),
        ("server_id was not set", "SET GLOBAL server_id = a number of its own on it"),
    ];
    let says = |words: &&str| error.message.contains(words);
    let reason = error.to_string();
    if PURGED.iter().any(says) {
        return Definite::Purged { address, wanted, reason };
    }
    if LOST.iter().any(says) {
        return Definite::Lost { address, wanted, reason };
    }
    let known = OTHERS.iter().find(|(words, _)| says(words)).map(|(_, remedy)| *remedy);
    let remedy = known.unwrap_or(
        "look at its error log and its disk: a binlog that is damaged there is read again once it is mended, or take a snapshot and \
         begin behind it",
    );
    Definite::Unsent { address, wanted, reason, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_tell_what_has_happened() {
        let sorted = |message: &str| {
            let error = ServerError { code: DUMP_FAILED, message: message.to_owned() };
            unsent("db:3306".into(), "b.000003:4".into(), &error)
        };
        let purged = |message| matches!(sorted(message), Definite::Purged { .. });
        let lost = |message| matches!(sorted(message), Definite::Lost { .. });
        // MySQL 5.7, 8, 9; MariaDB.
        assert!(purged("Could not find first log file name in binary log index file"));
        assert!(purged(
            "Cannot replicate because the source purged required binary logs. Replicate the missing transactions from elsewhere"
        ));
        assert!(purged(
            "The slave is connecting using CHANGE MASTER TO MASTER_AUTO_POSITION = 1, but the master has purged binary logs \
             containing GTIDs that the slave requires."
        ));
        assert!(purged(
            "Could not find GTID state requested by slave in any binlog files. Probably the slave state is too old and required \
             binlog files have been purged."
        ));
        assert!(lost("Client requested source to start replication from position > file size"));
        assert!(lost("Client requested master to start replication from impossible position"));
        assert!(lost("Replica has more GTIDs than the source has, using the source's SERVER_UUID."));
        assert!(lost(
            "Error: connecting slave requested to start from GTID 0-1-9, which is not in the master's binlog"
        ));
        let told = |message| sorted(message).to_string();
        assert!(
            told("log event entry exceeded max_allowed_packet; Increase max_allowed_packet on source")
                .ends_with("; SET GLOBAL max_allowed_packet = 1073741824 on it")
        );
        assert!(told("The replication sender thread cannot start in AUTO_POSITION mode: this server has GTID_MODE = OFF instead of ON.")
            .contains("gtid_mode = ON"));
        let torn = told("binlog truncated in the middle of event; consider out of disk space on source");
        assert!(torn.contains("out of disk space") && torn.contains("its error log"), "{torn}");
    }
}
