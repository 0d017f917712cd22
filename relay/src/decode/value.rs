//! Values in row images: where they end, and what they say, as JSON.

use super::bytes::{Bytes, uint_be, uint_le};
use super::{DecodeError, geometry, json, network, temporal, text};
use crate::schema::{Charset, ColumnKind};

/// Takes one value's bytes, without any length prefix.
#[inline]
pub(crate) fn take<'a>(kind: &ColumnKind, input: &mut Bytes<'a>) -> Result<&'a [u8], DecodeError> {
    match kind {
        ColumnKind::Int { bytes, .. } | ColumnKind::Enum { bytes, .. } | ColumnKind::Set { bytes, .. } => {
            input.take(usize::from(*bytes))
        }
        ColumnKind::Varchar { width, .. } | ColumnKind::Char { width, .. } => {
            input.prefixed(if *width > 255 { 2 } else { 1 })
        }
        ColumnKind::Blob { length_bytes, .. }
        | ColumnKind::Json { length_bytes }
        | ColumnKind::JsonText { length_bytes }
        | ColumnKind::Geometry { length_bytes }
        | ColumnKind::Vector { length_bytes }
        | ColumnKind::Compressed { length_bytes, .. } => input.prefixed(*length_bytes),
        ColumnKind::Decimal { precision, scale } => input.take(decimal_len(*precision, *scale)),
        ColumnKind::DateTime { fraction } => input.take(5 + temporal::fraction_bytes(*fraction)),
        ColumnKind::Timestamp { fraction } => input.take(4 + temporal::fraction_bytes(*fraction)),
        ColumnKind::Time { fraction } => input.take(3 + temporal::fraction_bytes(*fraction)),
        ColumnKind::Date | ColumnKind::OldTime => input.take(3),
        ColumnKind::Float | ColumnKind::OldTimestamp => input.take(4),
        ColumnKind::Double | ColumnKind::OldDateTime => input.take(8),
        ColumnKind::Bit { bits } => input.take(usize::from(bits.div_ceil(8))),
        ColumnKind::Year => input.take(1),
        ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6 => input.prefixed(1),
    }
}

/// How the end of a value is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// So many bytes.
    Fixed(usize),
    /// So many bytes hold its length.
    Prefixed(usize),
}

/// What [`take`] takes, for those who do not have it all yet. Apart from it, so that the hot path stays as it is; a test
/// holds the two together.
pub(super) fn extent(kind: &ColumnKind) -> Extent {
    let small = |bytes: u8| Extent::Fixed(usize::from(bytes));
    match kind {
        ColumnKind::Int { bytes, .. } | ColumnKind::Enum { bytes, .. } | ColumnKind::Set { bytes, .. } => {
            small(*bytes)
        }
        ColumnKind::Varchar { width, .. } | ColumnKind::Char { width, .. } => {
            Extent::Prefixed(if *width > 255 { 2 } else { 1 })
        }
        ColumnKind::Blob { length_bytes, .. }
        | ColumnKind::Json { length_bytes }
        | ColumnKind::JsonText { length_bytes }
        | ColumnKind::Geometry { length_bytes }
        | ColumnKind::Vector { length_bytes }
        | ColumnKind::Compressed { length_bytes, .. } => Extent::Prefixed(usize::from(*length_bytes)),
        ColumnKind::Decimal { precision, scale } => Extent::Fixed(decimal_len(*precision, *scale)),
        ColumnKind::DateTime { fraction } => Extent::Fixed(5 + temporal::fraction_bytes(*fraction)),
        ColumnKind::Timestamp { fraction } => Extent::Fixed(4 + temporal::fraction_bytes(*fraction)),
        ColumnKind::Time { fraction } => Extent::Fixed(3 + temporal::fraction_bytes(*fraction)),
        ColumnKind::Date | ColumnKind::OldTime => small(3),
        ColumnKind::Float | ColumnKind::OldTimestamp => small(4),
        ColumnKind::Double | ColumnKind::OldDateTime => small(8),
        ColumnKind::Bit { bits } => Extent::Fixed(usize::from(bits.div_ceil(8))),
        ColumnKind::Year => small(1),
        ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6 => Extent::Prefixed(1),
    }
}

/// Writes a value, as [`take`] gave it, as JSON.
pub(crate) fn write(kind: &ColumnKind, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    match kind {
        ColumnKind::Int { bytes: width, unsigned } => {
            let value = uint_le(bytes);
            if *unsigned { write_uint(value, out) } else { write_int(sign_extend(value, *width), out) }
        }
        ColumnKind::Float => write_float(Bytes::new(bytes, "FLOAT").array()?, out)?,
        ColumnKind::Double => write_double(Bytes::new(bytes, "DOUBLE").array()?, out)?,
        ColumnKind::Decimal { precision, scale } => {
            out.push(b'"');
            write_decimal(bytes, *precision, *scale, out)?;
            out.push(b'"');
        }
        ColumnKind::Bit { .. } => write_uint(uint_be(bytes), out),
        ColumnKind::Year => {
            let year = uint_le(bytes);
            write_uint(if year == 0 { 0 } else { year + 1900 }, out);
        }
        ColumnKind::Date => temporal::write_date(bytes, out),
        ColumnKind::Time { fraction } => temporal::write_time(bytes, *fraction, out),
        ColumnKind::DateTime { fraction } => temporal::write_datetime(bytes, *fraction, out),
        ColumnKind::Timestamp { fraction } => temporal::write_timestamp(bytes, *fraction, out),
        ColumnKind::OldTime => temporal::write_old_time(bytes, out),
        ColumnKind::OldDateTime => temporal::write_old_datetime(bytes, out),
        ColumnKind::OldTimestamp => temporal::write_old_timestamp(bytes, out),
        ColumnKind::Char { width, charset: Charset::Binary } => {
            // The server cut trailing zeros off.
            if bytes.len() < usize::from(*width) {
                let mut padded = bytes.to_vec();
                padded.resize(usize::from(*width), 0);
                text::write_base64(&padded, out);
            } else {
                text::write_base64(bytes, out);
            }
        }
        ColumnKind::Char { charset, .. }
        | ColumnKind::Varchar { charset, .. }
        | ColumnKind::Blob { charset, .. } => text::write(bytes, *charset, out),
        ColumnKind::Enum { members, .. } => write_enum(members, uint_le(bytes), out)?,
        ColumnKind::Set { members, .. } => write_set(members, uint_le(bytes), out)?,
        ColumnKind::Json { .. } => json::write(bytes, out)?,
        ColumnKind::JsonText { .. } => json::write_text(bytes, out)?,
        ColumnKind::Geometry { .. } => geometry::write(bytes, out),
        ColumnKind::Vector { .. } => write_vector(bytes, out)?,
        ColumnKind::Compressed { charset, .. } => text::write(&inflate_column(bytes)?, *charset, out),
        ColumnKind::Uuid => network::write_uuid(bytes, out)?,
        ColumnKind::Inet4 => network::write_inet4(bytes, out)?,
        ColumnKind::Inet6 => network::write_inet6(bytes, out)?,
    }
    Ok(())
}

pub(crate) fn write_uint(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub(crate) fn write_int(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The low `bytes` bytes as a signed number.
pub(crate) fn sign_extend(value: u64, bytes: u8) -> i64 {
    let shift = 64u32.saturating_sub(u32::from(bytes) * 8).min(63);
    (value << shift).cast_signed() >> shift
}

fn write_float(bytes: [u8; 4], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let value = f32::from_le_bytes(bytes);
    if !value.is_finite() {
        return Err(DecodeError::Invalid("FLOAT that is no number"));
    }
    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    Ok(())
}

pub(crate) fn write_double(bytes: [u8; 8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let value = f64::from_le_bytes(bytes);
    if !value.is_finite() {
        return Err(DecodeError::Invalid("DOUBLE that is no number"));
    }
    out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    Ok(())
}

/// Bytes of 0 to 9 decimal digits.
const DIGIT_BYTES: [u8; 10] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

fn digit_bytes(digits: u8) -> usize {
    DIGIT_BYTES.get(usize::from(digits)).copied().map_or(4, usize::from)
}

/// Bytes of a DECIMAL.
pub(crate) fn decimal_len(precision: u8, scale: u8) -> usize {
    let whole = precision.saturating_sub(scale);
    usize::from(whole / 9) * 4 + digit_bytes(whole % 9) + usize::from(scale / 9) * 4 + digit_bytes(scale % 9)
}

/// Writes a DECIMAL's digits, all of its scale included.
pub(crate) fn write_decimal(
    bytes: &[u8],
    precision: u8,
    scale: u8,
    out: &mut Vec<u8>,
) -> Result<(), DecodeError> {
    /// DECIMAL(65,30) takes 30 bytes.
    const MAX_LEN: usize = 32;
    let mut buffer = [0u8; MAX_LEN];
    let (Some(target), Some(first)) = (buffer.get_mut(..bytes.len()), bytes.first()) else {
        return Err(DecodeError::Invalid("DECIMAL"));
    };
    // The sign is the highest bit, inverted; a negative number has all bits inverted.
    let negative = first & 0x80 == 0;
    let mask = if negative { 0xff } else { 0 };
    for (to, from) in target.iter_mut().zip(bytes) {
        *to = from ^ mask;
    }
    if let Some(first) = target.first_mut() {
        *first ^= 0x80;
    }
    let mut input = Bytes::new(target, "DECIMAL");
    if negative {
        out.push(b'-');
    }
    let start = out.len();
    let whole = precision.saturating_sub(scale);
    let mut group = |digits: u8, len: usize, out: &mut Vec<u8>| -> Result<(), DecodeError> {
        let value = uint_be(input.take(len)?);
        if value >= 10u64.pow(u32::from(digits)) {
            return Err(DecodeError::Invalid("digits of a DECIMAL"));
        }
        // Leading zeros of the whole part are dropped: nothing is written before the first digit.
        write_padded(value, digits, out);
        Ok(())
    };
    if !whole.is_multiple_of(9) {
        group(whole % 9, digit_bytes(whole % 9), out)?;
    }
    for _ in 0..whole / 9 {
        group(9, 4, out)?;
    }
    let zeros = out.get(start..).map_or(0, |d| d.iter().take_while(|b| **b == b'0').count());
    out.drain(start..start + zeros);
    if out.len() == start {
        out.push(b'0');
    }
    if scale > 0 {
        out.push(b'.');
        for _ in 0..scale / 9 {
            group(9, 4, out)?;
        }
        if !scale.is_multiple_of(9) {
            group(scale % 9, digit_bytes(scale % 9), out)?;
        }
    }
    Ok(())
}

/// `value` in at least `digits` digits.
pub(crate) fn write_padded(value: u64, digits: u8, out: &mut Vec<u8>) {
    let mut buffer = itoa::Buffer::new();
    let text = buffer.format(value).as_bytes();
    for _ in text.len()..usize::from(digits) {
        out.push(b'0');
    }
    out.extend_from_slice(text);
}

fn write_enum(members: &[String], index: u64, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    // Index 0 is what a server stores for a value that is none of the members; it reads back as ''.
    let Some(index) = index.checked_sub(1) else {
        out.extend_from_slice(b"\"\"");
        return Ok(());
    };
    let member = usize::try_from(index).ok().and_then(|i| members.get(i));
    text::write_str(member.ok_or(DecodeError::Invalid("ENUM index"))?, out);
    Ok(())
}

fn write_set(members: &[String], mask: u64, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    if mask.checked_shr(u32::try_from(members.len()).unwrap_or(64)).unwrap_or(0) != 0 {
        return Err(DecodeError::Invalid("SET mask"));
    }
    out.push(b'[');
    let mut first = true;
    for (bit, member) in members.iter().enumerate() {
        if mask >> bit & 1 != 0 {
            if !first {
                out.push(b',');
            }
            first = false;
            text::write_str(member, out);
        }
    }
    out.push(b']');
    Ok(())
}

fn write_vector(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let (floats, rest) = bytes.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(DecodeError::Invalid("VECTOR"));
    }
    out.push(b'[');
    for (i, float) in floats.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_float(*float, out)?;
    }
    out.push(b']');
    Ok(())
}

/// Greatest size of a LONGTEXT or LONGBLOB the server would send in one piece (`max_allowed_packet`).
const MAX_COLUMN_BYTES: u64 = 1 << 30;

/// MariaDB's compressed columns: a byte `aaaarlll` (algorithm, raw deflate, bytes of the length), the length
/// big endian, the data.
fn inflate_column(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    use std::io::Read as _;
    let mut input = Bytes::new(bytes, "compressed column");
    if input.is_empty() {
        return Ok(Vec::new());
    }
    let head = input.u8()?;
    match head >> 4 {
        0 => return Ok(input.rest().to_vec()),
        8 => {}
        _ => return Err(DecodeError::Unsupported("a column is compressed by an unknown method".to_owned())),
    }
    let len = uint_be(input.take(usize::from(head & 7))?);
    let mut out = Vec::new();
    let limit = len.saturating_add(1).min(MAX_COLUMN_BYTES);
    let read = if head & 8 != 0 {
        flate2::read::DeflateDecoder::new(input.rest()).take(limit).read_to_end(&mut out)
    } else {
        flate2::read::ZlibDecoder::new(input.rest()).take(limit).read_to_end(&mut out)
    };
    read.map_err(|_| DecodeError::Invalid("compressed column"))?;
    if u64::try_from(out.len()).ok() == Some(len) {
        Ok(out)
    } else {
        Err(DecodeError::Invalid("length of a compressed column"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(kind: &ColumnKind, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write(kind, bytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn integers_of_all_widths() {
        let int = |bytes, unsigned| ColumnKind::Int { bytes, unsigned };
        assert_eq!(written(&int(1, false), &[0x80]), "-128");
        assert_eq!(written(&int(1, true), &[0x80]), "128");
        assert_eq!(written(&int(3, false), &[0, 0, 0x80]), "-8388608");
        assert_eq!(written(&int(3, true), &[0xff, 0xff, 0xff]), "16777215");
        assert_eq!(written(&int(8, false), &[0xff; 8]), "-1");
        assert_eq!(written(&int(8, true), &[0xff; 8]), "18446744073709551615");
    }

    #[test]
    fn an_extent_is_what_is_taken() {
        let charset = Charset::Utf8;
        let kinds = [
            ColumnKind::Int { bytes: 3, unsigned: true },
            ColumnKind::Enum { bytes: 2, members: Vec::new() },
            ColumnKind::Set { bytes: 8, members: Vec::new() },
            ColumnKind::Varchar { width: 255, charset },
            ColumnKind::Varchar { width: 256, charset },
            ColumnKind::Char { width: 10, charset },
            ColumnKind::Char { width: 1020, charset },
            ColumnKind::Blob { length_bytes: 3, charset },
            ColumnKind::Json { length_bytes: 4 },
            ColumnKind::JsonText { length_bytes: 4 },
            ColumnKind::Geometry { length_bytes: 4 },
            ColumnKind::Vector { length_bytes: 2 },
            ColumnKind::Compressed { length_bytes: 2, charset },
            ColumnKind::Decimal { precision: 65, scale: 30 },
            ColumnKind::DateTime { fraction: 6 },
            ColumnKind::Timestamp { fraction: 3 },
            ColumnKind::Time { fraction: 1 },
            ColumnKind::Date,
            ColumnKind::OldTime,
            ColumnKind::OldTimestamp,
            ColumnKind::OldDateTime,
            ColumnKind::Float,
            ColumnKind::Double,
            ColumnKind::Bit { bits: 17 },
            ColumnKind::Year,
            ColumnKind::Uuid,
            ColumnKind::Inet4,
            ColumnKind::Inet6,
        ];
        // As a length it is 5, whatever its width.
        let bytes = [&[5u8, 0, 0, 0][..], &[0; 96]].concat();
        for kind in kinds {
            let mut input = Bytes::new(&bytes, "value");
            let value = take(&kind, &mut input).unwrap();
            let taken = bytes.len() - input.rest().len();
            match extent(&kind) {
                Extent::Fixed(len) => assert_eq!((value.len(), taken), (len, len), "{kind:?}"),
                Extent::Prefixed(prefix) => {
                    assert_eq!((value.len(), taken), (5, prefix + 5), "{kind:?}");
                }
            }
        }
    }

    #[test]
    fn decimals() {
        // From the server's own documentation of the format: 1234567890.1234 as DECIMAL(14,4).
        let bytes = [0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2];
        let kind = ColumnKind::Decimal { precision: 14, scale: 4 };
        assert_eq!(decimal_len(14, 4), bytes.len());
        assert_eq!(written(&kind, &bytes), "\"1234567890.1234\"");
        let negated: Vec<u8> = bytes.iter().map(|b| !b).collect();
        assert_eq!(written(&kind, &negated), "\"-1234567890.1234\"");
        assert_eq!(written(&ColumnKind::Decimal { precision: 2, scale: 2 }, &[0x85]), "\"0.05\"");
        assert_eq!(written(&ColumnKind::Decimal { precision: 3, scale: 0 }, &[0x80, 0]), "\"0\"");
    }

    #[test]
    fn enum_zero_is_the_empty_string_and_sets_are_arrays() {
        let members = vec!["a".to_owned(), "b\"".to_owned()];
        let kind = ColumnKind::Enum { bytes: 1, members: members.clone() };
        assert_eq!(written(&kind, &[0]), "\"\"");
        assert_eq!(written(&kind, &[2]), "\"b\\\"\"");
        assert!(write(&kind, &[3], &mut Vec::new()).is_err());
        let kind = ColumnKind::Set { bytes: 1, members };
        assert_eq!(written(&kind, &[3]), "[\"a\",\"b\\\"\"]");
        assert_eq!(written(&kind, &[0]), "[]");
        assert!(write(&kind, &[4], &mut Vec::new()).is_err());
    }

    #[test]
    fn binary_gets_its_zeros_back() {
        assert_eq!(written(&ColumnKind::Char { width: 3, charset: Charset::Binary }, &[1]), "\"AQAA\"");
    }

    #[test]
    fn floats_are_shortest() {
        assert_eq!(written(&ColumnKind::Float, &0.1f32.to_le_bytes()), "0.1");
        assert_eq!(written(&ColumnKind::Double, &1e300f64.to_le_bytes()), "1e300");
        assert!(write(&ColumnKind::Double, &f64::NAN.to_le_bytes(), &mut Vec::new()).is_err());
    }
}
