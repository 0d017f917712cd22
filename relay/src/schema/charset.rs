//! Character sets, told from collation ids.

/// Collations of utf8mb3 and utf8mb4, MariaDB's NO PAD, croatian, myanmar and uca1400 ones included.
const UTF8: [std::ops::RangeInclusive<u64>; 19] = [
    33..=33,
    45..=46,
    76..=76,
    83..=83,
    192..=215,
    223..=223,
    224..=247,
    255..=323,
    576..=578,
    608..=610,
    1057..=1057,
    1069..=1070,
    1107..=1107,
    1216..=1216,
    1238..=1238,
    1248..=1248,
    1270..=1270,
    2048..=2303,
    2304..=2559,
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
    /// A set this version does not convert; its text is given as base64. Holds the collation id.
    Other(u16),
}

impl Charset {
    /// The character set a collation belongs to.
    pub fn of_collation(id: u64) -> Self {
        match id {
            63 => Self::Binary,
            // MariaDB's NO PAD collations are the padded ones plus 1024.
            5 | 8 | 15 | 31 | 47 | 48 | 49 | 94 | 1032 | 1071 => Self::Latin1,
            11 | 65 | 1035 | 1089 => Self::Ascii,
            id if UTF8.iter().any(|range| range.contains(&id)) => Self::Utf8,
            other => Self::Other(u16::try_from(other).unwrap_or(u16::MAX)),
        }
    }

    /// The name a marker shows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Binary => "binary",
            Self::Utf8 => "utf8",
            Self::Latin1 => "latin1",
            Self::Ascii => "ascii",
            Self::Other(_) => "other",
        }
    }
}
