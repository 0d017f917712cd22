//! Rows as JSON, written straight from the image bytes: no value tree, no allocation for a value.
//!
//! The shapes are documented field by field in `docs/formats.md`.

mod aesop;
mod aesop_v1;
mod common;
mod debezium;
pub mod fold;
mod maxwell;
#[cfg(test)]
mod tests;
mod wkt;

use crate::config::Format;
use crate::decode::DecodeError;
use crate::event::{RowChange, TxnHeader};

/// A row change with everything a message says about it.
#[derive(Clone, Copy, Debug)]
pub struct RowContext<'a> {
    /// The source's name in the inventory.
    pub source: &'a str,
    /// The transaction.
    pub txn: &'a TxnHeader,
    /// Index of the row in its transaction, counted before any filter.
    pub row: u64,
    /// The change.
    pub change: RowChange<'a>,
    /// `server_uuid` (MariaDB: `server_id` in decimal) of the server read from.
    pub server_uuid: &'a str,
    /// The row comes from a snapshot.
    pub snapshot: bool,
}

/// Writes messages of one shape.
#[derive(Clone, Copy, Debug)]
pub struct Formatter {
    format: Format,
}

impl Formatter {
    /// A formatter for a shape.
    pub fn new(format: Format) -> Self {
        Self { format }
    }

    /// Appends the message's value to `out`. On an error `out` is as it was.
    pub fn value(&self, row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let start = out.len();
        let done = match self.format {
            Format::Aesop => aesop::value(row, out),
            Format::Debezium => debezium::message(row, out),
            Format::Maxwell => maxwell::message(row, out),
            Format::AesopV1 => aesop_v1::message(row, out),
        };
        if done.is_err() {
            out.truncate(start);
        }
        done
    }

    /// Appends the message's key (the key columns after the change; before it for a delete) to `out`.
    /// `false`: the row has no key and nothing was written (a table without a primary key, DDL, TRUNCATE).
    pub fn key(&self, row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
        let start = out.len();
        let done = match self.format {
            Format::Aesop => aesop::key(row, out),
            Format::Debezium => debezium::key(row, out),
            Format::Maxwell => maxwell::key(row, out),
            Format::AesopV1 => aesop_v1::key(row, out),
        };
        if done.is_err() {
            out.truncate(start);
        }
        done
    }
}
