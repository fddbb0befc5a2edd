//! Owns: where time comes from. The reactor asks once a turn and everything in the turn sees that
//! one answer.
//!
//! Must never: go backwards, or follow the wall clock (D-93).
//!
//! Diagnostics: none.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A monotonic source of milliseconds.
pub trait Clock {
    /// Whole milliseconds since some start, rounded down; never less than an earlier answer.
    fn now_ms(&self) -> u64;
}

/// The machine's monotonic clock, counted from the making of this value.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock that stands at 0 now.
    pub fn new() -> Self {
        SystemClock { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // No truncation before 584 million years.
        self.start.elapsed().as_millis() as u64
    }
}

/// A clock that moves when it is told to. Clones share one time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock {
    now_ms: Arc<AtomicU64>,
}

impl ManualClock {
    /// A clock that stands at `now_ms`.
    pub fn new(now_ms: u64) -> Self {
        ManualClock { now_ms: Arc::new(AtomicU64::new(now_ms)) }
    }

    /// Moves this clock, and all its clones, ahead by `ms`.
    pub fn advance(&self, ms: u64) {
        self.now_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.now_ms.load(Ordering::Relaxed)
    }
}
