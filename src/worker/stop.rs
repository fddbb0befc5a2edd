//! The end of a worker: nothing new, what is under way is finished, then the contexts, then the loop.
//!
//! Must never: wait without an end; the settings bound every step.
//!
//! **Diagnostics**: clients are told 421.

use rohrpost_reactor::{Key, NumberMap};

use crate::log::Level;
use crate::net::desk::{Committing, Intake, Io, Mood, Timer};
use crate::net::incoming::Keep;
use crate::queue::TransactionId;
use crate::view::counted;

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
        self.abandon_renewal(io);
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

    /// The time of the stop is over. Close hooks may take control even now, and an outcome may still
    /// come up, so this comes again until nothing is left.
    pub(super) fn abort(&mut self, io: &mut Io) {
        self.desk.drop_settlements();
        for key in self.keys() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_abort(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_abort(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
        let (forgotten, bytes) =
            forget_commits(&mut self.desk.committing, |key| self.connections.get(key).is_some());
        self.desk.release(bytes);
        if forgotten > 0 {
            let messages = counted(forgotten, "message");
            let text = format_args!("the stop does not wait for {messages} on the way to the disk");
            self.desk.log.limited("stop-commits", Level::Warning, "stop", text);
        }
        if !self.is_idle() {
            io.arm(io.now_ms() + TICK_MS, Timer::StopAll);
        }
    }

    /// Nothing is under way that a stop would wait for.
    fn is_idle(&self) -> bool {
        self.connections.is_empty()
            && self.desk.committing.is_empty()
            && self.desk.settlements.is_empty()
            && self.desk.onward.is_empty()
            && self.desk.batch.is_empty()
    }

    /// Draining, and nothing is left: the contexts are cleaned up, then the loop ends.
    pub(super) fn end_if_drained(&mut self, io: &mut Io) {
        let drained = self.desk.mood == Mood::Draining && self.context.is_none() && self.is_idle();
        if drained && !io.is_stopped() {
            self.end_contexts(io);
        }
    }
}

/// Gives up waiting for commits of which no connection is to be told; how many, and the octets that they
/// held. The queue has them: they become durable if the disk comes back in time, as the stop of the queue
/// decides, and are found at the next start then.
fn forget_commits(
    committing: &mut NumberMap<TransactionId, Committing>,
    is_there: impl Fn(Key) -> bool,
) -> (u64, usize) {
    let (mut count, mut bytes) = (0, 0);
    committing.retain(|_, one| {
        let waits = one.connection.is_some_and(&is_there);
        if !waits {
            count += 1;
            bytes += one.reserved;
        }
        waits
    });
    (count, bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rohrpost_reactor::Slab;

    use super::*;
    use crate::queue::{Origin, Transaction};

    #[test]
    fn a_stop_that_is_over_waits_for_those_commits_alone_that_a_client_waits_for() {
        let mut connections = Slab::new();
        let there = connections.insert(());
        let gone = connections.insert(());
        connections.remove(gone);
        let transaction = |id| Transaction {
            id: TransactionId::from_u64(id),
            received_ms: 0,
            mails: Vec::new(),
            bodies: Vec::new(),
            trace: Box::default(),
            origin: Origin::internal("mx.example.org"),
            eight_bit: false,
            smtputf8: false,
            wishes: None,
            shelf: None,
        };
        let rows = [(1, Some(there), 1), (2, Some(gone), 20), (3, None, 300)];
        let mut committing: NumberMap<_, _> = rows
            .into_iter()
            .map(|(id, connection, reserved)| {
                let transaction = Arc::new(transaction(id));
                (transaction.id, Committing { connection, transaction, reserved })
            })
            .collect();
        let is_there = |key| connections.get(key).is_some();
        assert_eq!(forget_commits(&mut committing, is_there), (2, 320));
        assert!(committing.keys().eq([&TransactionId::from_u64(1)]));
    }
}
