//! The one deadline of a connection, kept with as few timer operations as possible.
//!
//! Every phase of a connection ends at a known time. Most phases end long before: so the timer is
//! left where it is while the deadline moves later, and looks again when it fires.
//!
//! Must never: read a clock.
//!
//! **Diagnostics**: none; what a missed deadline means is the driver's business.

use rohrpost_reactor::{Key, TimerKey};

use super::desk::{Io, Timer};

/// A deadline on the monotonic clock, and the timer that watches it.
#[derive(Debug)]
pub struct Deadline {
    connection: Key,
    at_ms: Option<u64>,
    timer: Option<(TimerKey, u64)>,
}

impl Deadline {
    /// No deadline yet, for this connection.
    pub fn new(connection: Key) -> Deadline {
        Deadline { connection, at_ms: None, timer: None }
    }

    /// Sets the deadline; `None` is none. Only an earlier one than before touches the timer.
    pub fn set(&mut self, at_ms: Option<u64>, io: &mut Io) {
        self.at_ms = at_ms;
        let Some(at_ms) = at_ms else { return };
        match self.timer {
            Some((_, armed_ms)) if armed_ms <= at_ms => {}
            Some((timer, _)) => {
                io.rearm(timer, at_ms);
                self.timer = Some((timer, at_ms));
            }
            None => {
                let timer = io.arm(at_ms, Timer::Connection(self.connection));
                self.timer = Some((timer, at_ms));
            }
        }
    }

    /// The timer fired. Returns whether the deadline is over; if not, the timer is armed again.
    pub fn on_fired(&mut self, io: &mut Io) -> bool {
        self.timer = None;
        let over = self.at_ms.is_some_and(|at_ms| at_ms <= io.now_ms());
        if over {
            self.at_ms = None;
        } else {
            self.set(self.at_ms, io);
        }
        over
    }

    /// The connection goes.
    pub fn cancel(&mut self, io: &mut Io) {
        if let Some((timer, _)) = self.timer.take() {
            io.cancel(timer);
        }
    }
}
