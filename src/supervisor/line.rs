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
        print!(
            "\r\x1b[Kconnections {connections} in, {outgoing} out | accepted {}/s, delivered {}/s | queued {} | held {} | settles unwritten {}",
            accepted - self.accepted,
            delivered - self.delivered,
            metrics.sum(Number::Queued),
            metrics.sum(Number::Held),
            queue.settles_unsynced,
        );
        let _ = std::io::stdout().flush();
        (self.accepted, self.delivered) = (accepted, delivered);
    }
}
