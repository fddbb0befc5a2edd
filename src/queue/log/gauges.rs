//! The figures that others may read while the commit thread works.
//!
//! Owns the [`Status`] and its counters. What workers ask on the way of each mail is atomic; the
//! rest stands behind a lock that the commit thread takes once a batch.
//!
//! Diagnostics: keeps the last failure as a sentence.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::queue::engine::{Accepting, Status};

#[derive(Debug)]
pub(super) struct Gauges {
    accepting: AtomicU8,
    delivering: AtomicBool,
    status: Mutex<Status>,
}

impl Gauges {
    pub(super) fn new() -> Self {
        let status = Status {
            accepting: Accepting::Failed,
            delivering: true,
            recovering: true,
            settles_unsynced: 0,
            transactions: 0,
            segments: 0,
            total_bytes: 0,
            live_bytes: 0,
            damaged: 0,
            commits: 0,
            syncs: 0,
            accepted: 0,
            refused: 0,
            rewritten: 0,
            trouble: None,
        };
        Self {
            accepting: AtomicU8::new(number(status.accepting)),
            delivering: AtomicBool::new(true),
            status: Mutex::new(status),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> Status {
        self.lock().clone()
    }

    pub(super) fn accepting(&self) -> Accepting {
        match self.accepting.load(Ordering::Relaxed) {
            0 => Accepting::Yes,
            1 => Accepting::Full,
            _ => Accepting::Failed,
        }
    }

    pub(super) fn delivering(&self) -> bool {
        self.delivering.load(Ordering::Relaxed)
    }

    pub(super) fn update(
        &self,
        accepting: Accepting,
        delivering: bool,
        set: impl FnOnce(&mut Status),
    ) {
        self.accepting.store(number(accepting), Ordering::Relaxed);
        self.delivering.store(delivering, Ordering::Relaxed);
        let mut status = self.lock();
        (status.accepting, status.delivering) = (accepting, delivering);
        set(&mut status);
    }

    pub(super) fn trouble(&self, what: &str, why: &dyn Display) {
        self.lock().trouble = Some(format!("{what}: {why}"));
    }

    pub(super) fn count_commit(&self) {
        self.lock().commits += 1;
    }

    pub(super) fn count_sync(&self) {
        self.lock().syncs += 1;
    }

    pub(super) fn count_accepts(&self, accepted: u64, refused: u64) {
        let mut status = self.lock();
        status.accepted += accepted;
        status.refused += refused;
    }

    pub(super) fn count_rewritten(&self, transactions: u64) {
        self.lock().rewritten += transactions;
    }

    /// What was there at the start is known.
    pub(super) fn on_recovered(&self) {
        self.lock().recovering = false;
    }

    pub(super) fn count_damage(&self, places: u64) {
        self.lock().damaged += places;
    }
}

const fn number(accepting: Accepting) -> u8 {
    match accepting {
        Accepting::Yes => 0,
        Accepting::Full => 1,
        Accepting::Failed => 2,
    }
}
