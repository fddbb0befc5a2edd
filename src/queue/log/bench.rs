//! What benches measure of the log before any octet is written: records laid out for one write.
//!
//! Owns a door to the batch that the commit thread fills, and adds nothing to it.
//!
//! Diagnostics: none; a transaction that no record can hold is not counted.

use super::batch::{Batch, INTERNAL_BYTES_MAX};
use super::segment::SegmentName;
use crate::queue::engine::Entry;

/// The scratch memory of batches, kept from one to the next.
#[derive(Debug)]
pub struct Layout(Batch);

impl Layout {
    /// Memory for nothing yet.
    pub fn new() -> Self {
        Self(Batch::new(SegmentName { number: 1, salt: 1 }, 0))
    }

    /// Lays out `entries` as the commit thread does; the octets of the write.
    pub fn lay_out(&mut self, entries: &[Entry]) -> usize {
        self.0.clear();
        for entry in entries {
            match entry {
                Entry::Accept(transaction) => {
                    // What does not fit adds nothing.
                    let _ = self.0.add_accept(transaction, &[], INTERNAL_BYTES_MAX);
                }
                Entry::Settle(attempt) => {
                    self.0.add_settle(attempt, 1, 0);
                }
            }
        }
        self.0.slices().iter().map(|slice| slice.len()).sum()
    }
}

impl Default for Layout {
    fn default() -> Self {
        Self::new()
    }
}
