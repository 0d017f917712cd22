//! Geometry (a spatial reference id, then well-known binary) to well-known text.

use crate::decode::geometry::{Form, or_marked, walk};
use crate::decode::{Bytes, DecodeError, write_double};

/// Appends the text as a JSON string; a geometry that is not understood as marked base64.
pub(super) fn write(bytes: &[u8], out: &mut Vec<u8>) {
    or_marked(bytes, out, |out| {
        out.push(b'"');
        walk(&Wkt, &mut Bytes::new(bytes.get(4..).unwrap_or_default(), "geometry"), out)?;
        out.push(b'"');
        Ok(())
    });
}

struct Wkt;

impl Form for Wkt {
    const NAMES: [&'static str; 7] = [
        "POINT ",
        "LINESTRING ",
        "POLYGON ",
        "MULTIPOINT ",
        "MULTILINESTRING ",
        "MULTIPOLYGON ",
        "GEOMETRYCOLLECTION ",
    ];
    const LIST: [&'static [u8]; 3] = [b"(", b", ", b")"];
    const EMPTY: &'static [u8] = b"EMPTY";

    fn begin(&self, _kind: u32, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(name.as_bytes());
    }

    fn point(&self, alone: bool, input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        if alone {
            out.push(b'(');
        }
        coordinate(input, out)?;
        out.push(b' ');
        coordinate(input, out)?;
        if alone {
            out.push(b')');
        }
        Ok(())
    }

    fn end(&self, _depth: u32, _out: &mut Vec<u8>) {}
}

/// A whole number has no fraction in this form.
fn coordinate(input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    write_double(input.array()?, out)?;
    if out.ends_with(b".0") {
        out.truncate(out.len() - 2);
    }
    Ok(())
}
