//! Owns: the system calls of the watch set, and the count of them.
//!
//! Must never: decide anything.
//!
//! Diagnostics: the system's error numbers, as they are.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::Token;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::{Errno, Result};

/// Room for events on the stack: 3 KiB.
const EVENTS_PER_CALL: usize = 256;

/// One epoll instance.
#[derive(Debug)]
pub(super) struct Epoll {
    fd: OwnedFd,
    changes: u64,
}

impl Epoll {
    pub(super) fn new() -> Result<Self> {
        epoll::create(CreateFlags::CLOEXEC).map(|fd| Epoll { fd, changes: 0 })
    }

    /// How many times it was changed.
    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn add(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        flags: EventFlags,
    ) -> Result<()> {
        self.changes += 1;
        epoll::add(&self.fd, fd, EventData::new_u64(token.0 as u64), flags)
    }

    pub(super) fn modify(
        &mut self,
        fd: BorrowedFd<'_>,
        token: Token,
        flags: EventFlags,
    ) -> Result<()> {
        self.changes += 1;
        epoll::modify(&self.fd, fd, EventData::new_u64(token.0 as u64), flags)
    }

    pub(super) fn delete(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        self.changes += 1;
        epoll::delete(&self.fd, fd)
    }

    /// Waits until something is ready or the timeout is over, and passes on all that is ready, in
    /// as many calls as `members` may take: what was reported goes to the end of the kernel's list,
    /// so each call brings others. Some may be passed on twice. A signal ends the wait as a timeout
    /// does.
    pub(super) fn wait(
        &self,
        members: usize,
        timeout: Option<Duration>,
        mut pass_on: impl FnMut(Token, EventFlags),
    ) -> Result<()> {
        let mut buffer = [const { MaybeUninit::uninit() }; EVENTS_PER_CALL];
        let mut timeout = timeout.map(timespec);
        let mut passed = 0;
        loop {
            let events = match epoll::wait(&self.fd, &mut buffer[..], timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(Errno::INTR) => return Ok(()),
                Err(errno) => return Err(errno),
            };
            events.iter().for_each(|event| pass_on(Token(event.data.u64() as usize), event.flags));
            passed += events.len();
            if events.len() < EVENTS_PER_CALL || passed >= members {
                return Ok(());
            }
            timeout = Some(timespec(Duration::ZERO));
        }
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// As the system wants it. More than it takes means as long as it can.
fn timespec(timeout: Duration) -> Timespec {
    /// Kernels without `epoll_pwait2` take milliseconds in an `int`.
    const SECONDS_MAX: u64 = i32::MAX as u64 / 1000;
    let seconds = timeout.as_secs();
    if seconds >= SECONDS_MAX {
        return Timespec { tv_sec: SECONDS_MAX as i64, tv_nsec: 0 };
    }
    Timespec { tv_sec: seconds as i64, tv_nsec: i64::from(timeout.subsec_nanos()) }
}
