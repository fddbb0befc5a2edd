//! Room that is kept for outcomes when others fill the disk.
//!
//! Owns a file that only takes space. It is given up when a write finds the disk full, so that
//! outcomes can still be written, and made again when there is room for it and for mail. While it
//! is missing no mail is taken: mail would use what outcomes need.
//!
//! Must never: keep the log from being written because it cannot be made at all.
//!
//! Diagnostics: what the system said when it was not made, unchanged.

use std::io::{self, ErrorKind};

use crate::queue::storage::Storage;

/// The file's name in the queue directory.
pub(super) const NAME: &str = "reserve";

pub(super) struct Reserve {
    bytes: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// None is wanted, or none can be made on this disk.
    Without,
    Kept,
    Missing,
}

impl Reserve {
    /// One of `bytes` bytes, 0 for none; it may be there from before.
    pub(super) fn find(storage: &dyn Storage, bytes: u64) -> Self {
        let is_there = || storage.list().is_ok_and(|names| names.iter().any(|name| name == NAME));
        let state = match bytes {
            0 => State::Without,
            _ if is_there() => State::Kept,
            _ => State::Missing,
        };
        Self { bytes, state }
    }

    /// Whether it was given up and not made again.
    pub(super) fn is_missing(&self) -> bool {
        self.state == State::Missing
    }

    /// Bytes that are to be left to outcomes because it was given up for them.
    pub(super) fn spent_bytes(&self) -> u64 {
        if self.is_missing() { self.bytes } else { 0 }
    }

    /// Makes it if it is missing and the disk has room for it beyond `floor`, with as much again to
    /// spare: what was given up a moment ago is no room.
    pub(super) fn make(&mut self, storage: &dyn Storage, free: u64, floor: u64) -> io::Result<()> {
        if !self.is_missing() || free < floor.saturating_add(2 * self.bytes) {
            return Ok(());
        }
        match storage.reserve(NAME, self.bytes) {
            Ok(()) => self.state = State::Kept,
            Err(error) => {
                let _ = storage.remove(NAME);
                if !is_full(&error) {
                    self.state = State::Without;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// A write failed; if the disk is full, gives the room to what is written next.
    pub(super) fn on_failure(&mut self, storage: &dyn Storage, error: &io::Error) {
        if self.state == State::Kept && is_full(error) && storage.remove(NAME).is_ok() {
            self.state = State::Missing;
        }
    }
}

/// Whether it says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
