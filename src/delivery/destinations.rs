//! The destinations of one worker's mails: for each, the mails that wait for a connection, the
//! connections, the route, and what keeps them from moving.
//!
//! A destination is here while it has mails or connections, or rests; the smarthost always. Nothing
//! walks over all of them: one that something can be done for is *awake* and served in turn; one that
//! waits is woken by what it waits for: a mail, an answer, the end of a connection or of a rest, a
//! place among connections or look-ups.
//!
//! Must never: open a socket, ask DNS, read a clock; lose a destination with ready mails, neither
//! awake nor waiting for something that comes.
//!
//! **Diagnostics**: [`Destinations::explain`].

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use rohrpost_reactor::{Key, Slab};

use crate::queue::{MailId, Schedule, Smarthost};

use super::chance::Chance;
use super::explain::{DestinationView, LookUp};
use super::finish::{Fate, Finish};
use super::journey::{Carried, Journey};
use super::pool::Pool;
use super::route::Route;
use super::target::{NextHop, Target, domain_of};

/// How long an address that could not be reached is tried last.
const AVOIDED_MS: u64 = 60_000;
/// Addresses of one destination that are remembered as such.
const AVOIDED_MAX: usize = 32;
/// How long an old route serves on when a look-up failed, before the next one.
const STALE_MS: u64 = 60_000;
/// Places of a table that are worth no effort to give back.
const TABLE_KEPT: usize = 256;
/// Mails gone from a queue's middle that are worth no effort to sweep out.
const GONE_KEPT: usize = 64;

/// Names a destination of one worker; never used again for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DestinationId(Key);

/// A name that no destination has.
impl Default for DestinationId {
    fn default() -> DestinationId {
        DestinationId(Key::from(Token(usize::MAX)))
    }
}

/// The limits of one worker.
#[derive(Clone, Copy, Debug)]
pub struct DestinationLimits {
    /// Connections to one domain.
    pub domain_connections_max: usize,
    /// Connections to one smarthost.
    pub smarthost_connections_max: usize,
    /// Routes that are looked up at a time.
    pub look_ups_max: usize,
}

/// What to do for a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Look up its route; then say [`Destinations::on_routed`] or [`Destinations::on_unroutable`].
    LookUp(Target),
    /// Open so many connections, each over a [`Destinations::journey`].
    Connect(usize),
    /// Nothing, until it is woken.
    Wait,
}

/// Whether a route is being looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    None,
    /// It waits for a place among the look-ups.
    Waiting,
    Asked,
}

#[derive(Debug)]
struct Known {
    route: Route,
    fresh_until_ms: u64,
}

/// The ready mails end their attempt, some at a time.
#[derive(Debug)]
struct Ending {
    finish: Finish,
    /// How many at the front of the queue.
    left: usize,
}

#[derive(Debug)]
pub(super) struct Destination {
    target: Target,
    pub(super) ready: VecDeque<MailId>,
    /// Mails that are ready, loading or active, exactly.
    mails: usize,
    pool: Pool<Key>,
    route: Option<Known>,
    question: Question,
    /// Addresses that could not be reached, until when they are tried last.
    avoided: Vec<(SocketAddr, u64)>,
    ending: Option<Ending>,
    awake: bool,
    starved: bool,
}

/// The destinations of one worker.
#[derive(Debug)]
pub struct Destinations {
    limits: DestinationLimits,
    slab: Slab<Destination>,
    domains: HashMap<Arc<str>, DestinationId>,
    /// Those that messages ask for.
    hosts: HashMap<Arc<NextHop>, DestinationId>,
    /// The one that all mail goes to.
    smarthost: Option<DestinationId>,
    awake: VecDeque<DestinationId>,
    starved: VecDeque<DestinationId>,
    /// Those that wait for a place among the look-ups.
    unasked: VecDeque<DestinationId>,
    asking: usize,
    rests: Schedule<DestinationId>,
    /// Idle connections by the order in which they grew so.
    idle: BTreeMap<u64, (DestinationId, Key)>,
    idle_number: u64,
    connections: usize,
    /// Mails of all destinations.
    mails: usize,
    chance: Chance,
}

impl Destinations {
    /// None yet but the smarthost, if there is one.
    pub fn new(limits: DestinationLimits, smarthost: Option<NextHop>, seed: u64) -> Destinations {
        let mut destinations = Destinations {
            limits,
            slab: Slab::new(),
            domains: HashMap::new(),
            hosts: HashMap::new(),
            smarthost: None,
            awake: VecDeque::new(),
            starved: VecDeque::new(),
            unasked: VecDeque::new(),
            asking: 0,
            rests: Schedule::new(),
            idle: BTreeMap::new(),
            idle_number: 0,
            connections: 0,
            mails: 0,
            chance: Chance::new(seed),
        };
        let hop = smarthost.map(|hop| Target::Host(Arc::new(hop)));
        destinations.smarthost = hop.map(|hop| destinations.insert(hop));
        destinations
    }

    /// Where a mail to `recipient` goes.
    pub fn of_recipient(&mut self, recipient: &str) -> DestinationId {
        if let Some(smarthost) = self.smarthost {
            return smarthost;
        }
        let domain = domain_of(recipient);
        if let Some(&known) = self.domains.get(&*domain) {
            return known;
        }
        let domain: Arc<str> = domain.into();
        let id = self.insert(Target::Domain(domain.clone()));
        self.domains.insert(domain, id);
        id
    }

    /// The destination of a host that a message asks for.
    pub fn of_host(&mut self, smarthost: &Smarthost) -> DestinationId {
        let hop = Arc::new(NextHop::of_message(smarthost));
        if let Some(&known) = self.hosts.get(&hop) {
            return known;
        }
        let id = self.insert(Target::Host(hop.clone()));
        self.hosts.insert(hop, id);
        id
    }

    fn insert(&mut self, target: Target) -> DestinationId {
        let share = match &target {
            Target::Domain(_) => self.limits.domain_connections_max,
            Target::Host(_) => self.limits.smarthost_connections_max,
        };
        DestinationId(self.slab.insert(Destination {
            target,
            ready: VecDeque::new(),
            mails: 0,
            pool: Pool::new(share),
            route: None,
            question: Question::None,
            avoided: Vec::new(),
            ending: None,
            awake: false,
            starved: false,
        }))
    }

    pub(super) fn get_mut(&mut self, id: DestinationId) -> Option<&mut Destination> {
        self.slab.get_mut(id.0)
    }

    /// A mail begins to wait for a connection; at the end of the queue, or before all others.
    pub(super) fn push(&mut self, id: DestinationId, mail: MailId, first: bool) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        match first {
            true => destination.ready.push_front(mail),
            false => destination.ready.push_back(mail),
        }
        self.wake(id);
    }

    /// One more mail is ready, loading or active.
    pub(super) fn enter(&mut self, id: DestinationId) {
        if let Some(destination) = self.slab.get_mut(id.0) {
            destination.mails += 1;
            self.mails += 1;
        }
    }

    /// One mail less; `is_ready` tells of those in the queue which are still.
    pub(super) fn leave(&mut self, id: DestinationId, is_ready: impl Fn(MailId) -> bool) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        destination.mails -= 1;
        self.mails -= 1;
        if destination.mails == 0 {
            destination.ready = VecDeque::new();
            destination.ending = None;
            return self.wake(id);
        }
        // What aged out in the middle is swept before it outnumbers the rest.
        if destination.ready.len() > 2 * destination.mails + GONE_KEPT
            && destination.ending.is_none()
        {
            destination.ready.retain(|&mail| is_ready(mail));
        }
    }

    /// Ready mails (at most: some may be gone) of a destination.
    pub fn ready(&self, id: DestinationId) -> usize {
        self.slab.get(id.0).map_or(0, |destination| destination.ready.len())
    }

    /// Mails of all destinations: ready, being read back, or under way.
    pub fn mails(&self) -> usize {
        self.mails
    }

    /// How many destinations there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// Connections to all of them, opening ones included.
    pub fn connections(&self) -> usize {
        self.connections
    }

    /// Something can be done for it, perhaps.
    pub fn wake(&mut self, id: DestinationId) {
        if let Some(destination) = self.slab.get_mut(id.0)
            && !std::mem::replace(&mut destination.awake, true)
        {
            self.awake.push_back(id);
        }
    }

    /// The one that is longest awake, asleep from now.
    pub fn pop_awake(&mut self) -> Option<DestinationId> {
        while let Some(id) = self.awake.pop_front() {
            if let Some(destination) = self.slab.get_mut(id.0) {
                destination.awake = false;
                return Some(id);
            }
        }
        None
    }

    /// Whether one is awake.
    pub fn has_awake(&self) -> bool {
        !self.awake.is_empty()
    }

    /// It waits for connections or memory that others use, until [`Destinations::feed`].
    pub fn starve(&mut self, id: DestinationId) {
        if let Some(destination) = self.slab.get_mut(id.0)
            && !std::mem::replace(&mut destination.starved, true)
        {
            self.starved.push_back(id);
        }
    }

    /// Connections or memory came free: wakes some of those that wait for it.
    pub fn feed(&mut self, count: usize) {
        for _ in 0..count {
            let Some(id) = self.starved.pop_front() else { return };
            if let Some(destination) = self.slab.get_mut(id.0) {
                destination.starved = false;
                self.wake(id);
            }
        }
    }

    /// Whether one waits for connections or memory.
    pub fn has_starved(&self) -> bool {
        !self.starved.is_empty()
    }

    /// What to do for a destination now. One that nothing is left of is forgotten.
    pub fn step(&mut self, id: DestinationId, now_ms: u64) -> Step {
        let step = self.next_step(id, now_ms);
        if self.asking < self.limits.look_ups_max {
            // Whoever was woken for a place and did not take it leaves it to the next.
            self.offer_place();
        }
        step
    }

    fn next_step(&mut self, id: DestinationId, now_ms: u64) -> Step {
        let Some(destination) = self.slab.get_mut(id.0) else { return Step::Wait };
        if destination.is_over(now_ms) && self.smarthost != Some(id) {
            match &destination.target {
                Target::Domain(domain) => drop(self.domains.remove(domain)),
                Target::Host(hop) => drop(self.hosts.remove(hop)),
            }
            self.slab.remove(id.0);
            return Step::Wait;
        }
        if destination.ready.is_empty() || destination.ending.is_some() {
            return Step::Wait;
        }
        let wanted = destination.pool.wanted(destination.ready.len(), now_ms);
        if wanted == 0 {
            return Step::Wait;
        }
        let known = destination.route.as_ref();
        let is_fresh = known.is_some_and(|known| now_ms < known.fresh_until_ms);
        if !is_fresh && destination.question == Question::None {
            if self.asking < self.limits.look_ups_max {
                self.asking += 1;
                destination.question = Question::Asked;
                return Step::LookUp(destination.target.clone());
            }
            destination.question = Question::Waiting;
            self.unasked.push_back(id);
        }
        // An old route serves until the new one is here.
        if destination.route.is_some() { Step::Connect(wanted) } else { Step::Wait }
    }

    /// The answer to [`Step::LookUp`]: a route, which is good for `fresh_ms`.
    pub fn on_routed(&mut self, id: DestinationId, route: Route, fresh_ms: u64, now_ms: u64) {
        self.on_answered(id);
        if let Some(destination) = self.slab.get_mut(id.0) {
            let fresh_until_ms = now_ms.saturating_add(fresh_ms);
            destination.route = Some(Known { route, fresh_until_ms });
        }
    }

    /// The answer to [`Step::LookUp`]: there is no route, now or ever. The ready mails end their attempt
    /// with it; one that [is waited for](Target::is_waited_for) is looked up again after a rest, and an old
    /// route serves on.
    pub fn on_unroutable(&mut self, id: DestinationId, finish: Finish, now_ms: u64) {
        self.on_answered(id);
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        let waits = destination.target.is_waited_for();
        if let Some(known) = &mut destination.route
            && (waits || finish.fate == Fate::Temporary)
        {
            known.fresh_until_ms = now_ms + STALE_MS;
            return;
        }
        destination.route = None;
        if waits || finish.fate == Fate::Temporary {
            destination.pool.rest(finish.trouble(), now_ms);
            rest(&mut self.rests, id, destination.pool.back_at_ms(now_ms));
        }
        if !waits {
            destination.end_ready(finish);
        }
        self.wake(id);
    }

    fn on_answered(&mut self, id: DestinationId) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        if std::mem::replace(&mut destination.question, Question::None) != Question::Asked {
            return;
        }
        self.asking -= 1;
        self.wake(id);
        self.offer_place();
    }

    /// Wakes the next destination that waits for a place among the look-ups.
    fn offer_place(&mut self) {
        while let Some(next) = self.unasked.pop_front() {
            if let Some(waiting) = self.slab.get_mut(next.0)
                && waiting.question == Question::Waiting
            {
                waiting.question = Question::None;
                return self.wake(next);
            }
        }
    }

    /// The way of a new connection; `None` where no host is left that `carried` may try.
    pub fn journey(
        &mut self,
        id: DestinationId,
        carried: Option<Box<Carried>>,
        now_ms: u64,
    ) -> Result<Journey, Option<Box<Carried>>> {
        let Some(destination) = self.slab.get_mut(id.0) else { return Err(carried) };
        let Some(known) = &destination.route else { return Err(carried) };
        destination.avoided.retain(|&(_, until_ms)| now_ms < until_ms);
        let avoided = &destination.avoided;
        let stops = known.route.stops(
            &mut self.chance,
            |host| carried.as_ref().is_none_or(|carried| carried.may_try(host)),
            |address| avoided.iter().any(|&(other, _)| other == address),
        );
        if stops.is_empty() {
            return Err(carried);
        }
        destination.pool.on_opening();
        self.connections += 1;
        Ok(Journey::new(id, destination.target.clone(), stops, carried))
    }

    /// An address of it could not be reached: it is tried last for a while.
    pub fn avoid(&mut self, id: DestinationId, address: SocketAddr, now_ms: u64) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        destination.avoided.retain(|&(other, _)| other != address);
        if destination.avoided.len() < AVOIDED_MAX {
            destination.avoided.push((address, now_ms + AVOIDED_MS));
        }
    }

    /// A connection was greeted.
    pub fn on_greeted(&mut self, id: DestinationId, address: SocketAddr) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        destination.avoided.retain(|&(other, _)| other != address);
        destination.pool.on_greeted();
        self.wake(id);
    }

    /// A connection has nothing to do.
    pub fn on_idle(&mut self, id: DestinationId, key: Key) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        self.idle_number += 1;
        destination.pool.on_idle(key, self.idle_number);
        self.idle.insert(self.idle_number, (id, key));
        if !destination.ready.is_empty() {
            // It found nothing that it could take: memory is short, or texts are being read.
            self.starve(id);
        }
    }

    /// An idle connection of a destination, which is idle no more.
    pub fn take_idle(&mut self, id: DestinationId) -> Option<Key> {
        let (key, number) = self.slab.get_mut(id.0)?.pool.take_idle()?;
        self.idle.remove(&number);
        Some(key)
    }

    /// How many connections of a destination are idle.
    pub fn idle(&self, id: DestinationId) -> usize {
        self.slab.get(id.0).map_or(0, |destination| destination.pool.idle())
    }

    /// The connection of any other destination that is longest idle.
    pub fn longest_idle(&self, except: Option<DestinationId>) -> Option<Key> {
        let mut others = self.idle.values().filter(|(id, _)| Some(*id) != except);
        others.next().map(|&(_, key)| key)
    }

    /// How many connections are idle.
    pub fn idle_in_all(&self) -> usize {
        self.idle.len()
    }

    /// An idle connection is about to leave.
    pub fn on_busy(&mut self, id: DestinationId, key: Key) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        if let Some(number) = destination.pool.on_busy(key) {
            self.idle.remove(&number);
        }
    }

    /// A greeted connection was closed.
    pub fn on_closed(&mut self, id: DestinationId, key: Key) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        if let Some(number) = destination.pool.on_closed(key) {
            self.idle.remove(&number);
        }
        self.connections -= 1;
        self.wake(id);
        self.feed(1);
    }

    /// A connection in the making is not needed, or may not be; that says nothing about the hosts.
    pub fn on_given_up(&mut self, id: DestinationId) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        destination.pool.on_given_up();
        self.connections -= 1;
        self.wake(id);
        self.feed(1);
    }

    /// There is no place for a connection in the making: its destination waits for one.
    pub fn on_refused(&mut self, id: DestinationId) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        destination.pool.on_given_up();
        self.connections -= 1;
        self.starve(id);
    }

    /// No address of a journey could be reached: the destination rests. Where nothing else is connected to
    /// it the ready mails end their attempt so, unless it [is waited for](Target::is_waited_for).
    pub fn on_unreachable(&mut self, id: DestinationId, finish: Finish, now_ms: u64) {
        let Some(destination) = self.slab.get_mut(id.0) else { return };
        destination.pool.on_failed(finish.trouble(), now_ms);
        rest(&mut self.rests, id, destination.pool.back_at_ms(now_ms));
        self.connections -= 1;
        if !destination.target.is_waited_for() && destination.pool.connections() == 0 {
            destination.end_ready(finish);
        }
        self.wake(id);
        self.feed(1);
    }

    /// Every mail that is ready now ends its attempt so.
    pub fn end_ready(&mut self, id: DestinationId, finish: Finish) {
        if let Some(destination) = self.slab.get_mut(id.0) {
            destination.end_ready(finish);
            self.wake(id);
        }
    }

    /// Whether ready mails are to end, some at a time.
    pub fn is_ending(&self, id: DestinationId) -> bool {
        self.slab.get(id.0).is_some_and(|destination| destination.ending.is_some())
    }

    /// Some of the mails that end their attempt, and how.
    pub(super) fn take_ending(
        &mut self,
        id: DestinationId,
        count_max: usize,
    ) -> Option<(Vec<MailId>, Finish)> {
        let destination = self.slab.get_mut(id.0)?;
        let ending = destination.ending.as_mut()?;
        let count = count_max.min(ending.left).min(destination.ready.len());
        let mails = destination.ready.drain(..count).collect();
        let finish = ending.finish.clone();
        ending.left -= count;
        if ending.left == 0 || destination.ready.is_empty() {
            destination.ending = None;
        }
        self.wake(id);
        Some((mails, finish))
    }

    /// When the next destination has rested enough.
    pub fn next_rested(&self) -> Option<u64> {
        self.rests.next_due()
    }

    /// Wakes a destination that has rested enough, if there is one.
    pub fn wake_rested(&mut self, now_ms: u64) -> bool {
        let rested = self.rests.pop_due(now_ms);
        rested.inspect(|&id| self.wake(id)).is_some()
    }

    /// Gives back what tables took for a peak that is over; costs nothing while they are in use.
    pub fn shrink(&mut self) {
        let is_spare = |capacity: usize, len: usize| capacity > TABLE_KEPT && capacity / 4 > len;
        if is_spare(self.domains.capacity(), self.domains.len()) {
            self.domains.shrink_to(TABLE_KEPT.max(2 * self.domains.len()));
        }
        if is_spare(self.hosts.capacity(), self.hosts.len()) {
            self.hosts.shrink_to(TABLE_KEPT.max(2 * self.hosts.len()));
        }
        for list in [&mut self.awake, &mut self.starved, &mut self.unasked] {
            if is_spare(list.capacity(), list.len()) {
                list.shrink_to(TABLE_KEPT.max(2 * list.len()));
            }
        }
    }

    /// Whether a destination has no connection, and the last that was wanted could not be had.
    pub(super) fn is_cut_off(&self, id: DestinationId) -> bool {
        let pool = self.slab.get(id.0).map(|destination| &destination.pool);
        pool.is_some_and(|pool| pool.trouble().is_some() && pool.connections() == pool.opening())
    }

    /// Why the last connection or look-up of a destination failed, until one succeeds.
    pub(super) fn trouble(&self, id: DestinationId) -> Option<&str> {
        self.slab.get(id.0)?.pool.trouble()
    }

    /// A destination, explained.
    pub fn explain(&self, id: DestinationId, now_ms: u64) -> Option<DestinationView> {
        self.slab.get(id.0).map(|destination| destination.explain(now_ms))
    }

    /// All of them, explained; in any order.
    pub fn explain_all(&self, now_ms: u64) -> impl Iterator<Item = DestinationView> + '_ {
        self.slab.iter().map(move |(_, destination)| destination.explain(now_ms))
    }
}

impl Destination {
    fn is_over(&self, now_ms: u64) -> bool {
        self.mails == 0
            && self.pool.connections() == 0
            && self.question != Question::Asked
            && self.pool.back_at_ms(now_ms).is_none()
    }

    fn end_ready(&mut self, finish: Finish) {
        let left = self.ready.len();
        self.ending = (left > 0).then_some(Ending { finish, left });
    }

    fn explain(&self, now_ms: u64) -> DestinationView {
        let look_up = match self.question {
            Question::None => None,
            Question::Waiting => Some(LookUp::Waiting),
            Question::Asked => Some(LookUp::Asked),
        };
        DestinationView {
            target: self.target.clone(),
            mails: self.mails,
            ready: self.ready.len(),
            connections: self.pool.connections(),
            idle: self.pool.idle(),
            opening: self.pool.opening(),
            look_up: look_up.filter(|_| self.route.is_none()),
            trouble: self.pool.trouble().map(str::to_owned),
            back_at_ms: self.pool.back_at_ms(now_ms),
            starved: self.starved,
        }
    }
}

/// Has `id` woken when its rest is over.
fn rest(rests: &mut Schedule<DestinationId>, id: DestinationId, back_at_ms: Option<u64>) {
    back_at_ms.into_iter().for_each(|back_at_ms| rests.insert(back_at_ms, id));
}

#[cfg(test)]
#[path = "destinations_tests.rs"]
mod tests;
