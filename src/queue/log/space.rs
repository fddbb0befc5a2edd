//! How much room the disk has left for mail.
//!
//! Owns the last look at the free space, what was written since, and the [`Reserve`]. Must not let a transaction
//! take what outcomes need: they are written on a disk that is full for mail.
//!
//! Diagnostics: what the system said, unchanged.

use std::io;

use super::reserve::Reserve;
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
    reserve: Reserve,
}

impl Space {
    pub(super) const fn new(floor: u64, reserve: Reserve) -> Self {
        Self { floor, checked_ms: None, free: u64::MAX, written_since: 0, reserve }
    }

    /// Finds out how much is free, at most once a second, and sooner when much was written since.
    pub(super) fn look(&mut self, storage: &dyn Storage, now_ms: u64) -> io::Result<()> {
        let recent = self.checked_ms.is_some_and(|at| now_ms < at + SPACE_MS);
        let unwatched = self.floor == 0 && !self.reserve.is_missing();
        // Without a floor nothing but the time says when to look for room again.
        let moved = self.floor > 0 && self.written_since >= self.floor / 4;
        if unwatched || (recent && !moved) {
            return Ok(());
        }
        self.checked_ms = Some(now_ms);
        self.free = self.free.saturating_sub(std::mem::take(&mut self.written_since));
        self.free = storage.free_bytes()?;
        self.reserve.make(storage, self.free, self.floor)
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
    pub(super) fn on_failure(&mut self, storage: &dyn Storage, error: &io::Error) {
        self.checked_ms = None;
        self.reserve.on_failure(storage, error);
    }

    /// No mail is taken.
    pub(super) fn is_full(&self) -> bool {
        self.reserve.is_missing() || self.free.saturating_sub(self.written_since) < self.floor
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
