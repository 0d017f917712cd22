//! Where to begin reading.

use crate::decode::stream::LastTransaction;
use crate::position::{Position, Scn};
use std::str::FromStr;

/// Where [`super::source::run`] begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// The oldest binlog the server still has.
    Earliest,
    /// What is committed from now on.
    Latest,
    /// The first transaction that starts here or later. Here must be where one starts.
    At(Position),
    /// As the display number of a position; the epoch is the one given to `run`.
    Scn(Scn),
    /// The first transaction committed at this time or later, microseconds since 1970 UTC.
    Time(i64),
    /// What is not in this GTID set.
    Gtid(String),
    /// Behind a transaction that was read before; that it is still the same one is checked.
    After(LastTransaction),
}

/// A start that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no start: give earliest, latest, a time like 2026-11-22T15:00:00Z, an SCN or a GTID set")]
pub struct StartError(String);

impl FromStr for Start {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        let text = text.trim();
        match text {
            "earliest" => return Ok(Self::Earliest),
            "latest" => return Ok(Self::Latest),
            _ => {}
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(|n| Self::Scn(Scn(n))).map_err(|_| StartError(text.to_owned()));
        }
        if let Ok(time) = text.parse::<jiff::Timestamp>() {
            return Ok(Self::Time(time.as_microsecond()));
        }
        let shape =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b':' | b',' | b'_' | b' ' | b'\n');
        if text.contains(['-', ':']) && text.bytes().all(shape) {
            return Ok(Self::Gtid(text.to_owned()));
        }
        Err(StartError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_numbers_and_gtid_sets() {
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("12903018062".parse(), Ok(Start::Scn(Scn(12_903_018_062))));
        assert_eq!("1970-01-01T01:00:02.5+01:00".parse(), Ok(Start::Time(2_500_000)));
        assert_eq!("0-1-42".parse(), Ok(Start::Gtid("0-1-42".to_owned())));
        let set = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7";
        assert_eq!(set.parse(), Ok(Start::Gtid(set.to_owned())));
        assert_eq!(
            "newest".parse::<Start>().unwrap_err().to_string(),
            "\"newest\" is no start: give earliest, latest, a time like 2026-11-22T15:00:00Z, an SCN or a GTID set"
        );
        assert!("99999999999999999999999".parse::<Start>().is_err());
        assert!("".parse::<Start>().is_err());
    }
}
