//! Mail to connections: idle ones first, then as many new ones as the pool allows.
//!
//! Must never: give a mail to a connection that was not greeted.
//!
//! **Diagnostics**: what keeps the next hop away is the pool's trouble.

use std::net::SocketAddr;

use mio::Token;
use mio::net::TcpStream;

use crate::delivery::{NextHop, own_listener};
use crate::net::desk::{Io, Timer};
use crate::net::incoming::Keep;
use crate::net::outgoing::{Departure, Outgoing};
use crate::net::transport::Transport;

use super::turn::{Connection, Worker};

/// Mails made due in one turn.
const DUE_MAX: usize = 1_000;
/// How long addresses of the smarthost are used before they are looked up again.
const RESOLVED_MS_MAX: u64 = 60_000;

impl Worker {
    /// Gives ready mails to idle connections, and opens more if there are too few.
    pub(super) fn deliver(&mut self, io: &mut Io) {
        if !self.desk.mood.delivers() || !self.desk.may_deliver() || self.desk.store.ready() == 0 {
            return;
        }
        let Some(hop) = self.hop.clone() else { return };
        while self.desk.store.ready() > 0 {
            let idle = self.desk.pool.idle();
            let Some(key) = self.desk.pool.take_idle() else { break };
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Outgoing(outgoing) => outgoing.on_work(desk, io),
                _ => Keep::Yes,
            });
            if self.desk.pool.idle() >= idle {
                // It found nothing to do: the texts of what is ready are still being read.
                break;
            }
        }
        for _ in 0..self.desk.pool.wanted(self.desk.store.ready(), io.now_ms()) {
            match self.next_address(&hop, io) {
                Some(address) => self.connect(address, io),
                None => break,
            }
        }
    }

    /// The address to try next, in turn; asks for them where they are not known or old.
    pub(super) fn next_address(&mut self, hop: &NextHop, io: &Io) -> Option<SocketAddr> {
        if hop.literal().is_none() {
            let fresh = self.resolved_ms.is_some_and(|at| io.now_ms() < at + RESOLVED_MS_MAX);
            // Old addresses serve until the new ones are here.
            if !fresh && !self.resolving {
                let job = crate::blocking::Job::Resolve(self.desk.index, hop.clone());
                self.resolving = self.desk.jobs.try_send(job).is_ok();
            }
        }
        let address = *self.addresses.get(self.address_next % self.addresses.len().max(1))?;
        self.address_next = self.address_next.wrapping_add(1);
        Some(address)
    }

    pub(super) fn connect(&mut self, address: SocketAddr, io: &mut Io) {
        let Ok(permit) = self.common.connections.connect() else {
            return;
        };
        self.desk.pool.on_opening();
        if let Some(error) = own_listener(&self.desk.listeners, address, None) {
            self.desk.fail_ready(&error.to_string(), io);
            self.desk.pool.on_failed(error.to_string(), io.now_ms());
            return;
        }
        let key = self.connections.insert(Connection::Opening);
        let opened = TcpStream::connect(address)
            .and_then(|stream| Transport::register(stream, io.registry(), Token::from(key)));
        match opened {
            Ok(transport) => {
                let departure = Departure { transport, remote: address, permit };
                let outgoing = Outgoing::new(departure, io, key, &self.desk);
                self.put(key, Connection::Outgoing(Box::new(outgoing)), io);
            }
            Err(error) => {
                self.connections.remove(key);
                self.desk.pool.on_failed(format!("{address}: {error}"), io.now_ms());
            }
        }
    }

    /// Makes due what is due, and ages out what is too old.
    pub(super) fn look_at_schedule(&mut self, io: &Io) {
        let now = self.desk.now(io);
        // The rest is due in the next turn: its timer is armed in the past then.
        for _ in 0..DUE_MAX {
            if !self.desk.settlements.has_room() {
                // The timer is armed again when there is.
                break;
            }
            let Some(due) = self.desk.store.pop_due(now) else { break };
            due.into_iter().for_each(|attempt| self.desk.settle(attempt));
        }
    }

    pub(super) fn arm_delivery(&mut self, io: &mut Io) {
        let back_at = self.desk.pool.back_at_ms(io.now_ms());
        let due = self.desk.store.next_due().filter(|_| self.desk.settlements.has_room());
        let next = [due, back_at].into_iter().flatten().min();
        let Some(next) = next else { return };
        match self.delivery_timer {
            Some((_, armed)) if armed <= next => {}
            Some((timer, _)) => {
                io.rearm(timer, next);
                self.delivery_timer = Some((timer, next));
            }
            None => self.delivery_timer = Some((io.arm(next, Timer::Delivery), next)),
        }
    }
}
