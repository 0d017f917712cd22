//! Geometry (a spatial reference id, then well-known binary) to well-known text.

use crate::decode::{Bytes, DecodeError, text, write_double};

/// Collections inside collections, at most.
const MAX_DEPTH: u32 = 32;
const INVALID: DecodeError = DecodeError::Invalid("geometry");

/// Appends the text as a JSON string; a geometry that is not understood as marked base64.
pub(super) fn write(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.push(b'"');
    let mut input = Bytes::new(bytes.get(4..).unwrap_or_default(), "geometry");
    if shape(&mut input, 0, out).is_ok() && input.is_empty() {
        out.push(b'"');
    } else {
        out.truncate(start);
        text::write_marked(bytes, "geometry", out);
    }
}

fn head(input: &mut Bytes<'_>) -> Result<u32, DecodeError> {
    if input.u8()? != 1 {
        return Err(INVALID);
    }
    input.u32()
}

fn shape(input: &mut Bytes<'_>, depth: u32, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let kind = head(input)?;
    let name = match kind {
        1 => "POINT ",
        2 => "LINESTRING ",
        3 => "POLYGON ",
        4 => "MULTIPOINT ",
        5 => "MULTILINESTRING ",
        6 => "MULTIPOLYGON ",
        7 => "GEOMETRYCOLLECTION ",
        _ => return Err(INVALID),
    };
    if depth >= MAX_DEPTH {
        return Err(INVALID);
    }
    out.extend_from_slice(name.as_bytes());
    match kind {
        1 => bracketed_point(input, out),
        2 => list(input, out, point),
        3 => list(input, out, |input, out| list(input, out, point)),
        4 => list(input, out, |input, out| {
            head(input)?;
            bracketed_point(input, out)
        }),
        5 => list(input, out, |input, out| {
            head(input)?;
            list(input, out, point)
        }),
        6 => list(input, out, |input, out| {
            head(input)?;
            list(input, out, |input, out| list(input, out, point))
        }),
        _ => list(input, out, |input, out| shape(input, depth + 1, out)),
    }
}

fn bracketed_point(input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.push(b'(');
    point(input, out)?;
    out.push(b')');
    Ok(())
}

fn point(input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    coordinate(input, out)?;
    out.push(b' ');
    coordinate(input, out)
}

/// A whole number has no fraction in this form.
fn coordinate(input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    write_double(input.array()?, out)?;
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
    Ok(())
}

fn list(
    input: &mut Bytes<'_>,
    out: &mut Vec<u8>,
    element: impl Fn(&mut Bytes<'_>, &mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    let count = input.u32()?;
    if count == 0 {
        out.extend_from_slice(b"EMPTY");
        return Ok(());
    }
    out.push(b'(');
    for i in 0..count {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        element(input, out)?;
    }
    out.push(b')');
    Ok(())
}
