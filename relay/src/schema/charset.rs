//! Character sets, told from collation ids.

use std::ops::RangeInclusive;

/// MariaDB's NO PAD collations are the padded ones plus this.
const NO_PAD: u64 = 1024;

/// Collation ids of the Unicode sets, the same on MySQL and MariaDB; from 576 on MariaDB's own, from 2048 on its
/// UCA-14.0.0 ones (256 a set).
const UNICODE: [(RangeInclusive<u64>, Charset); 27] = [
    (33..=33, Charset::Utf8),
    (35..=35, Charset::Ucs2),
    (45..=46, Charset::Utf8),
    (54..=55, Charset::Utf16),
    (56..=56, Charset::Utf16Le),
    (60..=61, Charset::Utf32),
    (62..=62, Charset::Utf16Le),
    (76..=76, Charset::Utf8),
    (83..=83, Charset::Utf8),
    (90..=90, Charset::Ucs2),
    (101..=124, Charset::Utf16),
    (128..=151, Charset::Ucs2),
    (159..=159, Charset::Ucs2),
    (160..=183, Charset::Utf32),
    (192..=215, Charset::Utf8),
    (223..=247, Charset::Utf8),
    (255..=323, Charset::Utf8),
    (576..=578, Charset::Utf8),
    (608..=610, Charset::Utf8),
    (640..=642, Charset::Ucs2),
    (672..=674, Charset::Utf16),
    (736..=738, Charset::Utf32),
    (2048..=2303, Charset::Utf8),
    (2304..=2559, Charset::Utf8),
    (2560..=2815, Charset::Ucs2),
    (2816..=3071, Charset::Utf16),
    (3072..=3327, Charset::Utf32),
];

/// Name of a set that is converted by a table, and its collations. The order is that of the file of tables, and the
/// index is what logs carry: only ever append.
const TABLES: [(&str, &[u64]); 33] = [
    ("armscii8", &[32, 64]),
    ("cp1250", &[26, 34, 44, 66, 99]),
    ("cp1251", &[14, 23, 50, 51, 52]),
    ("cp1256", &[57, 67]),
    ("cp1257", &[29, 58, 59]),
    ("cp850", &[4, 80]),
    ("cp852", &[40, 81]),
    ("cp866", &[36, 68]),
    ("dec8", &[3, 69]),
    ("geostd8", &[92, 93]),
    ("greek", &[25, 70]),
    ("hebrew", &[16, 71]),
    ("hp8", &[6, 72]),
    ("keybcs2", &[37, 73]),
    ("koi8r", &[7, 74]),
    ("koi8u", &[22, 75]),
    ("latin2", &[2, 9, 21, 27, 77]),
    ("latin5", &[30, 78]),
    ("latin7", &[20, 41, 42, 79]),
    ("macce", &[38, 43]),
    ("macroman", &[39, 53]),
    ("swe7", &[10, 82]),
    ("tis620", &[18, 89]),
    ("big5", &[1, 84]),
    ("cp932", &[95, 96]),
    ("euckr", &[19, 85]),
    ("gb2312", &[24, 86]),
    ("gbk", &[28, 87]),
    ("sjis", &[13, 88]),
    ("ujis", &[12, 91]),
    ("eucjpms", &[97, 98]),
    ("gb18030", &[248, 249, 250]),
    // Read as Windows-1252 by `Charset::Latin1`; here so that a test compares it with the servers.
    ("latin1", &[]),
];

/// The character set of a column's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Charset {
    /// No text at all: BINARY, VARBINARY, BLOB.
    Binary,
    /// `utf8mb4` and `utf8mb3`: as Rust has it, where it is valid.
    Utf8,
    /// `latin1`, which in MySQL is Windows-1252 with its five holes filled with C1 controls.
    Latin1,
    /// `ascii`.
    Ascii,
    /// `utf16`, big endian.
    Utf16,
    /// `utf16le`.
    Utf16Le,
    /// `utf32`, big endian.
    Utf32,
    /// `ucs2`, big endian.
    Ucs2,
    /// One that a table converts.
    Table(TableCharset),
    /// A set this version does not convert; its text is given as base64. Holds the collation id.
    Other(u16),
}

/// A character set that is converted by a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TableCharset(u8);

impl TableCharset {
    /// All of them, in the order of the file of tables.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0u8..).zip(TABLES).map(|(index, _)| Self(index))
    }

    /// By the number that logs carry.
    pub(super) fn from_index(index: u8) -> Option<Self> {
        (usize::from(index) < TABLES.len()).then_some(Self(index))
    }

    /// The number that logs carry.
    pub(crate) fn index(self) -> u8 {
        self.0
    }

    /// MySQL's name.
    pub fn name(self) -> &'static str {
        TABLES.get(usize::from(self.0)).map_or("", |(name, _)| name)
    }
}

impl Charset {
    /// The character set a collation belongs to.
    pub fn of_collation(id: u64) -> Self {
        if let Some(found) = Self::of_padded(id) {
            return found;
        }
        let padded = id.checked_sub(NO_PAD).filter(|id| *id < NO_PAD).and_then(Self::of_padded);
        padded.unwrap_or_else(|| Self::Other(u16::try_from(id).unwrap_or(u16::MAX)))
    }

    /// The character set with the server's name for it.
    pub fn of_name(name: &str) -> Option<Self> {
        Some(match name {
            "binary" => Self::Binary,
            "utf8" | "utf8mb3" | "utf8mb4" => Self::Utf8,
            "latin1" => Self::Latin1,
            "ascii" => Self::Ascii,
            "utf16" => Self::Utf16,
            "utf16le" => Self::Utf16Le,
            "utf32" => Self::Utf32,
            "ucs2" => Self::Ucs2,
            _ => return TableCharset::all().find(|table| table.name() == name).map(Self::Table),
        })
    }

    fn of_padded(id: u64) -> Option<Self> {
        match id {
            63 => return Some(Self::Binary),
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 => return Some(Self::Latin1),
            11 | 65 => return Some(Self::Ascii),
            _ => {}
        }
        if let Some((_, charset)) = UNICODE.iter().find(|(ids, _)| ids.contains(&id)) {
            return Some(*charset);
        }
        TableCharset::all()
            .zip(TABLES)
            .find(|(_, (_, collations))| collations.contains(&id))
            .map(|(table, _)| Self::Table(table))
    }

    /// The name a marker shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Utf8 => "utf8",
            Self::Latin1 => "latin1",
            Self::Ascii => "ascii",
            Self::Utf16 => "utf16",
            Self::Utf16Le => "utf16le",
            Self::Utf32 => "utf32",
            Self::Ucs2 => "ucs2",
            Self::Table(table) => table.name(),
            Self::Other(_) => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_pad_collation_has_the_charset_of_the_padded_one() {
        assert_eq!(Charset::of_collation(1052), Charset::of_collation(28));
        assert_eq!(Charset::of_collation(28).name(), "gbk");
        assert_eq!(Charset::of_collation(1069), Charset::Utf8);
        assert_eq!(Charset::of_collation(2500), Charset::Utf8);
        assert_eq!(Charset::of_collation(4000), Charset::Other(4000));
    }
}
