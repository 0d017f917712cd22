//! A cursor over bytes that cannot read past the end.

use super::DecodeError;

/// The rest of some bytes; each read takes from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bytes<'a> {
    rest: &'a [u8],
    /// What is being read, for the error.
    what: &'static str,
}

impl<'a> Bytes<'a> {
    pub(crate) fn new(rest: &'a [u8], what: &'static str) -> Self {
        Self { rest, what }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        match self.rest.split_at_checked(len) {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(head)
            }
            None => Err(DecodeError::Truncated(self.what)),
        }
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                self.rest = tail;
                Ok(*head)
            }
            None => Err(DecodeError::Truncated(self.what)),
        }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    #[inline]
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    #[inline]
    pub(crate) fn u48(&mut self) -> Result<u64, DecodeError> {
        Ok(uint_le(self.take(6)?))
    }

    #[inline]
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// The protocol's length-encoded integer.
    pub(crate) fn lenenc(&mut self) -> Result<u64, DecodeError> {
        match self.u8()? {
            byte @ 0..=250 => Ok(u64::from(byte)),
            252 => Ok(u64::from(self.u16()?)),
            253 => Ok(uint_le(self.take(3)?)),
            254 => self.u64(),
            _ => Err(DecodeError::Invalid("length-encoded integer")),
        }
    }

    /// A length-encoded integer as a length.
    pub(crate) fn lenenc_len(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.lenenc()?).map_err(|_| DecodeError::Truncated(self.what))
    }

    /// A length-encoded integer, then as many bytes.
    pub(crate) fn lenenc_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.lenenc_len()?;
        self.take(len)
    }

    /// A length in `bytes` bytes, little endian, then as many bytes.
    #[inline]
    pub(crate) fn prefixed(&mut self, bytes: u8) -> Result<&'a [u8], DecodeError> {
        let len = uint_le(self.take(usize::from(bytes))?);
        self.take(usize::try_from(len).map_err(|_| DecodeError::Truncated(self.what))?)
    }

    /// A length-encoded integer in the form of MySQL's serialization library (tagged GTIDs): the number of
    /// trailing one bits of the first byte is the number of further bytes.
    pub(crate) fn varlen(&mut self) -> Result<u64, DecodeError> {
        let first = self.u8()?;
        let more = first.trailing_ones();
        let mut value = if more >= 7 { 0 } else { u64::from(first) >> (more + 1) };
        let rest = uint_le(self.take(usize::try_from(more).unwrap_or(8))?);
        let shift = 7u32.saturating_sub(more);
        value |= rest.checked_shl(shift).unwrap_or(0);
        Ok(value)
    }
}

/// Up to eight bytes, little endian.
#[inline]
pub(crate) fn uint_le(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Up to eight bytes, big endian.
#[inline]
pub(crate) fn uint_be(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varlen_of_the_serialization_library() {
        // One byte: value << 1. Two bytes: low bits 01. Nine bytes: 0xff and eight bytes.
        assert_eq!(Bytes::new(&[84], "x").varlen(), Ok(42));
        assert_eq!(Bytes::new(&[0x01, 0x02], "x").varlen(), Ok(128));
        assert_eq!(Bytes::new(&[0xff, 1, 0, 0, 0, 0, 0, 0, 0x80], "x").varlen(), Ok(1 << 63 | 1));
        assert_eq!(Bytes::new(&[0x7f, 1, 0, 0, 0, 0, 0, 0], "x").varlen(), Ok(1));
        assert!(Bytes::new(&[0x03, 1], "x").varlen().is_err());
    }
}
