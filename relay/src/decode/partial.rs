//! `PARTIAL_UPDATE_ROWS`: updates whose JSON columns may come as the steps from the old document to the new one.

use super::bytes::Bytes;
use super::rows::{ImageBuilder, RowImage, Values};
use super::{DecodeError, json_diff};
use crate::schema::{ColumnKind, TableSchema};

/// Some JSON columns of the new image are steps.
const PARTIAL_JSON: u64 = 1;

/// Takes what stands in front of a new image: a bit for each JSON column of the table, in the image or not; none when
/// all of them are whole.
pub(crate) fn take_steps<'a>(
    schema: &TableSchema,
    input: &mut Bytes<'a>,
) -> Result<Option<&'a [u8]>, DecodeError> {
    let Some(len) = steps_len(schema, input.lenenc()?)? else { return Ok(None) };
    let bits = input.take(len)?;
    Ok(bits.iter().any(|byte| *byte != 0).then_some(bits))
}

/// Bytes of these bits, for the value options of an event; none where all documents are whole.
pub(super) fn steps_len(schema: &TableSchema, options: u64) -> Result<Option<usize>, DecodeError> {
    match options {
        0 => Ok(None),
        PARTIAL_JSON => {
            let json = schema.columns.iter().filter(|column| is_json(&column.kind)).count();
            Ok(Some(json.div_ceil(8)))
        }
        other => Err(DecodeError::Unsupported(format!(
            "rows with value options {other} are not supported: SET GLOBAL binlog_row_value_options = ''"
        ))),
    }
}

fn is_json(kind: &ColumnKind) -> bool {
    matches!(kind, ColumnKind::Json { .. })
}

/// The new image with whole documents, made of the old image and the steps.
pub(crate) fn restore(
    schema: &TableSchema,
    steps: &[u8],
    before: RowImage<'_>,
    after: RowImage<'_>,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    let mut builder = ImageBuilder::new(schema.columns.len());
    let (mut old, mut new) = (Values::of_row(schema, before)?, Values::of_row(schema, after)?);
    let mut former = old.next()?;
    let (mut json, mut counted) = (0, 0);
    let mut document = Vec::new();
    while let Some((index, stored)) = new.next_stored()? {
        let passed = schema.columns.get(counted..index).unwrap_or_default();
        json += passed.iter().filter(|column| is_json(&column.kind)).count();
        counted = index;
        let Some(column) = schema.columns.get(index) else { break };
        let (ColumnKind::Json { length_bytes }, true, Some(stored)) =
            (&column.kind, super::table_map::bit(steps, json), stored)
        else {
            builder.push(index, stored);
            continue;
        };
        while former.is_some_and(|(at, ..)| at < index) {
            former = old.next()?;
        }
        let Some((_, _, Some(whole))) = former.filter(|(at, ..)| *at == index) else {
            return Err(DecodeError::Unsupported(format!(
                "{}.{}: column {} was updated in part and its old value was not logged: SET GLOBAL \
                 binlog_row_image = 'FULL', or SET GLOBAL binlog_row_value_options = ''",
                schema.database, schema.table, column.name
            )));
        };
        let prefix = usize::from(*length_bytes);
        document.clear();
        document.resize(prefix, 0);
        json_diff::apply(whole, stored.get(prefix..).unwrap_or_default(), &mut document)?;
        let len = (document.len() - prefix).to_le_bytes();
        if let (Some(place), Some(len)) = (document.get_mut(..prefix), len.get(..prefix)) {
            place.copy_from_slice(len);
        }
        builder.push(index, Some(&document));
    }
    builder.finish(out);
    Ok(())
}
