//! MySQL's binary JSON to JSON text.

use super::bytes::{Bytes, uint_le};
use super::{DecodeError, temporal, text, value};

/// The server's own limit.
const MAX_DEPTH: u32 = 100;

/// Writes a document.
pub(crate) fn write(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    // Stored by servers in place of an invalid document, and shown as null.
    let Some((kind, body)) = bytes.split_first() else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    // Each value and each byte of text occurs once in an honest document; one that refers to the same bytes
    // again and again could otherwise grow without bound.
    let mut writer = Writer { budget: bytes.len() * 2 + 16, out };
    writer.value(*kind, body, 0)
}

/// Writes a document that is text already, without the spaces between its parts.
pub(crate) fn write_text(text: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    serde_json::from_slice::<serde::de::IgnoredAny>(text).map_err(|_| INVALID)?;
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        if quoted {
            quoted = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else if byte.is_ascii_whitespace() {
            continue;
        } else {
            quoted = *byte == b'"';
        }
        out.push(*byte);
    }
    Ok(())
}

struct Writer<'a> {
    budget: usize,
    out: &'a mut Vec<u8>,
}

const INVALID: DecodeError = DecodeError::Invalid("JSON document");

impl Writer<'_> {
    fn spend(&mut self, amount: usize) -> Result<(), DecodeError> {
        self.budget = self.budget.checked_sub(amount).ok_or(INVALID)?;
        Ok(())
    }

    fn value(&mut self, kind: u8, body: &[u8], depth: u32) -> Result<(), DecodeError> {
        self.spend(1)?;
        let mut input = Bytes::new(body, "JSON document");
        match kind {
            0..=3 if depth >= MAX_DEPTH => return Err(INVALID),
            0 => self.container(body, true, 2, depth)?,
            1 => self.container(body, true, 4, depth)?,
            2 => self.container(body, false, 2, depth)?,
            3 => self.container(body, false, 4, depth)?,
            4 => self.literal(input.u8()?)?,
            5 => value::write_int(value::sign_extend(u64::from(input.u16()?), 2), self.out),
            6 => value::write_uint(u64::from(input.u16()?), self.out),
            7 => value::write_int(value::sign_extend(u64::from(input.u32()?), 4), self.out),
            8 => value::write_uint(u64::from(input.u32()?), self.out),
            9 => value::write_int(input.u64()?.cast_signed(), self.out),
            10 => value::write_uint(input.u64()?, self.out),
            11 => value::write_double(input.array()?, self.out)?,
            12 => {
                let string = varint_bytes(&mut input)?;
                self.string(string)?;
            }
            15 => {
                let field_type = input.u8()?;
                let data = varint_bytes(&mut input)?;
                self.opaque(field_type, data)?;
            }
            _ => return Err(INVALID),
        }
        Ok(())
    }

    fn literal(&mut self, byte: u8) -> Result<(), DecodeError> {
        let text: &[u8] = match byte {
            0 => b"null",
            1 => b"true",
            2 => b"false",
            _ => return Err(INVALID),
        };
        self.out.extend_from_slice(text);
        Ok(())
    }

    fn string(&mut self, bytes: &[u8]) -> Result<(), DecodeError> {
        self.spend(bytes.len())?;
        if text::write_utf8(bytes, self.out) { Ok(()) } else { Err(INVALID) }
    }

    /// An object or an array; `width` is that of counts and offsets.
    fn container(&mut self, body: &[u8], object: bool, width: usize, depth: u32) -> Result<(), DecodeError> {
        let mut input = Bytes::new(body, "JSON document");
        let number = |bytes: &[u8]| -> Result<usize, DecodeError> {
            usize::try_from(uint_le(bytes)).map_err(|_| INVALID)
        };
        let count = number(input.take(width)?)?;
        let size = number(input.take(width)?)?;
        let body = body.get(..size).ok_or(INVALID)?;
        let key_entry = width + 2;
        let mut keys = if object {
            Bytes::new(input.take(count.checked_mul(key_entry).ok_or(INVALID)?)?, "JSON document")
        } else {
            Bytes::new(&[], "JSON document")
        };
        self.out.push(if object { b'{' } else { b'[' });
        for i in 0..count {
            if i > 0 {
                self.out.push(b',');
            }
            if object {
                let offset = number(keys.take(width)?)?;
                let len = usize::from(keys.u16()?);
                let end = offset.checked_add(len).ok_or(INVALID)?;
                self.string(body.get(offset..end).ok_or(INVALID)?)?;
                self.out.push(b':');
            }
            let kind = input.u8()?;
            let entry = input.take(width)?;
            // Literals and 16-bit numbers stand in the entry itself, 32-bit ones in wide entries.
            let inline = matches!(kind, 4..=6) || (width == 4 && matches!(kind, 7 | 8));
            if inline {
                self.value(kind, entry, depth + 1)?;
            } else {
                let value = body.get(number(entry)?..).ok_or(INVALID)?;
                self.value(kind, value, depth + 1)?;
            }
        }
        self.out.push(if object { b'}' } else { b']' });
        Ok(())
    }

    /// A value of an SQL type inside JSON, in the server's own text form.
    fn opaque(&mut self, field_type: u8, data: &[u8]) -> Result<(), DecodeError> {
        const TIMESTAMP: u8 = 7;
        const DATE: u8 = 10;
        const TIME: u8 = 11;
        const DATETIME: u8 = 12;
        const NEWDECIMAL: u8 = 246;
        self.spend(data.len())?;
        match field_type {
            NEWDECIMAL => {
                let mut input = Bytes::new(data, "DECIMAL in JSON");
                let (precision, scale) = (input.u8()?, input.u8()?);
                if precision == 0 || precision > 81 || scale > precision {
                    return Err(INVALID);
                }
                value::write_decimal(
                    input.take(value::decimal_len(precision, scale))?,
                    precision,
                    scale,
                    self.out,
                )
            }
            DATE | TIME | DATETIME | TIMESTAMP => {
                let packed = Bytes::new(data, "time in JSON").u64()?.cast_signed();
                temporal::write_packed(packed, field_type == TIME, field_type == DATE, self.out);
                Ok(())
            }
            _ => {
                let mut marked = Vec::new();
                text::write_base64(data, &mut marked);
                self.out.extend_from_slice(b"\"base64:type");
                value::write_uint(u64::from(field_type), self.out);
                self.out.push(b':');
                self.out.extend_from_slice(marked.get(1..).unwrap_or_default());
                Ok(())
            }
        }
    }
}

/// A length in seven bits a byte, lowest first, then as many bytes.
fn varint_bytes<'a>(input: &mut Bytes<'a>) -> Result<&'a [u8], DecodeError> {
    let mut len = 0usize;
    for shift in [0, 7, 14, 21, 28] {
        let byte = input.u8()?;
        len |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return input.take(len);
        }
    }
    Err(INVALID)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_document_that_repeats_itself_is_refused() {
        // Ninety arrays, each holding the next one twice: 2^90 values from under a kilobyte.
        let mut bytes = vec![2u8];
        let levels = 90u16;
        for level in 0..levels {
            let base = level * 10;
            let next = 10u16;
            bytes.extend_from_slice(&2u16.to_le_bytes());
            bytes.extend_from_slice(&((levels - level) * 10).to_le_bytes());
            for _ in 0..2 {
                bytes.push(2);
                bytes.extend_from_slice(&next.to_le_bytes());
            }
            let _ = base;
        }
        assert!(write(&bytes, &mut Vec::new()).is_err());
    }

    #[test]
    fn an_array_of_itself_is_refused() {
        let bytes = [2, 1, 0, 7, 0, 2, 0, 0];
        assert!(write(&bytes, &mut Vec::new()).is_err());
    }

    #[test]
    fn text_loses_the_spaces_between_its_parts_only() {
        let written = |text: &str| {
            let mut out = Vec::new();
            write_text(text.as_bytes(), &mut out).map(|()| String::from_utf8(out).unwrap())
        };
        let text = "{\"a b\": [1.50, \"x \\\" y\", \"\\\\\"], \"c\": null} ";
        assert_eq!(written(text).unwrap(), "{\"a b\":[1.50,\"x \\\" y\",\"\\\\\"],\"c\":null}");
        assert!(written("{\"a\": }").is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            drop(write(&bytes, &mut Vec::new()));
        }
    }
}
