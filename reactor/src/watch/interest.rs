//! Owns: the words between a watcher and the watch set.
//!
//! Must never: hold an interest in nothing (D-95).
//!
//! Diagnostics: [`WatchError`] for what is refused at once, [`Ready::Dead`] for what turns out
//! later.

use std::fmt;
use std::ops::BitOr;

use rustix::event::epoll::EventFlags;

/// Reading, writing, or both.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interest(u8);

impl Interest {
    /// The descriptor can be read without blocking, or has an end or an error to report.
    pub const READ: Self = Interest(1);
    /// The descriptor can be written without blocking, or has an error to report.
    pub const WRITE: Self = Interest(2);

    /// From the bit mask 1 = read, 2 = write; other bits are ignored, and `None` if none is left
    /// (D-95).
    pub const fn from_bits(bits: u8) -> Option<Self> {
        match bits & (Self::READ.0 | Self::WRITE.0) {
            0 => None,
            known => Some(Interest(known)),
        }
    }

    /// As the bit mask 1 = read, 2 = write.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether reading is included.
    pub const fn reads(self) -> bool {
        self.0 & Self::READ.0 != 0
    }

    /// Whether writing is included.
    pub const fn writes(self) -> bool {
        self.0 & Self::WRITE.0 != 0
    }

    /// What both have.
    pub const fn intersection(self, other: Self) -> Option<Self> {
        Self::from_bits(self.0 & other.0)
    }

    /// What to ask of epoll.
    pub(super) fn flags(self) -> EventFlags {
        let read = if self.reads() { EventFlags::IN } else { EventFlags::empty() };
        let write = if self.writes() { EventFlags::OUT } else { EventFlags::empty() };
        read | write
    }

    /// What an answer of epoll means to somebody with this interest: a hang-up or an error is
    /// everything that was asked for, because the next read or write will tell (D-94).
    pub(super) fn answered_by(self, flags: EventFlags) -> Option<Self> {
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            return Some(self);
        }
        let read = if flags.contains(EventFlags::IN) { Self::READ.0 } else { 0 };
        let write = if flags.contains(EventFlags::OUT) { Self::WRITE.0 } else { 0 };
        Self::from_bits(self.0 & (read | write))
    }
}

impl BitOr for Interest {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Interest(self.0 | other.0)
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.reads(), self.writes()) {
            (true, true) => "READ | WRITE",
            (true, false) => "READ",
            (false, _) => "WRITE",
        })
    }
}

/// What a watch is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ready {
    /// These of the requested bits are ready. As long as they stay so, each turn says it again
    /// (D-94).
    Fired(Interest),
    /// The descriptor was closed under the watch, or cannot be watched. This is the last callback;
    /// the watch is gone already (D-97).
    Dead {
        /// The bits that were requested, all of them, so that a caller that goes on to read meets
        /// the error.
        interest: Interest,
        /// What the system said: `ENOENT` or `EBADF` for a descriptor that was closed; others mean
        /// that it never could be watched (`EEXIST` for the number of the host's own poll), or that
        /// the machine is out of something.
        os_error: i32,
    },
}

impl Ready {
    /// The bits to report.
    pub const fn interest(self) -> Interest {
        match self {
            Ready::Fired(interest) | Ready::Dead { interest, .. } => interest,
        }
    }
}

/// Why a watch was refused.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The caller holds as many watches as the set was made for.
    #[error("the limit of {watches_max} watches is reached")]
    Full {
        /// The limit.
        watches_max: usize,
    },
}
