//! MariaDB's UUID, INET4 and INET6, as the text that the server shows.

use super::{DecodeError, event};
use std::io::Write as _;

/// Fixed bytes; the server cut trailing zeros off.
fn whole<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N], DecodeError> {
    let mut all = [0; N];
    all.get_mut(..bytes.len()).ok_or(DecodeError::Invalid(what))?.copy_from_slice(bytes);
    Ok(all)
}

/// Writes a UUID. Those of versions 1 to 5 are stored with their parts in reverse order, so that they sort by time.
pub(super) fn write_uuid(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let stored: [u8; 16] = whole(bytes, "UUID")?;
    let [n0, n1, n2, n3, n4, n5, s0, s1, h0, h1, m0, m1, l0, l1, l2, l3] = stored;
    // The variant's bit where the version would be, and a version where the variant would be.
    let is_reversed = s0 & 0x80 != 0 && (1..=0x80).contains(&h0);
    let uuid =
        if is_reversed { [l0, l1, l2, l3, m0, m1, h0, h1, s0, s1, n0, n1, n2, n3, n4, n5] } else { stored };
    out.push(b'"');
    out.extend_from_slice(event::uuid_text(&uuid, &mut [0; event::UUID_LEN]).as_bytes());
    out.push(b'"');
    Ok(())
}

/// Writes an IPv4 address.
pub(super) fn write_inet4(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    out.push(b'"');
    put_inet4(whole(bytes, "INET4")?, out);
    out.push(b'"');
    Ok(())
}

fn put_inet4([a, b, c, d]: [u8; 4], out: &mut Vec<u8>) {
    // A Vec takes all it is given.
    drop(write!(out, "{a}.{b}.{c}.{d}"));
}

/// Writes an IPv6 address as MariaDB does: the first longest run of zeros is left out, even of one word, and what
/// holds an IPv4 address shows it.
pub(super) fn write_inet6(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), DecodeError> {
    let stored: [u8; 16] = whole(bytes, "INET6")?;
    let (pairs, _) = stored.as_chunks::<2>();
    let words: Vec<u16> = pairs.iter().map(|pair| u16::from_be_bytes(*pair)).collect();
    let zeros = |from: usize| words.iter().skip(from).take_while(|word| **word == 0).count();
    let (mut gap, mut length) = (words.len(), 0);
    for from in 0..words.len() {
        if zeros(from) > length {
            (gap, length) = (from, zeros(from));
        }
    }
    let holds_inet4 = gap == 0 && (length == 6 || length == 5 && words.get(5) == Some(&0xffff));
    out.push(b'"');
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if at == gap {
            out.extend_from_slice(if at == 0 { b"::" } else { b":" });
            at += length;
            continue;
        }
        if at == 6 && holds_inet4 {
            let [.., a, b, c, d] = stored;
            put_inet4([a, b, c, d], out);
            break;
        }
        drop(write!(out, "{word:x}"));
        at += 1;
        if at < words.len() {
            out.push(b':');
        }
    }
    out.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inet6(text: &str) -> String {
        let address: std::net::Ipv6Addr = text.parse().unwrap();
        let mut out = Vec::new();
        write_inet6(&address.octets(), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn addresses_are_as_the_server_shows_them() {
        for (given, shown) in [
            ("::", "::"),
            ("::1", "::1"),
            ("1::", "1::"),
            ("2001:db8::ff00:42:8329", "2001:db8::ff00:42:8329"),
            ("1:0:2:3:4:5:6:7", "1::2:3:4:5:6:7"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("0:0:1::", "0:0:1::"),
        ] {
            assert_eq!(inet6(given), format!("\"{shown}\""));
        }
    }

    #[test]
    fn uuids_are_put_in_order() {
        let mut out = Vec::new();
        // 123e4567-e89b-12d3-a456-426655440000, as stored, without its trailing zeros.
        let stored =
            [0x42, 0x66, 0x55, 0x44, 0, 0, 0xa4, 0x56, 0x12, 0xd3, 0xe8, 0x9b, 0x12, 0x3e, 0x45, 0x67];
        write_uuid(&stored, &mut out).unwrap();
        write_uuid(&[], &mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"123e4567-e89b-12d3-a456-426655440000\"\"00000000-0000-0000-0000-000000000000\""
        );
        assert!(write_uuid(&[0; 17], &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn an_address_reads_back_by_a_foreign_parser(octets in any::<[u8; 16]>(), zeros in any::<u16>()) {
            let mut octets = octets;
            for (index, octet) in octets.iter_mut().enumerate() {
                if zeros >> index & 1 == 1 {
                    *octet = 0;
                }
            }
            let mut out = Vec::new();
            write_inet6(&octets, &mut out).unwrap();
            let text = String::from_utf8(out).unwrap();
            let read: std::net::Ipv6Addr = text.trim_matches('"').parse().unwrap();
            prop_assert_eq!(read.octets(), octets);
        }
    }
}
