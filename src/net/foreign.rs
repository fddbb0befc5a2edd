//! The event loop that a plugin brought along (`MQ_ev`), as the reactor waits in it.
//!
//! Must never: exist on a worker on which no plugin asked.
//!
//! **Diagnostics**: none; those of the loop itself are the plugin interface's.

use std::io;
use std::time::Duration;

use rohrpost_abi::ForeignLoop;
use rohrpost_reactor::{Source, Waiter, Woken};

/// libev's loop of one worker.
#[derive(Debug)]
pub struct Foreign(ForeignLoop);

impl Foreign {
    /// The reactor sleeps in `foreign` from now on.
    pub fn new(foreign: ForeignLoop) -> Foreign {
        Foreign(foreign)
    }

    /// Where to wait; `None` when a plugin has destroyed it: then the reactor waits by itself again.
    pub fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        self.0.is_alive().then_some(self as &mut dyn Waiter)
    }
}

impl Waiter for Foreign {
    fn wait(&mut self, source: Source<'_>, timeout: Option<Duration>) -> io::Result<Woken> {
        match self.0.wait(source.fd, source.generation, timeout) {
            true => Ok(Woken::BySource),
            false => Ok(Woken::Otherwise),
        }
    }
}
