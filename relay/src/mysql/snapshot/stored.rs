//! Values as a text result shows them, to values as they stand in a row image: what [`crate::decode`] does, undone. So a
//! snapshot's rows take the same way as those of the binlog, and say the same.

use crate::schema::ColumnKind;
use std::str::FromStr;

/// Appends a value with its length prefix, where it has one; none where the text is no such value.
pub(super) fn put(kind: &ColumnKind, text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    match kind {
        ColumnKind::Int { bytes, unsigned: true } => put_le(number::<u64>(text)?, usize::from(*bytes), out)?,
        ColumnKind::Int { bytes, .. } => {
            put_le(number::<i64>(text)?.cast_unsigned(), usize::from(*bytes), out)?;
        }
        // The server gives it as a double, whose shortest text is read as the float that it was made of.
        ColumnKind::Float => out.extend_from_slice(&number::<f32>(text)?.to_le_bytes()),
        ColumnKind::Double => out.extend_from_slice(&number::<f64>(text)?.to_le_bytes()),
        ColumnKind::Decimal { precision, scale } => decimal(text, *precision, *scale, out)?,
        // Bytes, not digits.
        ColumnKind::Bit { bits } => {
            let width = usize::from(bits.div_ceil(8));
            let missing = width.checked_sub(text.len())?;
            out.resize(out.len() + missing, 0);
            out.extend_from_slice(text);
        }
        ColumnKind::Year => {
            let year = number::<u64>(text)?;
            put_le(if year == 0 { 0 } else { year.checked_sub(1900)? }, 1, out)?;
        }
        ColumnKind::Date => {
            let [year, month, day] = date(text)?;
            put_le(year << 9 | month << 5 | day, 3, out)?;
        }
        ColumnKind::Time { fraction } => time(text, *fraction, out)?,
        ColumnKind::DateTime { fraction } => {
            let ([year, month, day], [hour, minute, second], behind) = date_time(text, *fraction)?;
            let whole = (year * 13 + month) << 22 | day << 17 | hour << 12 | minute << 6 | second;
            put_be(whole | 0x80_0000_0000, 5, out)?;
            put_fraction(behind, *fraction, out)?;
        }
        ColumnKind::Timestamp { fraction } => {
            let (date, of_day, behind) = date_time(text, *fraction)?;
            put_be(seconds(date, of_day)?, 4, out)?;
            put_fraction(behind, *fraction, out)?;
        }
        ColumnKind::Char { width, .. } | ColumnKind::Varchar { width, .. } => {
            put_prefixed(text, if *width > 255 { 2 } else { 1 }, out)?;
        }
        ColumnKind::Blob { length_bytes, .. }
        | ColumnKind::JsonText { length_bytes }
        | ColumnKind::Geometry { length_bytes }
        | ColumnKind::Vector { length_bytes } => put_prefixed(text, usize::from(*length_bytes), out)?,
        ColumnKind::Enum { bytes, .. } | ColumnKind::Set { bytes, .. } => {
            put_le(number(text)?, usize::from(*bytes), out)?;
        }
        ColumnKind::Uuid | ColumnKind::Inet4 | ColumnKind::Inet6 => put_prefixed(text, 1, out)?,
        // No snapshot has these.
        ColumnKind::Json { .. }
        | ColumnKind::Compressed { .. }
        | ColumnKind::OldTime
        | ColumnKind::OldDateTime
        | ColumnKind::OldTimestamp => return None,
    }
    Some(())
}

fn put_le(value: u64, bytes: usize, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(value.to_le_bytes().get(..bytes)?);
    Some(())
}

fn put_be(value: u64, bytes: usize, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(value.to_be_bytes().get(8usize.checked_sub(bytes)?..)?);
    Some(())
}

fn put_prefixed(bytes: &[u8], prefix: usize, out: &mut Vec<u8>) -> Option<()> {
    let len = u64::try_from(bytes.len()).ok()?;
    if prefix < 8 && len >> (prefix * 8) != 0 {
        return None;
    }
    put_le(len, prefix, out)?;
    out.extend_from_slice(bytes);
    Some(())
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Digits only: no sign.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    number(text)
}

/// In front of the separator, and behind it.
fn split(text: &[u8], separator: u8) -> (&[u8], Option<&[u8]>) {
    match text.iter().position(|byte| *byte == separator) {
        Some(at) => (text.get(..at).unwrap_or_default(), text.get(at + 1..)),
        None => (text, None),
    }
}

/// Three numbers with separators between.
fn three(text: &[u8], separator: u8) -> Option<[u64; 3]> {
    let (first, rest) = split(text, separator);
    let (second, third) = split(rest?, separator);
    Some([digits(first)?, digits(second)?, digits(third?)?])
}

fn date(text: &[u8]) -> Option<[u64; 3]> {
    three(text, b'-')
}

/// The fraction behind the point, as many digits as the type has.
fn fraction(text: Option<&[u8]>, wanted: u8) -> Option<u64> {
    match (text, wanted) {
        (None, 0) => Some(0),
        (Some(text), _) if text.len() == usize::from(wanted) => digits(text),
        _ => None,
    }
}

/// Date, time of day, and fraction.
fn date_time(text: &[u8], wanted: u8) -> Option<([u64; 3], [u64; 3], u64)> {
    let (day, clock) = split(text, b' ');
    let (clock, behind) = split(clock?, b'.');
    Some((date(day)?, three(clock, b':')?, fraction(behind, wanted)?))
}

/// A fraction as it is stored: an odd number of digits with one more, which is zero.
fn stored_fraction(value: u64, wanted: u8) -> u64 {
    if wanted % 2 == 1 { value * 10 } else { value }
}

fn put_fraction(value: u64, wanted: u8, out: &mut Vec<u8>) -> Option<()> {
    put_be(stored_fraction(value, wanted), usize::from(wanted.div_ceil(2)), out)
}

/// Seconds since 1970 of a time in UTC; the zero date is 0.
fn seconds([year, month, day]: [u64; 3], [hour, minute, second]: [u64; 3]) -> Option<u64> {
    if [year, month, day] == [0; 3] {
        return Some(0);
    }
    let part = |value: u64| i8::try_from(value).ok();
    let date = jiff::civil::Date::new(i16::try_from(year).ok()?, part(month)?, part(day)?).ok()?;
    let time = jiff::civil::Time::new(part(hour)?, part(minute)?, part(second)?, 0).ok()?;
    let since = date.to_datetime(time).to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second();
    u32::try_from(since).ok().map(u64::from)
}

/// Big endian with an offset of half its range, fraction included.
fn time(text: &[u8], wanted: u8, out: &mut Vec<u8>) -> Option<()> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (clock, behind) = split(text, b'.');
    let [hour, minute, second] = three(clock, b':')?;
    let fraction_bytes = usize::from(wanted.div_ceil(2));
    let whole = hour << 12 | minute << 6 | second;
    let value = whole << (fraction_bytes * 8) | stored_fraction(fraction(behind, wanted)?, wanted);
    let width = 3 + fraction_bytes;
    let middle = 1u64 << (width * 8 - 1);
    put_be(if negative { middle.checked_sub(value)? } else { middle.checked_add(value)? }, width, out)
}

/// Groups of nine digits in four bytes, from the point outwards; the sign is the first bit.
fn decimal(text: &[u8], precision: u8, scale: u8, out: &mut Vec<u8>) -> Option<()> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, behind) = split(text, b'.');
    let (wanted, scale) = (usize::from(precision.checked_sub(scale)?), usize::from(scale));
    let behind = behind.unwrap_or_default();
    // ZEROFILL pads the number to its display width.
    let zeros = whole.iter().take_while(|digit| **digit == b'0').count();
    let whole = whole.get(zeros..)?;
    if whole.len() > wanted || behind.len() != scale {
        return None;
    }
    let mut padded = vec![b'0'; wanted - whole.len()];
    padded.extend_from_slice(whole);
    let start = out.len();
    let (first, groups) = padded.split_at_checked(wanted % 9)?;
    put_digits(first, out)?;
    for group in groups.chunks(9).chain(behind.chunks(9)) {
        put_digits(group, out)?;
    }
    let stored = out.get_mut(start..)?;
    *stored.first_mut()? ^= 0x80;
    if negative {
        for byte in stored {
            *byte = !*byte;
        }
    }
    Some(())
}

/// Up to nine digits in as few bytes as hold them.
fn put_digits(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if text.is_empty() {
        return Some(());
    }
    put_be(digits(text)?, text.len().div_ceil(2).min(4), out)
}

/// The bytes of a UUID's text as they are stored.
pub(super) fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let uuid = uuid::Uuid::try_parse_ascii(text).ok()?.into_bytes();
    let [l0, l1, l2, l3, m0, m1, h0, h1, s0, s1, n0, n1, n2, n3, n4, n5] = uuid;
    let is_reversed = s0 & 0x80 != 0 && (1..=0x80).contains(&h0);
    Some(if is_reversed { [n0, n1, n2, n3, n4, n5, s0, s1, h0, h1, m0, m1, l0, l1, l2, l3] } else { uuid })
}

/// The bytes of an IPv4 address.
pub(super) fn inet4(text: &[u8]) -> Option<[u8; 4]> {
    std::str::from_utf8(text).ok()?.parse().ok().map(|address: std::net::Ipv4Addr| address.octets())
}

/// The bytes of an IPv6 address.
pub(super) fn inet6(text: &[u8]) -> Option<[u8; 16]> {
    std::str::from_utf8(text).ok()?.parse().ok().map(|address: std::net::Ipv6Addr| address.octets())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::write_value;
    use proptest::prelude::*;

    /// What the decoder makes of it.
    fn shown(kind: &ColumnKind, text: &str) -> Option<String> {
        let (mut stored, mut out) = (Vec::new(), Vec::new());
        put(kind, text.as_bytes(), &mut stored)?;
        write_value(kind, &stored, &mut out).unwrap();
        Some(String::from_utf8(out).unwrap())
    }

    proptest! {
        #[test]
        fn decimals_come_back(
            whole in "[1-9][0-9]{0,34}|0", behind in "[0-9]{30}", scale in 0u8..=30, negative: bool
        ) {
            let behind = behind.get(..usize::from(scale)).unwrap();
            let point = if scale > 0 { "." } else { "" };
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{whole}{point}{behind}");
            for spare in [0, 30 - scale] {
                let precision = u8::try_from(whole.len()).unwrap() + scale + spare;
                let kind = ColumnKind::Decimal { precision, scale };
                prop_assert_eq!(shown(&kind, &text), Some(format!("\"{text}\"")));
            }
        }

        #[test]
        fn times_come_back(
            hour in 0u32..839, minute in 0u32..60, second in 0u32..60, micros in 0u32..1_000_000, digits in 0u8..=6,
            negative: bool
        ) {
            let clock = format!("{hour:02}:{minute:02}:{second:02}.{micros:06}");
            let cut = if digits == 0 { 7 } else { 6 - usize::from(digits) };
            let sign = if negative { "-" } else { "" };
            let text = format!("{sign}{}", clock.get(..clock.len() - cut).unwrap());
            let kind = ColumnKind::Time { fraction: digits };
            let zero = !text.bytes().any(|b| (b'1'..=b'9').contains(&b));
            prop_assume!(!(negative && zero));
            prop_assert_eq!(shown(&kind, &text), Some(format!("\"{text}\"")));
        }

        #[test]
        fn dates_come_back(
            year in 0u32..10_000, month in 0u32..13, day in 0u32..32, hour in 0u32..24, second in 0u32..60,
            micros in 0u32..1_000_000, digits in 0u8..=6
        ) {
            let date = format!("{year:04}-{month:02}-{day:02}");
            prop_assert_eq!(shown(&ColumnKind::Date, &date), Some(format!("\"{date}\"")));
            let clock = format!("{hour:02}:59:{second:02}.{micros:06}");
            let cut = if digits == 0 { 7 } else { 6 - usize::from(digits) };
            let clock = clock.get(..clock.len() - cut).unwrap();
            let kind = ColumnKind::DateTime { fraction: digits };
            prop_assert_eq!(shown(&kind, &format!("{date} {clock}")), Some(format!("\"{date}T{clock}\"")));
        }

        #[test]
        fn timestamps_come_back(seconds in 1u32..) {
            let at = jiff::Timestamp::from_second(i64::from(seconds)).unwrap().to_string();
            let text = at.trim_end_matches('Z').replace('T', " ");
            prop_assert_eq!(shown(&ColumnKind::Timestamp { fraction: 0 }, &text), Some(format!("\"{at}\"")));
        }

        #[test]
        fn integers_come_back(value: i64, floats: f32, doubles: f64) {
            for bytes in [1u8, 2, 3, 4, 8] {
                let low = value >> (64 - u32::from(bytes) * 8);
                let signed = ColumnKind::Int { bytes, unsigned: false };
                prop_assert_eq!(shown(&signed, &low.to_string()), Some(low.to_string()));
                let high = value.cast_unsigned() >> (64 - u32::from(bytes) * 8);
                let unsigned = ColumnKind::Int { bytes, unsigned: true };
                prop_assert_eq!(shown(&unsigned, &high.to_string()), Some(high.to_string()));
            }
            if floats.is_finite() {
                let back = shown(&ColumnKind::Float, &f64::from(floats).to_string()).unwrap();
                prop_assert_eq!(back.parse::<f32>().unwrap().to_bits(), floats.to_bits());
            }
            if doubles.is_finite() {
                let back = shown(&ColumnKind::Double, &doubles.to_string()).unwrap();
                prop_assert_eq!(back.parse::<f64>().unwrap().to_bits(), doubles.to_bits());
            }
        }

        #[test]
        fn what_is_no_value_is_refused(text in ".{0,12}") {
            for kind in [
                ColumnKind::Date,
                ColumnKind::Time { fraction: 3 },
                ColumnKind::DateTime { fraction: 6 },
                ColumnKind::Timestamp { fraction: 0 },
                ColumnKind::Decimal { precision: 10, scale: 2 },
                ColumnKind::Year,
            ] {
                drop(shown(&kind, &text));
            }
        }
    }

    #[test]
    fn zeros_and_bytes() {
        let timestamp = ColumnKind::Timestamp { fraction: 2 };
        assert_eq!(shown(&timestamp, "0000-00-00 00:00:00.00").unwrap(), "\"0000-00-00T00:00:00.00Z\"");
        assert_eq!(shown(&ColumnKind::Year, "0000").unwrap(), "0");
        assert_eq!(shown(&ColumnKind::Year, "2155").unwrap(), "2155");
        assert_eq!(shown(&ColumnKind::Decimal { precision: 5, scale: 2 }, "000.50").unwrap(), "\"0.50\"");
        let mut stored = Vec::new();
        put(&ColumnKind::Bit { bits: 12 }, &[7], &mut stored).unwrap();
        assert_eq!(stored, [0, 7]);
        assert_eq!(
            put(
                &ColumnKind::Blob { length_bytes: 1, charset: crate::schema::Charset::Binary },
                &[0; 256],
                &mut stored
            ),
            None
        );
    }

    #[test]
    fn addresses_and_uuids_come_back() {
        let uuids = ["123e4567-e89b-12d3-a456-426655440000", "0193a2b4-89ab-7def-8123-456789abcdef"];
        for text in uuids.into_iter().chain(["00000000-0000-0000-0000-000000000000"]) {
            let stored = uuid(text.as_bytes()).unwrap();
            assert_eq!(shown_bytes(&ColumnKind::Uuid, &stored), format!("\"{text}\""));
        }
        assert_eq!(shown_bytes(&ColumnKind::Inet4, &inet4(b"10.0.200.5").unwrap()), "\"10.0.200.5\"");
        for text in ["::", "1::2:3:4:5:6:7", "::ffff:1.2.3.4"] {
            assert_eq!(
                shown_bytes(&ColumnKind::Inet6, &inet6(text.as_bytes()).unwrap()),
                format!("\"{text}\"")
            );
        }
        assert_eq!((uuid(b"no"), inet4(b"1.2.3"), inet6(b"1.2.3.4")), (None, None, None));
    }

    fn shown_bytes(kind: &ColumnKind, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        write_value(kind, bytes, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }
}
