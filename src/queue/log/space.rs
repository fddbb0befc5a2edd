//! How much room the disk has left for mail.
//!
//! Owns the last look at the free space, what was written since, and the [`Reserve`]. Must not let a transaction
//! take what outcomes need: they are written on a disk that is full for mail.
//!
//! Diagnostics: what the system said, unchanged.

use std::io;

use super::journal::BATCH_BYTES_MAX;
use super::reserve::{Reserve, is_full};
use crate::queue::storage::Storage;

/// How often the free space is looked at.
pub(super) const SPACE_MS: u64 = 1000;
/// Outcomes that waited are written so many bytes at first where the disk was just found full.
const STRIDE_MIN: u64 = 4096;

pub(super) struct Space {
    /// What is to stay free; with 0 nobody looks.
    floor: u64,
    checked_ms: Option<u64>,
    /// As found then.
    free: u64,
    written_since: u64,
    reserve: Reserve,
    /// A write found the disk full: until then only outcomes are written.
    pinched_until_ms: Option<u64>,
    /// See [`Space::stride`].
    stride: u64,
}

impl Space {
    pub(super) const fn new(floor: u64, reserve: Reserve) -> Self {
        Self {
            floor,
            checked_ms: None,
            free: u64::MAX,
            written_since: 0,
            reserve,
            pinched_until_ms: None,
            stride: BATCH_BYTES_MAX,
        }
    }

    /// Finds out how much is free, at most once a second, and sooner when much was written since.
    pub(super) fn look(&mut self, storage: &dyn Storage, now_ms: u64) -> io::Result<()> {
        self.pinched_until_ms = self.pinched_until_ms.filter(|&until| now_ms < until);
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
    pub(super) fn on_failure(&mut self, storage: &dyn Storage, error: &io::Error, now_ms: u64) {
        self.checked_ms = None;
        if is_full(error) {
            self.pinched_until_ms = Some(now_ms + SPACE_MS);
            let less = self.stride / 8;
            self.stride = if less < STRIDE_MIN { 0 } else { less };
        }
        self.reserve.on_failure(storage, error);
    }

    /// What was written is durable.
    pub(super) fn on_success(&mut self) {
        self.stride = (self.stride * 8).clamp(STRIDE_MIN, BATCH_BYTES_MAX);
    }

    /// Bytes of what waited that are to be written at once: less and less while the disk is found full,
    /// so that some of it can be written, and gives room to the rest.
    pub(super) const fn stride(&self) -> u64 {
        self.stride
    }

    /// Bytes that results and notices may take when `pending` more are about to be written: half of what
    /// is kept from mail, and nothing of the reserve. The other half is for outcomes that have none, among
    /// them those that let go of results, and so give room.
    pub(super) fn room_to_tell(&self, pending: u64) -> u64 {
        let kept = (self.floor / 2).max(self.reserve.spent_bytes());
        match kept {
            _ if self.pinched_until_ms.is_some() => 0,
            0 => u64::MAX,
            kept => self.free.saturating_sub(self.written_since + pending).saturating_sub(kept),
        }
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
