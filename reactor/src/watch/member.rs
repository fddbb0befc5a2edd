//! Owns: one descriptor number in the watch set, and the decision which system call brings the
//! kernel up to date with what its watches want.
//!
//! A number is all that is known of a descriptor, and numbers are used again. The kernel tells by
//! `ENOENT` and `EBADF` that the file it was given under a number is not there any more: watches
//! that were there before are dead (D-97), watches that came since mean the new file and get a
//! registration of their own.
//!
//! Must never: trust a number across a change; touch any set but the one given.
//!
//! Diagnostics: none of its own; [`Settled`] says what became of the registration.

use std::os::fd::BorrowedFd;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;

use super::epoll::Epoll;
use crate::slab::Key;

/// What the kernel knows of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Registration {
    /// Nothing yet.
    Absent,
    /// It reports these flags.
    Kernel(EventFlags),
    /// It refuses, because a file of this kind never blocks: always ready (D-98).
    Always,
}

/// One descriptor number.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) fd: BorrowedFd<'static>,
    /// In the order of registration, which is the order of callbacks (D-96). Those that were taken
    /// back since the kernel was last told are among them, as stale keys.
    pub(super) watches: Vec<Key>,
    pub(super) registration: Registration,
    /// Whether it is on the list of members to bring up to date.
    pub(super) changed: bool,
    /// Whether `watches` has stale keys.
    pub(super) gaps: bool,
}

/// Whether watches were added since the kernel was last told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Newcomers {
    /// All watches were there then.
    None,
    /// Some or all came since.
    Some,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// The kernel knows the file of this number as the members want it.
    Fine(Registration),
    /// The file that was registered is not behind the number any more. What came since stands for
    /// another file, which is to be registered anew.
    Replaced(Errno),
    /// The number cannot be watched, by anybody.
    Dead(Errno),
}

impl Member {
    /// Brings the kernel up to date, with one call at most where the file is the one it was.
    pub(super) fn settle(
        &self,
        set: &mut Epoll,
        key: Key,
        wanted: EventFlags,
        newcomers: Newcomers,
    ) -> Settled {
        match (self.registration, newcomers) {
            (Registration::Absent, _) => self.add(set, key, wanted),
            (Registration::Always, Newcomers::None) => Settled::Fine(Registration::Always),
            // The number may have passed to a file that can block, in which case those before are
            // dead.
            (Registration::Always, Newcomers::Some) => match self.add(set, key, wanted) {
                Settled::Fine(Registration::Kernel(_)) => {
                    let _ = set.delete(self.fd);
                    Settled::Replaced(Errno::NOENT)
                }
                settled => settled,
            },
            (Registration::Kernel(flags), Newcomers::None) if flags == wanted => {
                Settled::Fine(self.registration)
            }
            // Newcomers are checked even if the flags stay: they may mean another file of the same
            // number.
            (Registration::Kernel(_), _) => self.modify(set, key, wanted),
        }
    }

    /// Tells the kernel to forget the number. Where that fails the file is closed, or lives on
    /// behind another number; in the latter case its events arrive under a stale key and have the
    /// set made anew.
    pub(super) fn withdraw(&self, set: &mut Epoll) {
        if let Registration::Kernel(_) = self.registration {
            let _ = set.delete(self.fd);
        }
    }

    /// Registers the number in `set`.
    pub(super) fn add(&self, set: &mut Epoll, key: Key, wanted: EventFlags) -> Settled {
        match set.add(self.fd, key.into(), wanted) {
            Ok(()) => Settled::Fine(Registration::Kernel(wanted)),
            Err(Errno::PERM) => Settled::Fine(Registration::Always),
            // An earlier removal failed because the number was free then, and now it names the old
            // file once more. The host's own number does not come here.
            Err(Errno::EXIST) => self.modify(set, key, wanted),
            Err(errno) => Settled::Dead(errno),
        }
    }

    /// Changes, and thereby checks, the registration of the number in `set`.
    pub(super) fn modify(&self, set: &mut Epoll, key: Key, wanted: EventFlags) -> Settled {
        match set.modify(self.fd, key.into(), wanted) {
            Ok(()) => Settled::Fine(Registration::Kernel(wanted)),
            // PERM: the number names a regular file now.
            Err(errno @ (Errno::NOENT | Errno::PERM)) => Settled::Replaced(errno),
            Err(errno) => Settled::Dead(errno),
        }
    }
}
