//! Sizes (`4GiB`, `2g`) and durations (`24h`, `1h30m`).

use std::time::Duration;

/// Bytes. `k`, `m`, `g`, `t`, with or without `iB` or `b`, count by 1024 as the JVM does; `kB`, `MB`, `GB`, `TB` by 1000.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    const WRONG: &str = "a size is a number and a unit, as in `4GiB`, `512m` or `2g`";
    const HUGE: &str = "this size is larger than any disk";
    let (number, unit) = split(text).ok_or(WRONG)?;
    let number: u64 = number.parse().map_err(|_| if number.contains('.') { WRONG } else { HUGE })?;
    let factor: u64 = match unit {
        "b" | "B" => 1,
        "k" | "K" | "KiB" | "kib" => 1 << 10,
        "m" | "M" | "MiB" | "mib" => 1 << 20,
        "g" | "G" | "GiB" | "gib" => 1 << 30,
        "t" | "T" | "TiB" | "tib" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(WRONG),
    };
    number.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or(HUGE)
}

/// A duration: one or several numbers, each with `ms`, `s`, `m`, `h` or `d`.
pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    const WRONG: &str = "a duration is a number and a unit, as in `30s`, `5m`, `24h` or `7d`";
    const HUGE: &str = "this duration is longer than a hundred years";
    /// Nothing here waits longer, and sums stay far from overflow.
    const YEARS_100_MS: u64 = 100 * 366 * 86_400_000;
    let mut rest = text;
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split(rest).ok_or(WRONG)?;
        let unit_end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit_end).ok_or(WRONG)?;
        let factor: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(WRONG),
        };
        let number: u64 = number.parse().map_err(|_| HUGE)?;
        total_ms = number.checked_mul(factor).and_then(|ms| total_ms.checked_add(ms)).ok_or(HUGE)?;
        rest = next;
    }
    match total_ms {
        0 if text.is_empty() => Err(WRONG),
        0 => Err("this duration is zero"),
        1..=YEARS_100_MS => Ok(Duration::from_millis(total_ms)),
        _ => Err(HUGE),
    }
}

/// Digits, and what comes after them.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    (!number.is_empty() && !rest.is_empty()).then(|| (number, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes() {
        assert_eq!(size("4GiB"), Ok(4 << 30));
        assert_eq!(size("2g"), Ok(2 << 30));
        assert_eq!(size("512m"), Ok(512 << 20));
        assert_eq!(size("10 GB"), Ok(10_000_000_000));
        for wrong in ["", "g", "4", "4 gigs", "-1g", "1.5g", "99999999999t", "99999999999999999999g"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("24h"), Ok(Duration::from_hours(24)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "5", "h", "5 minutes", "-5m", "0s", "1.5h", "999999999999999999999s", "99999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,12}") {
            let _read = (size(&text), duration(&text));
        }
    }
}
