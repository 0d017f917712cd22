//! The native shape.

use super::RowContext;
use crate::decode::DecodeError;

pub(super) fn value(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let _ = (row, out);
    Err(DecodeError::Invalid("row"))
}

pub(super) fn key(row: &RowContext<'_>, out: &mut Vec<u8>) -> Result<bool, DecodeError> {
    if row.change.schema.key.is_empty() {
        return Ok(false);
    }
    value(row, out)?;
    Ok(true)
}
