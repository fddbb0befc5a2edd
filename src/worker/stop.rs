//! The end of a worker: nothing new, what is under way is finished, then the contexts, then the loop.
//!
//! Must never: wait without an end; the settings bound every step.
//!
//! **Diagnostics**: clients are told 421.

use rohrpost_abi::ContextStep;

use crate::net::desk::{Io, Mood};
use crate::net::incoming::Keep;

use super::turn::{Connection, Worker};

impl Worker {
    pub(super) fn on_drain(&mut self, io: &mut Io) {
        if self.desk.mood == Mood::Draining {
            return;
        }
        self.desk.mood = Mood::Draining;
        let settings = &self.desk.settings;
        // D-53: plugins get their own time, and never more than the whole stop has.
        let patience = settings.general.shutdown_timeout.min(settings.plugin.shutdown_timeout);
        self.drain_until_ms = Some(io.now_ms() + patience.as_millis() as u64);
        self.close_listeners(io);
        for key in self.keys() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_drain(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_drain(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
    }

    /// The time of the stop is over.
    pub(super) fn abort(&mut self, io: &mut Io) {
        for key in self.keys() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_abort(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_abort(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
    }

    /// Draining, and nothing is left: the contexts are cleaned up, then the loop ends.
    pub(super) fn end_if_drained(&mut self, io: &mut Io) {
        let drained = self.desk.mood == Mood::Draining
            && self.context.is_none()
            && self.connections.is_empty()
            && self.desk.committing.is_empty()
            && self.desk.batch.is_empty();
        if drained && !io.is_stopped() {
            let timeout = self.desk.settings.plugin.shutdown_timeout;
            self.begin_context(ContextStep::Cleanup, timeout.as_millis() as u64, io);
        }
    }
}
