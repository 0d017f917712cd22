//! Binlog event bytes to row changes, without I/O and without allocation in the hot path.
//!
//! [`event`] cuts events and checks their checksum, [`table_map`] reads schemas, [`rows`] walks row images,
//! [`value`] and [`json`] write values as text, [`query`] tells statements apart, [`key`] hashes keys, and
//! [`stream`] puts it all together and drives an [`crate::event::TransactionSink`].
//!
//! No input may make these modules panic; bytes that mean nothing are a [`DecodeError`].

pub mod branch;
mod bytes;
pub mod charset;
mod declared;
pub mod definitions;
pub mod event;
pub mod filter;
pub(crate) mod geometry;
#[cfg(test)]
mod golden;
mod json;
mod json_diff;
pub mod key;
mod network;
mod partial;
pub mod query;
pub mod query_event;
pub mod rows;
pub mod stream;
pub mod table_map;
mod temporal;
pub(crate) mod text;
pub mod touch;
mod value;
mod walk;

pub(crate) use bytes::Bytes;
pub(crate) use temporal::write_micros;
pub(crate) use value::{write as write_value, write_double, write_int, write_uint};

/// Bytes that cannot be decoded. Always definite: the same bytes will fail again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end too early.
    #[error("the event ends inside its {0}")]
    Truncated(&'static str),
    /// A value outside what the format allows.
    #[error("{0} is not valid")]
    Invalid(&'static str),
    /// The CRC32 at the event's end does not match.
    #[error("the checksum does not match: expected {expected:08x}, computed {computed:08x}")]
    Checksum {
        /// From the event.
        expected: u32,
        /// Over the event's bytes.
        computed: u32,
    },
    /// An event this version cannot handle, and may not skip.
    #[error("{0}")]
    Unsupported(String),
    /// A row with more bytes than the source allows.
    #[error(
        "a row of {table} has {bytes} bytes, and max_row_bytes of the source is {limit}: raise it (256 MiB at most), or set \
         oversize: leave_out, to go on with the row's key alone"
    )]
    RowTooLarge {
        /// `database.table`.
        table: String,
        /// Bytes of its images.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// A column that is to be left out is in the primary key.
    #[error(
        "{table}.{column} is in columns.exclude and in the primary key: take it out of columns.exclude, or leave the table \
         out"
    )]
    ExcludedKey {
        /// `database.table`.
        table: String,
        /// The column.
        column: String,
    },
    /// The table map names no columns.
    #[error(
        "the table map of {0} has no column names: SET GLOBAL binlog_row_metadata = 'FULL'; rows logged before \
         that can be read with schema: best_effort of the source only"
    )]
    NoMetadata(String),
    /// The table map and what `information_schema` said do not fit.
    #[error(
        "the table map of {table} does not fit what information_schema says of it: {what}; the table was changed by a \
         statement that is not in the binlog. Put it right by SET GLOBAL binlog_row_metadata = 'FULL', begin behind these \
         rows, and take a snapshot of the table"
    )]
    Disagrees {
        /// `database.table`.
        table: String,
        /// Where they differ.
        what: String,
    },
}
