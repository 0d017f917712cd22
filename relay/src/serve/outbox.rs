//! Frames on their way out of one stream: large ones are not copied, small ones that follow each other are put together.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::IoSlice;

/// A block below this is copied: a piece of its own in the system call costs more.
const COPIED_BYTES: usize = 4096;

/// What is to be written next, in order.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Bytes>,
    /// Behind the pieces.
    tail: Vec<u8>,
    /// Of the tail, already written.
    written: usize,
    /// Of the pieces.
    bytes: usize,
}

impl Outbox {
    /// Where frames are encoded to.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.tail
    }

    /// Adds a block's bytes.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < COPIED_BYTES {
            self.tail.extend_from_slice(bytes);
            return;
        }
        let mut tail = Bytes::from(std::mem::take(&mut self.tail));
        tail.advance(std::mem::take(&mut self.written));
        for piece in [tail, bytes.clone()] {
            if !piece.is_empty() {
                self.bytes += piece.len();
                self.pieces.push_back(piece);
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    fn rest(&self) -> &[u8] {
        self.tail.get(self.written..).unwrap_or_default()
    }
}

impl Buf for Outbox {
    fn remaining(&self) -> usize {
        self.bytes + self.tail.len() - self.written
    }

    fn chunk(&self) -> &[u8] {
        match self.pieces.front() {
            Some(piece) => piece,
            None => self.rest(),
        }
    }

    fn chunks_vectored<'a>(&'a self, out: &mut [IoSlice<'a>]) -> usize {
        let pieces = self.pieces.iter().map(|piece| &piece[..]).chain([self.rest()]);
        let mut filled = 0;
        for (slot, piece) in out.iter_mut().zip(pieces.filter(|piece| !piece.is_empty())) {
            *slot = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    fn advance(&mut self, mut count: usize) {
        while let Some(piece) = self.pieces.front_mut() {
            let step = count.min(piece.len());
            piece.advance(step);
            (self.bytes, count) = (self.bytes - step, count - step);
            if !piece.is_empty() {
                return;
            }
            self.pieces.pop_front();
        }
        self.written += count;
        if self.written >= self.tail.len() {
            self.tail.clear();
            self.written = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However frames come and however little of them the socket takes at a time, their bytes go out in order.
        #[test]
        fn what_goes_in_comes_out(
            steps in proptest::collection::vec((any::<bool>(), 0_usize..9000, 0_usize..12_000), 1..20),
        ) {
            let (mut outbox, mut expected, mut seen) = (Outbox::default(), Vec::new(), Vec::new());
            let mut next = 0_u8;
            for (encoded, length, taken) in steps {
                let bytes: Vec<u8> = (0..length).map(|_| { next = next.wrapping_add(31); next }).collect();
                if encoded { outbox.tail().extend_from_slice(&bytes) } else { outbox.push(&bytes.clone().into()) }
                expected.extend(bytes);
                let mut slices = [IoSlice::new(&[]); 3];
                let filled = outbox.chunks_vectored(&mut slices);
                let offered: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.iter().copied()).collect();
                prop_assert!(offered.starts_with(outbox.chunk()));
                prop_assert_eq!(offered.is_empty(), outbox.is_empty());
                let taken = taken.min(offered.len());
                seen.extend_from_slice(&offered[..taken]);
                outbox.advance(taken);
                prop_assert_eq!(outbox.remaining(), expected.len() - seen.len());
            }
            while outbox.has_remaining() {
                seen.extend_from_slice(outbox.chunk());
                outbox.advance(outbox.chunk().len());
            }
            prop_assert_eq!(seen, expected);
        }
    }
}
