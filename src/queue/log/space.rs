//! How much room the disk has left for mail.
//!
//! Owns the last look at the free space and what was written since. Must not let a transaction
//! take what outcomes need: they are written on a disk that is full for mail.
//!
//! Diagnostics: what the system said, unchanged.

use std::io;

use crate::queue::storage::Storage;

/// How often the free space is looked at.
const SPACE_MS: u64 = 1000;

pub(super) struct Space {
    /// What is to stay free; with 0 nobody looks.
    floor: u64,
    checked_ms: Option<u64>,
    /// As found then.
    free: u64,
    written_since: u64,
}

impl Space {
    pub(super) const fn new(floor: u64) -> Self {
        Self { floor, checked_ms: None, free: u64::MAX, written_since: 0 }
    }

    /// Finds out how much is free, at most once a second, and sooner when much was written since.
    pub(super) fn look(&mut self, storage: &dyn Storage, now_ms: u64) -> io::Result<()> {
        let recent = self.checked_ms.is_some_and(|at| now_ms < at + SPACE_MS);
        if self.floor == 0 || (recent && self.written_since < self.floor / 4) {
            return Ok(());
        }
        self.checked_ms = Some(now_ms);
        self.free = self.free.saturating_sub(std::mem::take(&mut self.written_since));
        self.free = storage.free_bytes()?;
        Ok(())
    }

    /// When to look again even if there is nothing else to do.
    pub(super) fn next_look(&self) -> Option<u64> {
        self.checked_ms.filter(|_| self.is_full()).map(|at| at + SPACE_MS)
    }

    /// So many bytes were written.
    pub(super) const fn on_written(&mut self, bytes: u64) {
        self.written_since += bytes;
    }

    /// A write failed: what is free is to be found out before the next one.
    pub(super) const fn on_failure(&mut self) {
        self.checked_ms = None;
    }

    /// No mail is taken.
    pub(super) const fn is_full(&self) -> bool {
        self.free.saturating_sub(self.written_since) < self.floor
    }

    /// It may soon be full: space is to be given back sooner than otherwise.
    pub(super) const fn is_short(&self) -> bool {
        self.free.saturating_sub(self.written_since) / 2 < self.floor
    }

    /// Bytes that mail may take when `pending` more are about to be written.
    pub(super) const fn room(&self, pending: u64) -> u64 {
        match self.floor {
            0 => u64::MAX,
            floor => self.free.saturating_sub(self.written_since + pending).saturating_sub(floor),
        }
    }
}
