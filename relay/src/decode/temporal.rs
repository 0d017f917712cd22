//! Dates and times to JSON strings.

use super::bytes::{uint_be, uint_le};
use super::value::write_padded;

/// Bytes of a fraction of `digits` digits.
#[inline]
pub(crate) fn fraction_bytes(digits: u8) -> usize {
    usize::from(digits.div_ceil(2))
}

/// Appends `.digits` of a fraction stored in hundredths, ten-thousandths or millionths.
fn write_fraction(stored: u64, digits: u8, out: &mut Vec<u8>) {
    if digits == 0 {
        return;
    }
    // An odd number of digits is stored with one digit more, which is zero.
    let value = if digits % 2 == 1 { stored / 10 } else { stored };
    out.push(b'.');
    write_padded(value, digits, out);
}

/// Two digits of every number below a hundred.
#[expect(clippy::as_conversions, clippy::indexing_slicing, reason = "evaluated at compile time")]
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut i = 0u8;
    while i < 100 {
        pairs[i as usize] = [b'0' + i / 10, b'0' + i % 10];
        i += 1;
    }
    pairs
};

/// None for what no clock shows.
fn pair(value: u64) -> Option<[u8; 2]> {
    usize::try_from(value).ok().and_then(|value| PAIRS.get(value)).copied()
}

fn write_ymd(year: u64, month: u64, day: u64, out: &mut Vec<u8>) {
    // In one piece: every row has some of these.
    if let (Some([a, b]), Some([c, d])) = (pair(year / 100), pair(year % 100))
        && let (Some([e, f]), Some([g, h])) = (pair(month), pair(day))
    {
        out.extend_from_slice(&[a, b, c, d, b'-', e, f, b'-', g, h]);
        return;
    }
    write_padded(year, 4, out);
    out.push(b'-');
    write_padded(month, 2, out);
    out.push(b'-');
    write_padded(day, 2, out);
}

fn write_hms(hour: u64, minute: u64, second: u64, out: &mut Vec<u8>) {
    if let (Some([a, b]), Some([c, d]), Some([e, f])) = (pair(hour), pair(minute), pair(second)) {
        out.extend_from_slice(&[a, b, b':', c, d, b':', e, f]);
        return;
    }
    // TIME has up to 838 hours.
    write_padded(hour, 2, out);
    out.push(b':');
    write_padded(minute, 2, out);
    out.push(b':');
    write_padded(second, 2, out);
}

pub(crate) fn write_date(bytes: &[u8], out: &mut Vec<u8>) {
    let value = uint_le(bytes);
    out.push(b'"');
    write_ymd(value >> 9, value >> 5 & 15, value & 31, out);
    out.push(b'"');
}

/// Splits what is in front of the fraction, and the fraction.
fn split_fraction(bytes: &[u8], digits: u8) -> (u64, u64) {
    let at = bytes.len().saturating_sub(fraction_bytes(digits));
    let (whole, fraction) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    (uint_be(whole), uint_be(fraction))
}

pub(crate) fn write_datetime(bytes: &[u8], digits: u8, out: &mut Vec<u8>) {
    let (whole, fraction) = split_fraction(bytes, digits);
    // The highest of 40 bits is the sign, always set.
    let value = whole & 0x7f_ffff_ffff;
    let year_month = value >> 22;
    out.push(b'"');
    write_ymd(year_month / 13, year_month % 13, value >> 17 & 31, out);
    out.push(b'T');
    write_hms(value >> 12 & 31, value >> 6 & 63, value & 63, out);
    write_fraction(fraction, digits, out);
    out.push(b'"');
}

pub(crate) fn write_timestamp(bytes: &[u8], digits: u8, out: &mut Vec<u8>) {
    let (seconds, fraction) = split_fraction(bytes, digits);
    out.push(b'"');
    write_seconds(seconds, fraction == 0, out);
    write_fraction(fraction, digits, out);
    out.extend_from_slice(b"Z\"");
}

/// Seconds since 1970 UTC as `YYYY-MM-DDThh:mm:ss`; zero, if allowed, is the zero date, as the server shows it.
fn write_seconds(seconds: u64, zero_date: bool, out: &mut Vec<u8>) {
    if seconds == 0 && zero_date {
        out.extend_from_slice(b"0000-00-00T00:00:00");
        return;
    }
    let (year, month, day) = civil(seconds / 86_400);
    let of_day = seconds % 86_400;
    write_ymd(year, month, day, out);
    out.push(b'T');
    write_hms(of_day / 3600, of_day / 60 % 60, of_day % 60, out);
}

/// Year, month and day of a day number since 1970-01-01, in the Gregorian calendar.
fn civil(days: u64) -> (u64, u64, u64) {
    // Years begin in March here, so that the leap day is the last of a year; eras have 400 years.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// `YYYY-MM-DDThh:mm:ss.ffffffZ` of microseconds since 1970; earlier times give the beginning.
pub(crate) fn write_micros(micros: i64, out: &mut Vec<u8>) {
    let micros = u64::try_from(micros).unwrap_or(0);
    write_seconds(micros / 1_000_000, false, out);
    out.push(b'.');
    write_padded(micros % 1_000_000, 6, out);
    out.push(b'Z');
}

pub(crate) fn write_time(bytes: &[u8], digits: u8, out: &mut Vec<u8>) {
    // Big endian with an offset of half its range, fraction included, so that bytes sort as times do.
    let width = u32::try_from(bytes.len().clamp(1, 6)).unwrap_or(6) * 8;
    let stored = uint_be(bytes).cast_signed();
    let signed = stored - (1i64 << (width - 1));
    let value = signed.unsigned_abs();
    let fraction_bits = u32::try_from(fraction_bytes(digits)).unwrap_or(0) * 8;
    let whole = value >> fraction_bits;
    let fraction = value & ((1 << fraction_bits) - 1);
    out.push(b'"');
    if signed < 0 {
        out.push(b'-');
    }
    write_hms(whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63, out);
    write_fraction(fraction, digits, out);
    out.push(b'"');
}

pub(crate) fn write_old_time(bytes: &[u8], out: &mut Vec<u8>) {
    let signed = super::value::sign_extend(uint_le(bytes), 3);
    let value = signed.unsigned_abs();
    out.push(b'"');
    if signed < 0 {
        out.push(b'-');
    }
    write_hms(value / 10_000, value / 100 % 100, value % 100, out);
    out.push(b'"');
}

pub(crate) fn write_old_datetime(bytes: &[u8], out: &mut Vec<u8>) {
    let value = uint_le(bytes);
    let (date, time) = (value / 1_000_000, value % 1_000_000);
    out.push(b'"');
    write_ymd(date / 10_000, date / 100 % 100, date % 100, out);
    out.push(b'T');
    write_hms(time / 10_000, time / 100 % 100, time % 100, out);
    out.push(b'"');
}

pub(crate) fn write_old_timestamp(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    write_seconds(uint_le(bytes), true, out);
    out.extend_from_slice(b"Z\"");
}

/// A date or time inside JSON, packed into 64 bits by the server, as the server's own JSON text shows it.
pub(crate) fn write_packed(packed: i64, is_time: bool, is_date: bool, out: &mut Vec<u8>) {
    let value = packed.unsigned_abs();
    let (whole, micros) = (value >> 24, value & 0xff_ffff);
    out.push(b'"');
    if packed < 0 {
        out.push(b'-');
    }
    if is_time {
        write_hms(whole >> 12 & 0x3ff, whole >> 6 & 63, whole & 63, out);
    } else {
        let year_month = whole >> 22;
        write_ymd(year_month / 13, year_month % 13, whole >> 17 & 31, out);
        if is_date {
            out.push(b'"');
            return;
        }
        out.push(b' ');
        write_hms(whole >> 12 & 31, whole >> 6 & 63, whole & 63, out);
    }
    out.push(b'.');
    write_padded(micros, 6, out);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn days_agree_with_a_foreign_calendar() {
        for days in (0..60_000).step_by(13) {
            let date = jiff::civil::date(1970, 1, 1).saturating_add(jiff::Span::new().days(days));
            let expected = (
                u64::try_from(date.year()).unwrap(),
                u64::try_from(date.month()).unwrap(),
                u64::try_from(date.day()).unwrap(),
            );
            assert_eq!(civil(u64::try_from(days).unwrap()), expected);
        }
    }

    #[test]
    fn digits_in_one_piece_are_those_of_the_padded_numbers() {
        for (year, month, day) in [(0, 0, 0), (2026, 11, 22), (9999, 12, 31), (10_082, 15, 31), (907, 1, 1)] {
            assert_eq!(
                text(|out| write_ymd(year, month, day, out)),
                format!("{year:04}-{month:02}-{day:02}")
            );
        }
        for (hour, minute, second) in [(0, 0, 0), (23, 59, 59), (838, 59, 59), (99, 63, 63), (100, 9, 9)] {
            assert_eq!(
                text(|out| write_hms(hour, minute, second, out)),
                format!("{hour:02}:{minute:02}:{second:02}")
            );
        }
    }

    #[test]
    fn negative_times() {
        // -00:00:01.5 as TIME(2): floor to -2 seconds, and 206 of 256.
        assert_eq!(text(|out| write_time(&[0x7f, 0xff, 0xfe, 206], 2, out)), "\"-00:00:01.50\"");
        assert_eq!(text(|out| write_time(&[0x80, 0, 1], 0, out)), "\"00:00:01\"");
    }

    #[test]
    fn zero_dates_stay_zero() {
        assert_eq!(text(|out| write_date(&[0, 0, 0], out)), "\"0000-00-00\"");
        assert_eq!(text(|out| write_datetime(&[0x80, 0, 0, 0, 0], 0, out)), "\"0000-00-00T00:00:00\"");
        assert_eq!(text(|out| write_timestamp(&[0, 0, 0, 0, 0, 0], 3, out)), "\"0000-00-00T00:00:00.000Z\"");
        assert_eq!(text(|out| write_timestamp(&[0, 0, 0, 1, 0, 10], 3, out)), "\"1970-01-01T00:00:01.001Z\"");
    }

    #[test]
    fn commit_times_have_six_digits() {
        assert_eq!(text(|out| write_micros(1_795_359_773_630_160, out)), "2026-11-22T15:02:53.630160Z");
    }
}
