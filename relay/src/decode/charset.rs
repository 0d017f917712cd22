//! Text in MySQL's other character sets to characters.
//!
//! The tables are the servers' own: `charset.zst` holds what MySQL 9.7 converts each code to, and a test on real
//! servers (`charsets` in tests/database) compares it with them, or writes it anew with `UPDATE_EXPECT=1`.
//! Its form, compressed by zstd: for each [`TableCharset`] in order a number of 16-bit code units, little
//! endian, zero where a code means nothing: 256 for single bytes; for sets of more bytes 65536 for lead and trail byte;
//! for ujis and eucjpms as many again for the two bytes behind 8F; for gb18030 as many as codes of four bytes
//! in the Basic Multilingual Plane.

use crate::schema::{Charset, TableCharset};
use std::sync::LazyLock;

/// Code units of a set of single bytes.
const SINGLE: usize = 256;
/// Code units of a set of two bytes.
const DOUBLE: usize = 65_536;
/// Four-byte codes of gb18030 up to U+FFFF, counted from 81308130.
const FOUR: usize = 39_420;
/// gb18030's four-byte codes from here on are U+10000 and on.
const SUPPLEMENTARY: usize = 189_000;

struct Table {
    units: Vec<u16>,
    /// All ASCII bytes stand for themselves.
    ascii: bool,
}

static TABLES: LazyLock<Vec<Table>> = LazyLock::new(load);

/// Code units of a set.
pub fn units(charset: TableCharset) -> usize {
    match charset.name() {
        "big5" | "cp932" | "euckr" | "gb2312" | "gbk" | "sjis" => DOUBLE,
        "ujis" | "eucjpms" => DOUBLE * 2,
        "gb18030" => DOUBLE + FOUR,
        _ => SINGLE,
    }
}

/// All sets that a table converts, in the file's order.
pub fn tables() -> impl Iterator<Item = TableCharset> {
    TableCharset::all()
}

fn load() -> Vec<Table> {
    // Our own file, which a test reads whole: it cannot be damaged.
    let bytes = zstd::stream::decode_all(include_bytes!("charset.zst").as_slice()).unwrap_or_default();
    let mut all = bytes.as_chunks::<2>().0.iter().map(|unit| u16::from_le_bytes(*unit));
    TableCharset::all()
        .map(|charset| {
            let units: Vec<u16> = all.by_ref().take(units(charset)).collect();
            let ascii = (0u16..128).zip(&units).all(|(code, unit)| code == *unit);
            Table { units, ascii }
        })
        .collect()
}

/// Characters of a text; a last item of none where bytes mean nothing.
pub(crate) struct Chars<'a> {
    rest: &'a [u8],
    charset: Charset,
    table: &'static [u16],
}

impl<'a> Chars<'a> {
    pub(crate) fn new(charset: Charset, bytes: &'a [u8]) -> Self {
        let table = if let Charset::Table(table) = charset { units_of(table) } else { &[] };
        Self { rest: bytes, charset, table }
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.rest.split_first_chunk::<N>()?;
        self.rest = tail;
        Some(*head)
    }

    fn unit(&mut self) -> Option<u16> {
        let unit = self.array()?;
        Some(if self.charset == Charset::Utf16Le {
            u16::from_le_bytes(unit)
        } else {
            u16::from_be_bytes(unit)
        })
    }

    fn utf16(&mut self) -> Option<char> {
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(u32::from(first));
        }
        let second = self.unit().filter(|unit| (0xdc00..0xe000).contains(unit))?;
        char::from_u32(0x1_0000 + ((u32::from(first) & 0x3ff) << 10 | u32::from(second) & 0x3ff))
    }

    /// The character of a table; zero is none.
    fn of(&self, index: usize) -> Option<char> {
        let unit = self.table.get(index).copied().filter(|unit| *unit != 0)?;
        char::from_u32(u32::from(unit))
    }

    fn table(&mut self) -> Option<char> {
        let [first] = self.array()?;
        if first == 0 {
            return Some('\0');
        }
        if let Some(found) = self.of(usize::from(first)) {
            return Some(found);
        }
        let [second] = self.array()?;
        if self.table.len() == DOUBLE + FOUR && second.is_ascii_digit() {
            return self.four(first, second);
        }
        if self.table.len() == DOUBLE * 2 && first == 0x8f {
            let [third] = self.array()?;
            return self.of(DOUBLE + usize::from(second) * 256 + usize::from(third));
        }
        self.of(usize::from(first) * 256 + usize::from(second))
    }

    /// A four-byte code of gb18030.
    fn four(&mut self, first: u8, second: u8) -> Option<char> {
        let [third, fourth] = self.array()?;
        let digit = |byte: u8, low: u8, count: u8| {
            byte.checked_sub(low).filter(|digit| *digit < count).map(usize::from)
        };
        let linear = ((digit(first, 0x81, 126)? * 10 + digit(second, b'0', 10)?) * 126
            + digit(third, 0x81, 126)?)
            * 10
            + digit(fourth, b'0', 10)?;
        match linear.checked_sub(SUPPLEMENTARY) {
            Some(above) => char::from_u32(u32::try_from(above + 0x1_0000).ok()?),
            None if linear < FOUR => self.of(DOUBLE + linear),
            None => None,
        }
    }
}

fn units_of(table: TableCharset) -> &'static [u16] {
    TABLES.get(usize::from(table.index())).map_or(&[], |table| table.units.as_slice())
}

/// Bytes below 80 are ASCII in it, wherever they stand at the start of a character.
pub(crate) fn is_ascii_compatible(charset: Charset) -> bool {
    match charset {
        Charset::Table(table) => TABLES.get(usize::from(table.index())).is_some_and(|table| table.ascii),
        Charset::Utf8 | Charset::Latin1 | Charset::Ascii => true,
        Charset::Binary
        | Charset::Utf16
        | Charset::Utf16Le
        | Charset::Utf32
        | Charset::Ucs2
        | Charset::Other(_) => false,
    }
}

impl Iterator for Chars<'_> {
    type Item = Option<char>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let found = match self.charset {
            Charset::Utf16 | Charset::Utf16Le => self.utf16(),
            Charset::Ucs2 => self.unit().and_then(|unit| char::from_u32(u32::from(unit))),
            Charset::Utf32 => self.array().and_then(|bytes| char::from_u32(u32::from_be_bytes(bytes))),
            Charset::Latin1 => self.array().map(|[byte]| super::text::latin1(byte)),
            Charset::Table(_) => self.table(),
            Charset::Binary | Charset::Utf8 | Charset::Ascii | Charset::Other(_) => None,
        };
        if found.is_none() {
            self.rest = &[];
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn named(name: &str) -> Charset {
        Charset::Table(TableCharset::all().find(|table| table.name() == name).unwrap())
    }

    fn text(charset: Charset, bytes: &[u8]) -> Option<String> {
        Chars::new(charset, bytes).collect()
    }

    #[test]
    fn the_file_has_every_table() {
        for table in TableCharset::all() {
            assert_eq!(units_of(table).len(), units(table), "{}", table.name());
        }
    }

    #[test]
    fn some_texts() {
        assert_eq!(text(named("gbk"), b"\xd6\xd0a").as_deref(), Some("中a"));
        assert_eq!(text(named("sjis"), b"\x8a\xbf\xb1").as_deref(), Some("漢ｱ"));
        assert_eq!(text(named("ujis"), b"\x8f\xb0\xa1").as_deref(), Some("丂"));
        assert_eq!(text(named("gb18030"), b"\x94\x39\xda\x33\x81\x30\x81\x30").as_deref(), Some("💩\u{80}"));
        assert_eq!(text(Charset::Utf16, b"\xd8\x3d\xde\x00\x00a").as_deref(), Some("😀a"));
        assert_eq!(text(Charset::Utf16Le, b"\x3d\xd8\x00\xde").as_deref(), Some("😀"));
        assert_eq!(text(Charset::Utf32, b"\x00\x01\xf6\x00").as_deref(), Some("😀"));
    }

    #[test]
    fn what_means_nothing_is_no_text() {
        assert_eq!(text(named("gbk"), b"a\xd6"), None);
        assert_eq!(text(Charset::Utf16, b"\xd8\x3d\x00a"), None);
        assert_eq!(text(Charset::Ucs2, b"\xd8\x3d"), None);
        assert_eq!(text(Charset::Utf32, b"\x00\x00a"), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            let unicode = [Charset::Utf16, Charset::Utf16Le, Charset::Utf32, Charset::Ucs2, Charset::Latin1];
            for charset in unicode.into_iter().chain(TableCharset::all().map(Charset::Table)) {
                prop_assert!(Chars::new(charset, &bytes).count() <= bytes.len());
            }
        }
    }
}
