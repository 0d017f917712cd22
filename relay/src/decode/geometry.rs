//! Geometry (a spatial reference id, then well-known binary) to GeoJSON with an `srid` member.

use super::bytes::Bytes;
use super::{DecodeError, text, value};

/// Collections inside collections, at most; each level costs nine bytes, the stack is finite.
const MAX_DEPTH: u32 = 32;

const INVALID: DecodeError = DecodeError::Invalid("geometry");

/// Writes a geometry; one that is not understood is given as marked base64.
pub(crate) fn write(bytes: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    if geometry(bytes, out).is_err() {
        out.truncate(start);
        text::write_marked(bytes, "geometry", out);
    }
}

fn geometry(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let mut input = Bytes::new(bytes, "geometry");
    let srid = input.u32()?;
    shape(&mut input, Some(srid), 0, out)?;
    if input.is_empty() { Ok(()) } else { Err(INVALID) }
}

fn head(input: &mut Bytes<'_>) -> Result<u32, DecodeError> {
    // Servers store little endian only.
    if input.u8()? != 1 {
        return Err(INVALID);
    }
    input.u32()
}

fn shape(input: &mut Bytes<'_>, srid: Option<u32>, depth: u32, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let kind = head(input)?;
    let name = match kind {
        1 => "Point",
        2 => "LineString",
        3 => "Polygon",
        4 => "MultiPoint",
        5 => "MultiLineString",
        6 => "MultiPolygon",
        7 => "GeometryCollection",
        _ => return Err(INVALID),
    };
    if depth >= MAX_DEPTH {
        return Err(INVALID);
    }
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(if kind == 7 { b"\",\"geometries\":" } else { b"\",\"coordinates\":" });
    match kind {
        1 => point(input, out)?,
        2 => list(input, out, point)?,
        3 => list(input, out, |input, out| list(input, out, point))?,
        4 => list(input, out, |input, out| {
            head(input)?;
            point(input, out)
        })?,
        5 => list(input, out, |input, out| {
            head(input)?;
            list(input, out, point)
        })?,
        6 => list(input, out, |input, out| {
            head(input)?;
            list(input, out, |input, out| list(input, out, point))
        })?,
        _ => list(input, out, |input, out| shape(input, None, depth + 1, out))?,
    }
    if let Some(srid) = srid {
        out.extend_from_slice(b",\"srid\":");
        value::write_uint(u64::from(srid), out);
    }
    out.push(b'}');
    Ok(())
}

fn point(input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.push(b'[');
    value::write_double(input.array()?, out)?;
    out.push(b',');
    value::write_double(input.array()?, out)?;
    out.push(b']');
    Ok(())
}

/// A count, then as many elements.
fn list(
    input: &mut Bytes<'_>,
    out: &mut Vec<u8>,
    element: impl Fn(&mut Bytes<'_>, &mut Vec<u8>) -> Result<(), DecodeError>,
) -> Result<(), DecodeError> {
    out.push(b'[');
    for i in 0..input.u32()? {
        if i > 0 {
            out.push(b',');
        }
        element(input, out)?;
    }
    out.push(b']');
    Ok(())
}
