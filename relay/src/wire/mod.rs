//! The bytes between a relay and its consumers, and on the relay's disk: pure, versioned, checksummed.
//!
//! A [`block`] holds transactions; the same bytes lie in a log segment and travel in a frame. A [`frame`]
//! is what a stream between client and server is made of.

pub mod block;
mod codec;
pub mod frame;
mod partitions;
mod selection;

pub use block::{Block, BlockBuilder, BlockError, BlockItem, BlockReader, Sealed};
pub use codec::Malformed;
pub use partitions::{PartitionSet, partition_of};
pub use selection::Selection;
