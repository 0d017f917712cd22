//! Text to JSON strings.

use super::charset::{self, Chars};
use crate::schema::Charset;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// One character of MySQL's `latin1`: Windows-1252, its five holes filled with the C1 controls.
pub(crate) fn latin1(byte: u8) -> char {
    const HIGH: [u16; 32] = [
        0x20ac, 0x81, 0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160, 0x2039, 0x0152,
        0x8d, 0x017d, 0x8f, 0x90, 0x2018, 0x2019, 0x201c, 0x201d, 0x2022, 0x2013, 0x2014, 0x02dc, 0x2122,
        0x0161, 0x203a, 0x0153, 0x9d, 0x017e, 0x0178,
    ];
    let code = match byte.checked_sub(0x80) {
        Some(index) => HIGH.get(usize::from(index)).copied().unwrap_or(u16::from(byte)),
        None => u16::from(byte),
    };
    char::from_u32(u32::from(code)).unwrap_or('\u{fffd}')
}

/// Writes bytes of a text column as a JSON string; bytes that are not text in their charset as
/// `{"base64":"…","charset":"…"}`.
pub(crate) fn write(bytes: &[u8], charset: Charset, out: &mut Vec<u8>) {
    match charset {
        Charset::Binary => write_base64(bytes, out),
        Charset::Other(id) => write_marked(bytes, &format!("collation {id}"), out),
        Charset::Utf8 => {
            if !write_utf8(bytes, out) {
                write_marked(bytes, charset.name(), out);
            }
        }
        Charset::Ascii if bytes.is_ascii() => write_quoted(bytes, out),
        Charset::Ascii => write_marked(bytes, charset.name(), out),
        Charset::Latin1
        | Charset::Utf16
        | Charset::Utf16Le
        | Charset::Utf32
        | Charset::Ucs2
        | Charset::Table(_) => write_converted(bytes, charset, out),
    }
}

/// Character by character, without a copy of the text.
fn write_converted(bytes: &[u8], charset: Charset, out: &mut Vec<u8>) {
    if bytes.is_ascii() && charset::is_ascii_compatible(charset) {
        return write_quoted(bytes, out);
    }
    let start = out.len();
    out.reserve(bytes.len() + bytes.len() / 2 + 2);
    out.push(b'"');
    for char in Chars::new(charset, bytes) {
        let Some(char) = char else {
            out.truncate(start);
            return write_marked(bytes, charset.name(), out);
        };
        match u8::try_from(char) {
            Ok(byte) if byte < 0x80 => write_byte(byte, out),
            _ => out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.push(b'"');
}

/// The text of an ENUM's or SET's member.
pub(crate) fn member(bytes: &[u8], charset: Charset) -> String {
    let converted: Option<String> = match charset {
        Charset::Binary | Charset::Utf8 | Charset::Ascii | Charset::Other(_) => None,
        Charset::Latin1
        | Charset::Utf16
        | Charset::Utf16Le
        | Charset::Utf32
        | Charset::Ucs2
        | Charset::Table(_) => Chars::new(charset, bytes).collect(),
    };
    converted.unwrap_or_else(|| String::from_utf8_lossy(bytes).into_owned())
}

/// `{"base64":"…","charset":"…"}`.
pub(crate) fn write_marked(bytes: &[u8], charset: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"base64\":");
    write_base64(bytes, out);
    out.extend_from_slice(b",\"charset\":");
    write_str(charset, out);
    out.push(b'}');
}

/// A base64 string (standard alphabet, padded), quoted.
pub(crate) fn write_base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    let len = base64::encoded_len(bytes.len(), true).unwrap_or(0);
    out.resize(start + len, 0);
    let written = out.get_mut(start..).and_then(|room| STANDARD.encode_slice(bytes, room).ok());
    out.truncate(start + written.unwrap_or(0));
    out.push(b'"');
}

/// What follows the backslash for a byte that JSON wants escaped; zero: nothing; `u`: four hex digits.
#[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "evaluated at compile time")]
const ESCAPE: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut i = 0;
    while i < 32 {
        table[i] = b'u';
        i += 1;
    }
    table[b'\n' as usize] = b'n';
    table[b'\r' as usize] = b'r';
    table[b'\t' as usize] = b't';
    table[8] = b'b';
    table[12] = b'f';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Where the first byte is that JSON wants escaped. Eight bytes at a time: most texts have none.
#[inline]
fn first_special(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    // A byte of `word` that is zero, or less than `limit`, sets its highest bit; bytes above the lowest such one may
    // do so falsely, and do not matter.
    let below = |word: u64, limit: u64| word.wrapping_sub(ONES * limit) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (i, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quote = below(word ^ (ONES * u64::from(b'"')), 1);
        let backslash = below(word ^ (ONES * u64::from(b'\\')), 1);
        let found = below(word, 32) | quote | backslash;
        if found != 0 {
            return Some(i * 8 + usize::try_from(found.trailing_zeros() / 8).unwrap_or(0));
        }
    }
    rest.iter().position(|byte| escape(*byte) != 0).map(|at| words.len() * 8 + at)
}

fn escape(byte: u8) -> u8 {
    ESCAPE.get(usize::from(byte)).copied().unwrap_or(0)
}

/// One ASCII character inside a JSON string.
fn write_byte(byte: u8, out: &mut Vec<u8>) {
    match escape(byte) {
        0 => out.push(byte),
        b'u' => {
            let digit = |nibble: u8| HEX.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[digit(byte >> 4), digit(byte & 15)]);
        }
        letter => out.extend_from_slice(&[b'\\', letter]),
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// A JSON string.
pub(crate) fn write_str(text: &str, out: &mut Vec<u8>) {
    write_quoted(text.as_bytes(), out);
}

/// A JSON string of bytes that should be UTF-8; false, and nothing is written, if they are not.
pub(crate) fn write_utf8(bytes: &[u8], out: &mut Vec<u8>) -> bool {
    // Most text is ASCII, and that is seen much faster.
    let valid = bytes.is_ascii() || std::str::from_utf8(bytes).is_ok();
    if valid {
        write_quoted(bytes, out);
    }
    valid
}

/// A JSON string of UTF-8.
fn write_quoted(utf8: &[u8], out: &mut Vec<u8>) {
    out.reserve(utf8.len() + 2);
    out.push(b'"');
    let mut rest = utf8;
    while let Some(at) = first_special(rest) {
        let (plain, special) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let Some((byte, tail)) = special.split_first() else { break };
        write_byte(*byte, out);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(bytes: &[u8], charset: Charset) -> String {
        let mut out = Vec::new();
        write(bytes, charset, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn latin1_is_windows_1252_with_its_holes_filled() {
        assert_eq!(written(b"\x80 \xe9 \x81", Charset::Latin1), "\"€ é \u{81}\"");
    }

    #[test]
    fn what_is_not_text_is_marked() {
        assert_eq!(written(b"\xff\xfe", Charset::Utf8), r#"{"base64":"//4=","charset":"utf8"}"#);
        assert_eq!(written(b"\xe9", Charset::Ascii), r#"{"base64":"6Q==","charset":"ascii"}"#);
        assert_eq!(written(b"a", Charset::Other(999)), r#"{"base64":"YQ==","charset":"collation 999"}"#);
        assert_eq!(written(b"\x00", Charset::Binary), r#""AA==""#);
    }

    proptest! {
        #[test]
        fn the_first_byte_to_escape_is_found(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(first_special(&bytes), bytes.iter().position(|byte| escape(*byte) != 0));
        }

        #[test]
        fn a_string_reads_back_by_a_foreign_parser(text in any::<String>()) {
            let mut out = Vec::new();
            write_str(&text, &mut out);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }
}
