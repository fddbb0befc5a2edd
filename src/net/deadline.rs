//! The one deadline of a connection, kept with as few timer operations as possible.
//!
//! Every phase of a connection ends at a known time. Most phases end long before: so the timer is
//! left where it is while the deadline moves later, and looks again when it fires.
//!
//! Must never: read a clock.
//!
//! **Diagnostics**: none; what a missed deadline means is the driver's business.

use rohrpost_reactor::TimerKey;

/// A deadline on the monotonic clock, and the timer that watches it.
#[derive(Debug, Default)]
pub struct Deadline {
    at_ms: Option<u64>,
    timer: Option<(TimerKey, u64)>,
}

/// What has to be done to the timer.
#[derive(Debug, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Arm one for this time and tell [`Deadline::on_armed`].
    Arm(u64),
    /// Move this one to an earlier time.
    Rearm(TimerKey, u64),
}

impl Deadline {
    /// Sets the deadline; `None` is none.
    pub fn set(&mut self, at_ms: Option<u64>) -> Change {
        self.at_ms = at_ms;
        match (at_ms, self.timer) {
            (None, _) => Change::Keep,
            (Some(at_ms), None) => Change::Arm(at_ms),
            (Some(at_ms), Some((key, armed_ms))) if at_ms < armed_ms => {
                self.timer = Some((key, at_ms));
                Change::Rearm(key, at_ms)
            }
            (Some(_), Some(_)) => Change::Keep,
        }
    }

    /// The timer asked for by [`Change::Arm`].
    pub fn on_armed(&mut self, key: TimerKey, at_ms: u64) {
        self.timer = Some((key, at_ms));
    }

    /// The timer fired. Returns whether the deadline is over; if not, arm again as said.
    pub fn on_fired(&mut self, now_ms: u64) -> (bool, Change) {
        self.timer = None;
        match self.at_ms {
            Some(at_ms) if at_ms <= now_ms => {
                self.at_ms = None;
                (true, Change::Keep)
            }
            at_ms => (false, self.set(at_ms)),
        }
    }

    /// The timer to cancel when the connection goes.
    pub fn take_timer(&mut self) -> Option<TimerKey> {
        self.timer.take().map(|(key, _)| key)
    }
}
