//! Where a transaction stands in a source: [`Position`] orders, [`Scn`] displays.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The start of a transaction in a source's binlog. Order, log and checkpoints use this.
///
/// Positions of one source are the same on every relay that reads the same server, so a consumer can
/// change relay. They compare across epochs only in the sense that a later epoch is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Raised by one at each failover or RESET of the source.
    pub epoch: u32,
    /// The number at the end of the binlog file's name: 3 for `mysql-bin.000003`.
    pub file: u32,
    /// Byte offset in that file of the first event of the transaction (its GTID event). May exceed
    /// 4 GiB: a file rotates only between transactions.
    pub offset: u64,
}

impl Position {
    /// Builds a position.
    pub const fn new(epoch: u32, file: u32, offset: u64) -> Self {
        Self { epoch, file, offset }
    }

    /// The number shown to people and in the JSON: `file << 32 | offset`, the offset saturating at
    /// 2³² − 1, as in Databus. Never compare or subtract it.
    pub fn scn(self) -> Scn {
        let low = u32::try_from(self.offset).unwrap_or(u32::MAX);
        Scn(u64::from(self.file) << 32 | u64::from(low))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.epoch, self.file, self.offset)
    }
}

/// A system change number: the display form of a [`Position`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Scn(pub u64);

impl Scn {
    /// The position in `epoch` that this number stands for, exact where the offset is below 4 GiB.
    pub fn position(self, epoch: u32) -> Position {
        let file = u32::try_from(self.0 >> 32).unwrap_or(u32::MAX);
        Position::new(epoch, file, self.0 & u64::from(u32::MAX))
    }
}

impl fmt::Display for Scn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scn_does_not_sign_extend_at_two_gibibytes() {
        let at = Position::new(1, 3, 0x8000_0001);
        assert_eq!(at.scn().0, 3 << 32 | 0x8000_0001);
        assert_eq!(at.scn().position(1), at);
    }

    #[test]
    fn scn_saturates_instead_of_reaching_into_the_file_number() {
        let at = Position::new(1, 3, 5 << 32);
        assert_eq!(at.scn().0, 3 << 32 | u64::from(u32::MAX));
    }
}
