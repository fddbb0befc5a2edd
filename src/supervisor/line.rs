//! The line that moves in a terminal while the server is at work.
//!
//! **Diagnostics**: none; without a terminal it is silent.

use std::io::{IsTerminal, Write};

use crate::metrics::{Metrics, Number};
use crate::queue::Status;

/// The line that shows in a terminal that the server is at work.
pub(super) struct StatusLine {
    shown: bool,
    accepted: u64,
    delivered: u64,
}

impl StatusLine {
    pub(super) fn new() -> StatusLine {
        StatusLine { shown: std::io::stdout().is_terminal(), accepted: 0, delivered: 0 }
    }

    pub(super) fn show(&mut self, metrics: &Metrics, queue: &Status) {
        if !self.shown {
            return;
        }
        let accepted = metrics.sum(Number::Accepted);
        let delivered = metrics.sum(Number::Delivered);
        let connections = metrics.sum(Number::IncomingConnections);
        let outgoing = metrics.sum(Number::OutgoingConnections);
        // A terminal that is narrower than the line cuts it (autowrap off, then on again): a wrapped
        // one could not be wiped, and would push the screen up once a second.
        let mut out = std::io::stdout().lock();
        let written = write!(
            out,
            "\r\x1b[K\x1b[?7lin {connections}, out {outgoing} | accepted {}/s, delivered {}/s | queued {} | held {} | settles unwritten {}\x1b[?7h",
            accepted - self.accepted,
            delivered - self.delivered,
            metrics.sum(Number::Queued),
            metrics.sum(Number::Held),
            queue.settles_unsynced,
        );
        // A terminal that was closed is no reason to stop.
        self.shown = written.and_then(|()| out.flush()).is_ok();
        (self.accepted, self.delivered) = (accepted, delivered);
    }
}
