//! The end of a worker: nothing new, what is under way is finished, then the contexts, then the loop.
//!
//! Must never: wait without an end; the settings bound every step.
//!
//! **Diagnostics**: clients are told 421.

use rohrpost_abi::ContextStep;

use crate::net::desk::{Intake, Io, Mood, Timer};
use crate::net::incoming::Keep;

use super::turn::{Connection, TICK_MS, Worker};

impl Worker {
    /// Takes no mail any more, or takes it again. A client that is sending may finish what it has
    /// begun. A stop is final.
    pub(super) fn on_intake(&mut self, intake: Intake, io: &mut Io) {
        match (self.desk.mood, intake) {
            (Mood::Emptying, Intake::Open) => self.desk.mood = Mood::Open,
            (Mood::Open, Intake::Closed) => {
                self.desk.mood = Mood::Emptying;
                for key in self.keys() {
                    self.with(key, io, |connection, desk, io| match connection {
                        Connection::Incoming(incoming) => incoming.on_drain(desk, io),
                        _ => Keep::Yes,
                    });
                }
            }
            (Mood::Open | Mood::Emptying | Mood::Starting | Mood::Draining, _) => {}
        }
    }

    pub(super) fn on_drain(&mut self, io: &mut Io) {
        if self.desk.mood == Mood::Draining {
            return;
        }
        self.desk.mood = Mood::Draining;
        let settings = &self.desk.settings;
        let whole = settings.general.shutdown_timeout;
        // D-53: plugins get their own time, and never more than the whole stop has.
        let holds = settings.plugin.shutdown_timeout.min(whole);
        io.arm(io.deadline_after(holds.as_millis() as u64), Timer::StopHolds);
        io.arm(io.deadline_after(whole.as_millis() as u64), Timer::StopAll);
        self.close_listeners(io);
        for key in self.keys() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_drain(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_drain(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
    }

    /// D-53: what plugins still hold is taken back. They may take control again, in a close hook or in
    /// what a client has sent already, so this comes again until nothing is left.
    pub(super) fn revoke_holds(&mut self, io: &mut Io) {
        if !self.connections.is_empty() {
            io.arm(io.now_ms() + TICK_MS, Timer::StopHolds);
        }
        for key in self.keys() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_hold_over(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_hold_over(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
    }

    /// The time of the stop is over. Close hooks may take control even now, so this comes again
    /// until nothing is left.
    pub(super) fn abort(&mut self, io: &mut Io) {
        if !self.connections.is_empty() {
            io.arm(io.now_ms() + TICK_MS, Timer::StopAll);
        }
        self.desk.drop_settlements();
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
            && self.desk.settlements.is_empty()
            && self.desk.onward.is_empty()
            && self.desk.batch.is_empty();
        if drained && !io.is_stopped() {
            let timeout = self.desk.settings.plugin.shutdown_timeout;
            self.begin_context(ContextStep::Cleanup, timeout.as_millis() as u64, io);
        }
    }
}
