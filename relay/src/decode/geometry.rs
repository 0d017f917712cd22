//! Geometry: a spatial reference id, then well-known binary. One walk over the bytes serves every text form; GeoJSON with
//! an `srid` member is here.

use super::bytes::Bytes;
use super::{DecodeError, text, value};

/// Collections inside collections, at most; each level costs nine bytes, the stack is finite.
const MAX_DEPTH: u32 = 32;

const INVALID: DecodeError = DecodeError::Invalid("geometry");

/// How a geometry is written.
pub(crate) trait Form {
    /// The words for the kinds 1 to 7: point, line, polygon, several of each, collection.
    const NAMES: [&'static str; 7];
    /// Around the elements of a list, and between them.
    const LIST: [&'static [u8]; 3];
    /// A list without elements.
    const EMPTY: &'static [u8];

    /// Before a shape's coordinates.
    fn begin(&self, kind: u32, name: &str, out: &mut Vec<u8>);
    /// A point: one of a list, or a shape of its own.
    fn point(&self, alone: bool, input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError>;
    /// Behind a shape's coordinates; the outermost shape has depth 0.
    fn end(&self, depth: u32, out: &mut Vec<u8>);
}

/// Appends the geometry in a form; it must end where the bytes end.
pub(crate) fn walk<F: Form>(form: &F, input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    Walk(form).shape(input, 0, out)?;
    if input.is_empty() { Ok(()) } else { Err(INVALID) }
}

/// Appends a geometry, or, where it is not understood, marked base64 in its place.
pub(crate) fn or_marked(
    bytes: &[u8],
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), DecodeError>,
) {
    let start = out.len();
    if write(out).is_err() {
        out.truncate(start);
        text::write_marked(bytes, "geometry", out);
    }
}

struct Walk<'a, F>(&'a F);

impl<F: Form> Walk<'_, F> {
    fn shape(&self, input: &mut Bytes<'_>, depth: u32, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let kind = head(input)?;
        let name = usize::try_from(kind).ok().and_then(|kind| F::NAMES.get(kind.checked_sub(1)?));
        let name = name.filter(|_| depth < MAX_DEPTH).ok_or(INVALID)?;
        self.0.begin(kind, name, out);
        match kind {
            1 => self.0.point(true, input, out)?,
            2 => self.points(input, out)?,
            3 => self.lines(input, out)?,
            4 => Self::list(input, out, |input, out| {
                head(input)?;
                self.0.point(true, input, out)
            })?,
            5 => Self::list(input, out, |input, out| {
                head(input)?;
                self.points(input, out)
            })?,
            6 => Self::list(input, out, |input, out| {
                head(input)?;
                self.lines(input, out)
            })?,
            _ => Self::list(input, out, |input, out| self.shape(input, depth + 1, out))?,
        }
        self.0.end(depth, out);
        Ok(())
    }

    fn points(&self, input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        Self::list(input, out, |input, out| self.0.point(false, input, out))
    }

    fn lines(&self, input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        Self::list(input, out, |input, out| self.points(input, out))
    }

    /// A count, then as many elements.
    fn list(
        input: &mut Bytes<'_>,
        out: &mut Vec<u8>,
        element: impl Fn(&mut Bytes<'_>, &mut Vec<u8>) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        let [open, separator, close] = F::LIST;
        let count = input.u32()?;
        if count == 0 {
            out.extend_from_slice(F::EMPTY);
            return Ok(());
        }
        out.extend_from_slice(open);
        for i in 0..count {
            if i > 0 {
                out.extend_from_slice(separator);
            }
            element(input, out)?;
        }
        out.extend_from_slice(close);
        Ok(())
    }
}

fn head(input: &mut Bytes<'_>) -> Result<u32, DecodeError> {
    // Servers store little endian only.
    if input.u8()? != 1 {
        return Err(INVALID);
    }
    input.u32()
}

/// Writes a geometry as GeoJSON; one that is not understood is given as marked base64.
pub(crate) fn write(bytes: &[u8], out: &mut Vec<u8>) {
    or_marked(bytes, out, |out| {
        let mut input = Bytes::new(bytes, "geometry");
        let form = GeoJson { srid: input.u32()? };
        walk(&form, &mut input, out)
    });
}

struct GeoJson {
    srid: u32,
}

impl Form for GeoJson {
    const NAMES: [&'static str; 7] = [
        "Point",
        "LineString",
        "Polygon",
        "MultiPoint",
        "MultiLineString",
        "MultiPolygon",
        "GeometryCollection",
    ];
    const LIST: [&'static [u8]; 3] = [b"[", b",", b"]"];
    const EMPTY: &'static [u8] = b"[]";

    fn begin(&self, kind: u32, name: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"type\":\"");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(if kind == 7 { b"\",\"geometries\":" } else { b"\",\"coordinates\":" });
    }

    fn point(&self, _alone: bool, input: &mut Bytes<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        out.push(b'[');
        value::write_double(input.array()?, out)?;
        out.push(b',');
        value::write_double(input.array()?, out)?;
        out.push(b']');
        Ok(())
    }

    fn end(&self, depth: u32, out: &mut Vec<u8>) {
        if depth == 0 {
            out.extend_from_slice(b",\"srid\":");
            value::write_uint(u64::from(self.srid), out);
        }
        out.push(b'}');
    }
}
