//! Owns: the words between a reactor and another event loop that its thread waits in.
//!
//! Some libraries can only be driven by an event loop of their own. A handler that has one offers it as
//! a [`Waiter`] ([`crate::Handler::waiter`]); the reactor then sleeps in there, in place of its own wait,
//! and goes on as soon as its own descriptor is ready, its time is over, or that loop has done something.
//!
//! Must never: cost anything where no handler offers one.
//!
//! Diagnostics: errors of the foreign wait, as `io::Error`, which end the loop as those of its own do.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What the reactor would have waited on.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Readable, level-triggered, while there is something for the reactor. To be watched and nothing else.
    pub fd: BorrowedFd<'a>,
    /// Counts up when another file is behind the same number: a registration of an earlier one is void.
    pub generation: u64,
}

/// Why a foreign wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The [`Source`] is ready, and may have been for other reasons as well.
    BySource,
    /// It is not, as far as this wait has seen.
    Otherwise,
}

/// Another event loop in which the thread can wait.
pub trait Waiter {
    /// Runs that loop once: until the source is readable, `timeout` is over (`None`: for ever; zero:
    /// without waiting), a signal came, or callbacks of the loop itself have run. These run in here.
    ///
    /// # Errors
    /// The system's, when it cannot wait.
    fn wait(&mut self, source: Source<'_>, timeout: Option<Duration>) -> io::Result<Woken>;
}
