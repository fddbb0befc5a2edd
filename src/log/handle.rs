//! The handle: what the rest of the program logs with.
//!
//! Owns the bounded way to the thread. Never blocks and never fails: a line that does not fit is
//! dropped and counted.
//!
//! Diagnostics: none of its own; the thread reports what was dropped.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use super::level::Level;
use super::limit::{Admission, Limits};
use super::line::{Line, capped};
use crate::clock::Wall;

/// Lines that wait for the thread at most.
pub(super) const QUEUE_LINES_MAX: usize = 8192;
/// Bytes of text that wait for the thread at most.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;

/// A way to the log; clones share it, and any thread may use one.
#[derive(Clone)]
pub struct Log(Option<Arc<Front>>);

/// What handles share with each other.
pub(super) struct Front {
    pub(super) sender: Sender<Item>,
    /// The [`Level::rank`] up to which lines are written; 0 writes none.
    pub(super) rank: AtomicU8,
    pub(super) limits: Limits,
    pub(super) shared: Arc<Shared>,
}

/// What handles share with the thread.
#[derive(Default)]
pub(super) struct Shared {
    /// Bytes of text that wait.
    pub(super) waiting_bytes: AtomicUsize,
    /// Lines that were given to the thread.
    pub(super) sent: AtomicU64,
    /// Lines dropped since the thread last said so.
    pub(super) dropped: AtomicU64,
}

/// What is sent to the thread.
pub(super) enum Item {
    Line(Line),
    Reopen,
    /// Write to these places from now on.
    Move(Vec<super::thread::Outlet>),
    /// Write what came before; end if asked to; then answer.
    Flush {
        then: Then,
        answer: Sender<()>,
    },
}

/// What the thread does after a flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    GoOn,
    End,
}

impl Log {
    /// A log that goes nowhere (D-B2).
    pub fn none() -> Self {
        Self(None)
    }

    pub(super) fn new(front: Front) -> Self {
        Self(Some(Arc::new(front)))
    }

    pub(super) fn front(&self) -> Option<&Front> {
        self.0.as_deref()
    }

    /// Whether lines of this level are written: ask before preparing a costly text.
    pub fn enabled(&self, level: Level) -> bool {
        self.0.as_ref().is_some_and(|front| front.takes(level))
    }

    /// Logs something that somebody must act on.
    pub fn critical(&self, part: &'static str, text: impl Display) {
        self.write(Level::Critical, part, text);
    }

    /// Logs something that somebody should look at.
    pub fn warning(&self, part: &'static str, text: impl Display) {
        self.write(Level::Warning, part, text);
    }

    /// Logs what happened.
    pub fn info(&self, part: &'static str, text: impl Display) {
        self.write(Level::Info, part, text);
    }

    /// Logs what happened, in detail.
    pub fn debug(&self, part: &'static str, text: impl Display) {
        self.write(Level::Debug, part, text);
    }

    /// Logs a text for a part of the program such as `smtp` or `queue`. The text is formatted now
    /// if the level is written, up to 64 KiB. Of the part `plugin` newlines begin lines with the same
    /// prefix; of others they are escaped.
    pub fn write(&self, level: Level, part: &'static str, text: impl Display) {
        self.write_at(Wall::now_ms, level, part, text);
    }

    /// Logs a text that a peer can provoke: of each kind 10 lines pass in 10 seconds, and the
    /// first one after that says how many did not. The kind is a constant such as `bad-command`.
    pub fn limited(
        &self,
        kind: &'static str,
        level: Level,
        part: &'static str,
        text: impl Display,
    ) {
        self.limited_at(Wall::now_ms, kind, level, part, text);
    }

    /// How many lines it was given so far: whether there is anything new, for whoever reads what is written.
    pub fn sent(&self) -> u64 {
        self.0.as_ref().map_or(0, |front| front.shared.sent.load(Ordering::Relaxed))
    }

    /// Asks the thread to open files again, because somebody moved them (SIGHUP).
    pub fn reopen(&self) {
        if let Some(front) = &self.0 {
            front.send(Item::Reopen);
        }
    }

    pub(super) fn limited_at(
        &self,
        clock: impl FnOnce() -> u64,
        kind: &'static str,
        level: Level,
        part: &'static str,
        text: impl Display,
    ) {
        let Some(front) = self.0.as_ref().filter(|front| front.takes(level)) else {
            return;
        };
        let unix_ms = clock();
        match front.limits.admit(kind, unix_ms) {
            Admission::LeftOut => {}
            Admission::Passes { left_out: 0 } => self.write_at(|| unix_ms, level, part, text),
            Admission::Passes { left_out } => {
                let text = format_args!("{text} ({left_out} more of this kind were left out)");
                self.write_at(|| unix_ms, level, part, text);
            }
        }
    }

    pub(super) fn write_at(
        &self,
        clock: impl FnOnce() -> u64,
        level: Level,
        part: &'static str,
        text: impl Display,
    ) {
        let Some(front) = self.0.as_ref().filter(|front| front.takes(level)) else {
            return;
        };
        // A full queue is asked first: formatting for nothing is what a flood would make us do.
        if front.sender.is_full() {
            front.shared.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        front.shared.sent.fetch_add(1, Ordering::Relaxed);
        front.send(Item::Line(Line { level, part, unix_ms: clock(), text: capped(text) }));
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rank = self.0.as_ref().map(|front| front.rank.load(Ordering::Relaxed));
        f.debug_tuple("Log").field(&rank).finish()
    }
}

impl Front {
    fn takes(&self, level: Level) -> bool {
        level.rank() <= self.rank.load(Ordering::Relaxed)
    }

    fn send(&self, item: Item) {
        let bytes = item.bytes();
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let sent = waiting + bytes <= QUEUE_BYTES_MAX
            && match self.sender.try_send(item) {
                Ok(()) => true,
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
            };
        if !sent {
            self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Item {
    /// The text that waits with this item.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Line(line) => line.text.len(),
            Self::Reopen | Self::Move(_) | Self::Flush { .. } => 0,
        }
    }
}
