//! What hides a password from who listens, where there is no TLS: RSA with the key that the server sent.
//!
//! The arithmetic is `mysql_common`'s, which panics where a key makes no sense; so keys are read here, and only what it
//! takes is handed to it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mysql_common::crypto::rsa::{GetRandom, Pkcs1OaepPadding, PublicKey};
use num_bigint::BigUint;

/// Keys below protect nothing.
const LEAST_BITS: u64 = 1024;
/// Keys above keep a connection busy for seconds.
const MOST_BITS: u64 = 16_384;
/// Exponents are 65537, or other small numbers.
const MOST_EXPONENT_BITS: u64 = 64;
/// Of OAEP with SHA-1: two hashes and two bytes.
const PADDING_BYTES: usize = 42;
/// `rsaEncryption`.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;

/// Why nothing can be hidden with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// It is none.
    #[error("the server's public key is not understood")]
    Malformed,
    /// It is one that nobody should use.
    #[error(
        "the server's public key has {0} bits, and {least} to {most} are taken; use tls: required",
        least = LEAST_BITS, most = MOST_BITS
    )]
    Size(u64),
    /// It is too small for what is to be hidden.
    #[error(
        "a password of {bytes} bytes is too long for the server's public key, which takes {most}; use tls: required"
    )]
    TooLong {
        /// Bytes of the password.
        bytes: usize,
        /// Of the longest that it takes.
        most: usize,
    },
}

/// What [`super::packet`] asks a key for.
pub(super) fn begins_like_a_key(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGIN)
}

const BEGIN: &[u8] = b"-----BEGIN PUBLIC KEY-----";
const END: &[u8] = b"-----END PUBLIC KEY-----";

/// Encrypts a password, its final zero included, with a key in PEM.
pub(super) fn encrypt(plain: &[u8], pem: &[u8]) -> Result<Vec<u8>, KeyError> {
    let (modulus, exponent) = parse(pem).ok_or(KeyError::Malformed)?;
    if !(LEAST_BITS..=MOST_BITS).contains(&modulus.bits()) {
        return Err(KeyError::Size(modulus.bits()));
    }
    let odd = |number: &BigUint| number.bit(0);
    if !odd(&modulus) || !odd(&exponent) || !(2..=MOST_EXPONENT_BITS).contains(&exponent.bits()) {
        return Err(KeyError::Malformed);
    }
    let key = PublicKey::new(modulus, exponent);
    let most = key.num_octets().saturating_sub(PADDING_BYTES);
    if plain.len() > most {
        return Err(KeyError::TooLong { bytes: plain.len().saturating_sub(1), most: most.saturating_sub(1) });
    }
    Ok(key.encrypt_block(plain, Pkcs1OaepPadding::new(GetRandom)))
}

/// Modulus and exponent of a `SubjectPublicKeyInfo` in PEM.
fn parse(pem: &[u8]) -> Option<(BigUint, BigUint)> {
    let body = pem.strip_prefix(BEGIN)?;
    let end = body.windows(END.len()).position(|window| window == END)?;
    let text: Vec<u8> = body.get(..end)?.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let der = STANDARD.decode(text).ok()?;
    let mut info = take(&mut der.as_slice(), SEQUENCE)?;
    let mut algorithm = take(&mut info, SEQUENCE)?;
    if take(&mut algorithm, OBJECT_ID)? != RSA {
        return None;
    }
    // A byte says how many bits of the last one do not count.
    let bits = take(&mut info, BIT_STRING)?;
    let mut numbers = take(&mut bits.strip_prefix(&[0])?, SEQUENCE)?;
    let mut number = || take(&mut numbers, INTEGER).map(BigUint::from_bytes_be);
    Some((number()?, number()?))
}

/// The content of the next DER element, if it is of this kind.
fn take<'a>(input: &mut &'a [u8], kind: u8) -> Option<&'a [u8]> {
    let [found, first, rest @ ..] = *input else { return None };
    let (length, rest) = match usize::from(*first) {
        short @ ..0x80 => (short, rest),
        long => {
            let (bytes, rest) = rest.split_at_checked(long & 0x7f).filter(|(bytes, _)| bytes.len() <= 3)?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    (*found == kind).then_some(content)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Of 2048 bits.
    pub(in crate::mysql) const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAkmpt17xLS3vejmds3TCK\n\
/qtLQOE2hVdD5NpTcY4V7yZ1I3J0kBF1smB+JLoHqdS5ZAPGPwH46p0cYSOHEs8T\n\
DWGlA+TKLQmW31lBw6BsLET6zEg85CwYkt/EwF+xtup+hau11KHMU9ay0qBsKzdM\n\
7IG49tSy40SfHeUq0w01zEM7X+XF0kvfkpqHo8RGqB1eYwFTHXd+Fz76st2woQkf\n\
ZywYqeqkfG67il14xnI5u55WfMxEF2fSv5U/lBCbiknGlULS+QiEO7KSEoCF9781\n\
Rxp6F/8NWQ/jcg4VDsghSnlVqcXWeJ4xQK2E1c2HZp8GfhmlW0GQkasxlHUeowkk\n\
rQIDAQAB\n\
-----END PUBLIC KEY-----\n\
";
    /// Of 512.
    const SMALL: &str = "-----BEGIN PUBLIC KEY-----\n\
MFwwDQYJKoZIhvcNAQEBBQADSwAwSAJBAOL7ZCX5gfGGdjEqFz/GNLboc1sDlCYJ\n\
ZW7KfeK/Hs/fGTIq2HzbkRz7eWr+TUL1QeUr9oDbqt6NI3bn5tNgNfMCAwEAAQ==\n\
-----END PUBLIC KEY-----\n\
";

    fn key(der: &[u8]) -> Vec<u8> {
        [BEGIN, b"\n", STANDARD.encode(der).as_bytes(), b"\n", END].concat()
    }

    fn der(pem: &str) -> Vec<u8> {
        let text: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        STANDARD.decode(text).unwrap()
    }

    #[test]
    fn passwords_are_hidden_as_far_as_the_key_reaches() {
        for length in [1, 20, 214] {
            let hidden = encrypt(&vec![7; length], KEY.as_bytes()).unwrap();
            assert_eq!(hidden.len(), 256);
            assert_ne!(hidden, encrypt(&vec![7; length], KEY.as_bytes()).unwrap(), "padded at random");
        }
        let refused = |length, key: &str| encrypt(&vec![7; length], key.as_bytes()).unwrap_err();
        assert_eq!(refused(215, KEY), KeyError::TooLong { bytes: 214, most: 213 });
        assert_eq!(refused(5000, KEY), KeyError::TooLong { bytes: 4999, most: 213 });
        assert_eq!(refused(5, SMALL), KeyError::Size(512));
        assert_eq!(refused(5, &KEY.replace("MIIB", "MIIC")), KeyError::Malformed);
        assert_eq!(refused(5, "-----BEGIN PUBLIC KEY-----"), KeyError::Malformed);
    }

    proptest! {
        /// A key with some bytes changed, and cut short.
        #[test]
        fn no_key_panics(
            edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
            whole in any::<bool>(),
            length in 0_usize..300,
        ) {
            let mut der = der(KEY);
            for (at, byte) in edits {
                let at = at.index(der.len());
                der[at] = byte;
            }
            if !whole {
                der.truncate(cut.index(der.len()));
            }
            drop(encrypt(&vec![1; length], &key(&der)));
        }
    }
}
