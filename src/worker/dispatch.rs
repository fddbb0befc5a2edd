//! Mail to connections: idle ones first, then as many new ones as a destination may have.
//!
//! Destinations that something can be done for are served in turn, some of them each turn of the loop.
//! Must never: give a mail to a connection that was not greeted.
//!
//! **Diagnostics**: what keeps a destination from moving is kept there.

use mio::Token;
use mio::net::TcpStream;
use rohrpost_reactor::Key;

use crate::delivery::mx::Unroutable;
use crate::delivery::{
    DestinationId, Fate, Finish, HopRules, Journey, Route, Step, Target, literal_of, mx,
    own_listener, route_to_hop,
};
use crate::net::desk::{Io, Timer};
use crate::net::incoming::Keep;
use crate::net::outgoing::{Departure, Outgoing};
use crate::net::transport::Transport;
use crate::services::Routed;

use super::turn::{Connection, Worker};

/// Mails made due, and transactions aged out, in one turn.
const DUE_MAX: usize = 1_000;
/// Destinations served in one turn.
pub(super) const SERVED_MAX: usize = 256;
/// Connections opened in one turn.
const CONNECTS_MAX: usize = 256;
/// Mails whose attempt ends in one turn because there is nowhere to go.
const ENDED_MAX: usize = 1_000;
/// How long a route is good for that needed no look-up.
const FIXED_MS: u64 = u64::MAX;

impl Worker {
    /// Lets connections in the making go on, and serves destinations that something can be done for.
    pub(super) fn deliver(&mut self, io: &mut Io) {
        let mut room = CONNECTS_MAX;
        for _ in 0..self.desk.onward.len() {
            let Some(journey) = self.desk.onward.pop_front() else { break };
            self.travel(journey, io);
            room = room.saturating_sub(1);
        }
        if !self.desk.mood.delivers() || !self.desk.may_deliver() {
            return;
        }
        let mut ends = ENDED_MAX.min(self.desk.settlements.room());
        for _ in 0..SERVED_MAX {
            if room == 0 || ends == 0 {
                break;
            }
            let Some(id) = self.desk.store.destinations.pop_awake() else { break };
            self.serve(id, &mut room, &mut ends, io);
        }
        if self.has_work() {
            io.stay_awake();
        }
    }

    /// Whether [`Worker::deliver`] has something to do at once.
    pub(super) fn has_work(&self) -> bool {
        let may = self.desk.mood.delivers() && self.desk.may_deliver();
        !self.desk.onward.is_empty()
            || self.desk.settlements.is_telling()
            || (may && self.desk.store.destinations.has_awake())
    }

    fn serve(&mut self, id: DestinationId, room: &mut usize, ends: &mut usize, io: &mut Io) {
        if self.desk.store.destinations.is_ending(id) {
            let now = self.desk.now(io);
            let ended = self.desk.store.end_some(id, *ends, now);
            *ends = ends.saturating_sub(ended.len().max(1));
            ended.into_iter().for_each(|attempt| self.desk.settle(attempt));
            return;
        }
        self.use_idle(id, io);
        loop {
            match self.desk.store.destinations.step(id, io.now_ms()) {
                Step::Wait => return,
                Step::LookUp(target) => self.look_up(id, target, io),
                Step::Connect(_) if *room == 0 => return self.desk.store.destinations.wake(id),
                Step::Connect(wanted) => {
                    let wanted = wanted.min(*room);
                    *room -= wanted;
                    if !(0..wanted).all(|_| self.depart(id, io)) {
                        return;
                    }
                }
            }
        }
    }

    /// Gives ready mails to the idle connections of their destination.
    fn use_idle(&mut self, id: DestinationId, io: &mut Io) {
        while self.desk.store.destinations.ready(id) > 0 {
            let idle = self.desk.store.destinations.idle(id);
            let Some(key) = self.desk.store.destinations.take_idle(id) else { return };
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Outgoing(outgoing) => outgoing.on_work(desk, io),
                _ => Keep::Yes,
            });
            if self.desk.store.destinations.idle(id) >= idle {
                // It found nothing to do: the texts of what is ready are still being read.
                return;
            }
        }
    }

    /// Finds the route of a destination, or has it looked up.
    fn look_up(&mut self, id: DestinationId, target: Target, io: &Io) {
        let routed = match self.route_at_hand(&target) {
            Some(routed) => {
                routed.map(|route| (route, FIXED_MS)).map_err(|error| Box::new(error.finish()))
            }
            None => match self.desk.services.look_up(self.desk.index, id, target) {
                Ok(()) => return,
                Err(finish) => Err(finish),
            },
        };
        self.on_routed(id, routed, io);
    }

    /// A route that no name server is needed for.
    fn route_at_hand(&self, target: &Target) -> Option<Result<Route, Unroutable>> {
        let delivery = &self.desk.settings.delivery;
        if let Some(sink) = delivery.sink {
            let address = (sink, delivery.sink_port).into();
            return Some(Ok(Route::to(&target.to_string(), address)));
        }
        match target {
            Target::Host(hop) => hop.literal().map(|address| {
                let private = &self.desk.settings.dns.private_targets;
                let smarthost = delivery.smarthost_place();
                let rules = HopRules {
                    is_allowed: &|ip| private.contains(ip),
                    smarthost: smarthost.as_ref().map(|(host, port)| (host.as_str(), *port)),
                };
                route_to_hop(hop, &[address.ip()], &rules)
            }),
            Target::Domain(domain) if domain.is_empty() => {
                Some(Err(Unroutable::NotADomain(domain.to_string())))
            }
            Target::Domain(domain) => literal_of(domain).map(|ip| {
                let host = mx::Exchange { preference: 0, name: domain.clone() };
                let private = &self.desk.settings.dns.private_targets;
                let rules = mx::RouteRules {
                    port: delivery.mx_port,
                    is_allowed: &|ip| private.contains(ip),
                    listeners: &self.desk.listeners,
                };
                mx::route(domain, vec![(host, mx::Addresses::Found(vec![ip]))], &rules)
            }),
        }
    }

    /// There is a route, or there is none.
    pub(super) fn on_routed(&mut self, id: DestinationId, routed: Routed, io: &Io) {
        let destinations = &mut self.desk.store.destinations;
        match routed {
            Ok((route, fresh_ms)) => destinations.on_routed(id, route, fresh_ms, io.now_ms()),
            Err(finish) => destinations.on_unroutable(id, *finish, io.now_ms()),
        }
    }

    /// Opens one more connection; whether there may be yet another.
    fn depart(&mut self, id: DestinationId, io: &mut Io) -> bool {
        match self.desk.store.destinations.journey(id, None, io.now_ms()) {
            Ok(journey) => self.travel(journey, io),
            Err(_) => false,
        }
    }

    /// Connects to the first stop that takes the connection; whether there was a place for it.
    fn travel(&mut self, mut journey: Journey, io: &mut Io) -> bool {
        if !self.desk.mood.delivers() {
            self.desk.give_up(journey, io);
            return false;
        }
        let Ok(permit) = self.common.connections.connect() else {
            let id = journey.destination;
            self.desk.refuse(journey, io);
            self.part_with_idle(Some(id), io);
            return false;
        };
        let Some(stop) = journey.next_stop() else {
            self.desk.give_up(journey, io);
            return false;
        };
        if let Some(error) = own_listener(&self.desk.listeners, stop.address, None) {
            self.desk.on_own_stop(journey, &stop, error, io);
            return true;
        }
        let key = self.connections.insert(Connection::Opening);
        let opened = TcpStream::connect(stop.address)
            .and_then(|stream| Transport::register(stream, io.registry(), Token::from(key)));
        match opened {
            Ok(transport) => {
                let departure = Departure { transport, stop, journey, permit };
                let outgoing = Outgoing::new(departure, io, key, &self.desk);
                self.put(key, Connection::Outgoing(Box::new(outgoing)), io);
            }
            // No way to such addresses, as without IPv6: the next one is tried in this turn or the next.
            Err(error) => {
                self.connections.remove(key);
                let why = format!("connect: {error}");
                let why = Finish::without_reply(Fate::Temporary, "connect", "error", why);
                self.desk.on_stop_failed(journey, &stop, why, io);
            }
        }
        true
    }

    /// Closes the connection of another destination that is longest idle, for somebody needs its place.
    fn part_with_idle(&mut self, except: Option<DestinationId>, io: &mut Io) {
        let idle = self.desk.store.destinations.longest_idle(except);
        idle.into_iter().for_each(|key| self.part_with(key, io));
    }

    fn part_with(&mut self, key: Key, io: &mut Io) {
        self.with(key, io, |connection, desk, io| match connection {
            Connection::Outgoing(outgoing) => outgoing.on_unneeded(desk, io),
            _ => Keep::Yes,
        });
    }

    /// Once a second: whoever waits for connections or memory is looked at again; and while all
    /// connections are in use, idle ones are given up for those who need them, of other workers too.
    pub(super) fn relieve(&mut self, io: &mut Io) {
        self.desk.store.destinations.feed(SERVED_MAX);
        if self.common.connections.is_full_outgoing() {
            for _ in 0..self.desk.store.destinations.idle_in_all().div_ceil(2) {
                self.part_with_idle(None, io);
            }
        }
    }

    /// Makes due what is due, and ages out what is too old.
    pub(super) fn look_at_schedule(&mut self, io: &Io) {
        let now = self.desk.now(io);
        // The rest is due in the next turn: its timer is armed in the past then.
        for _ in 0..DUE_MAX {
            if !self.desk.store.destinations.wake_rested(now.mono_ms) {
                break;
            }
        }
        for _ in 0..DUE_MAX {
            if !self.desk.settlements.has_room() {
                // The timer is armed again when there is.
                return;
            }
            let Some(due) = self.desk.store.pop_due(now) else { break };
            due.into_iter().for_each(|attempt| self.desk.settle(attempt));
        }
        for _ in 0..DUE_MAX {
            if !self.desk.settlements.has_room() {
                return;
            }
            let Some(aged) = self.desk.store.pop_aged(now) else { break };
            aged.into_iter().for_each(|attempt| self.desk.settle(attempt));
        }
    }

    pub(super) fn arm_delivery(&mut self, io: &mut Io) {
        let rested = self.desk.store.destinations.next_rested();
        let due = self.desk.store.next_due().filter(|_| self.desk.settlements.has_room());
        let next = [due, rested].into_iter().flatten().min();
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
