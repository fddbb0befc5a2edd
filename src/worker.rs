//! One worker: a reactor, a desk, a slab of connections, and the joints between them.
//!
//! The worker is the handler of its reactor's turn. It looks tokens up, lends the connection found
//! to its driver, and removes it when the driver says so. What plugins asked for is applied after
//! each callback; verdicts are resumed one by one in the verdict phase, oldest first (D-2F); the
//! turn's batch is handed to the queue before anything is flushed.
//!
//! Must never: block, or decide what a protocol means.
//!
//! **Diagnostics**: an accept that fails for want of descriptors is answered 421 with the spare
//! one and logged; a panic in here is a bug and ends the process through the supervisor.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Token};
use rohrpost_abi::{ContextStep, WatchId};
use rohrpost_reactor::{Handler, Key, Pending, Readiness, Ready, Slab, TimerKey, WatchKey};

use crate::delivery::{NextHop, own_listener};
use crate::limits::Connections;
use crate::log::Level;
use crate::metrics::Number;
use crate::net::desk::{Committing, Desk, Io, Mail, Mood, Question, Timer};
use crate::net::incoming::{Arrival, Incoming, Keep};
use crate::net::listener::BACKLOG;
use crate::net::outgoing::{Departure, Outgoing};
use crate::net::spare::Spares;
use crate::net::transport::Transport;
use crate::plugin::chain::Chain;
use crate::plugin::view::Walk;
use crate::queue::{Completion, Entry, Queue};
use crate::smtp::{Fixed, answer, server};
use crate::view;

/// Connections taken from one listener in one turn.
const ACCEPTS_MAX: usize = 64;
/// Time between two looks at ages and gauges.
const TICK_MS: u64 = 1_000;

/// What a token can mean.
#[derive(Debug)]
enum Connection {
    /// Its socket is being registered.
    Opening,
    Listener(TcpListener, SocketAddr),
    Incoming(Box<Incoming>),
    Outgoing(Box<Outgoing>),
}

/// What a worker tells the supervisor.
#[derive(Debug)]
pub enum Report {
    /// Its contexts are initialised.
    Ready(usize),
    /// A plugin kept its context for itself (D-14).
    StartFailed(usize, String),
    /// It has ended in order.
    Ended(usize),
}

/// What a worker shares with the others.
#[derive(Clone)]
pub struct Common {
    /// Makes mail durable.
    pub queue: Arc<dyn Queue>,
    /// Open connections of all workers.
    pub connections: Arc<Connections>,
    /// Descriptors to turn clients away with when there are no others.
    pub spares: Arc<Spares>,
    /// Where it reports.
    pub reports: crossbeam_channel::Sender<Report>,
}

/// One worker.
pub struct Worker {
    desk: Desk,
    connections: Slab<Connection>,
    common: Common,
    options: Arc<server::Options>,
    sockets: Vec<std::net::TcpListener>,
    hop: Option<NextHop>,
    /// Addresses of the next hop, with when they were found.
    addresses: Vec<SocketAddr>,
    address_next: usize,
    resolving: bool,
    resolved_ms: Option<u64>,
    accept_again: Vec<Key>,
    context: Option<(ContextStep, Chain)>,
    context_timer: Option<TimerKey>,
    delivery_timer: Option<(TimerKey, u64)>,
    drain_until_ms: Option<u64>,
}

/// How long addresses of the smarthost are used before they are looked up again.
const RESOLVED_MS_MAX: u64 = 60_000;

impl Worker {
    /// A worker that has not begun: [`Worker::begin`] initialises its contexts.
    pub fn new(desk: Desk, common: Common, sockets: Vec<std::net::TcpListener>) -> Worker {
        let smtp = &desk.settings.smtp;
        let options = server::Options {
            size_max: smtp.message_bytes_max,
            recipients_max: smtp.recipients_max as usize,
            errors_max: smtp.errors_max.map_or(u32::MAX, std::num::NonZeroU32::get),
            ..server::Options::new(smtp.hostname.clone())
        };
        let delivery = &desk.settings.delivery;
        let hop = delivery.smarthost.as_ref().map(|host| NextHop {
            host: host.to_string(),
            port: delivery.smarthost_port,
        });
        Worker {
            desk,
            connections: Slab::new(),
            common,
            options: Arc::new(options),
            sockets,
            addresses: hop
                .as_ref()
                .and_then(NextHop::literal)
                .into_iter()
                .collect(),
            hop,
            address_next: 0,
            resolving: false,
            resolved_ms: None,
            accept_again: Vec::new(),
            context: None,
            context_timer: None,
            delivery_timer: None,
            drain_until_ms: None,
        }
    }

    /// Initialises the plugins' contexts, with the loop running (D-14).
    pub fn begin(&mut self, io: &mut Io) {
        io.arm(io.now_ms() + TICK_MS, Timer::Tick);
        let timeout = self.desk.settings.plugin.start_timeout;
        self.begin_context(ContextStep::Initialize, timeout.as_millis() as u64, io);
    }

    fn begin_context(&mut self, step: ContextStep, patience_ms: u64, io: &mut Io) {
        self.context = Some((step, self.desk.plugins.chain(step.hook())));
        self.context_timer = Some(io.arm(io.deadline_after(patience_ms), Timer::Context));
        self.walk_context(io);
    }

    fn walk_context(&mut self, io: &mut Io) {
        let Some((step, chain)) = &mut self.context else {
            return;
        };
        let step = *step;
        let walked = self.desk.plugins.walk_context(chain, step);
        self.desk.apply_commands(io);
        if walked == Walk::Done {
            self.finish_context(step, io);
        }
    }

    fn finish_context(&mut self, step: ContextStep, io: &mut Io) {
        self.context = None;
        if let Some(timer) = self.context_timer.take() {
            io.cancel(timer);
        }
        match step {
            ContextStep::Initialize => self.report(Report::Ready(self.desk.index)),
            ContextStep::Cleanup => {
                self.desk.drop_plugin_sources(io);
                self.report(Report::Ended(self.desk.index));
                io.stop();
            }
        }
    }

    fn on_context_timeout(&mut self, io: &mut Io) {
        self.context_timer = None;
        let Some((step, _)) = &self.context else {
            return;
        };
        let holder = self.desk.plugins.revoke_context();
        match step {
            ContextStep::Initialize => {
                let text = format!(
                    "plugin {holder}: mq_context_initialize was not handed back within plugin-start-timeout"
                );
                self.report(Report::StartFailed(self.desk.index, text));
                self.context = None;
            }
            ContextStep::Cleanup => {
                // D-16: a stuck plugin must not block the stop for ever.
                let text = format_args!(
                    "{holder}: mq_context_cleanup was not handed back within plugin-shutdown-timeout"
                );
                self.desk.log.warning("plugin", text);
                self.finish_context(ContextStep::Cleanup, io);
            }
        }
    }

    fn report(&self, report: Report) {
        // The supervisor outlives the workers; if it is gone, nobody is left to care.
        let _ = self.common.reports.send(report);
    }

    /// Every worker is ready: listeners are registered, mail that was found is delivered.
    fn open(&mut self, io: &mut Io) {
        self.desk.mood = Mood::Open;
        for socket in std::mem::take(&mut self.sockets) {
            if let Err(error) = self.listen(socket, io) {
                self.desk
                    .log
                    .critical("smtp", format_args!("a listener was lost: {error}"));
            }
        }
    }

    fn listen(&mut self, socket: std::net::TcpListener, io: &mut Io) -> io::Result<()> {
        let address = socket.local_addr()?;
        let listener = TcpListener::from_std(socket);
        let key = self
            .connections
            .insert(Connection::Listener(listener, address));
        let Some(Connection::Listener(listener, _)) = self.connections.get_mut(key) else {
            unreachable!("it was inserted as one")
        };
        io.registry()
            .register(listener, Token::from(key), Interest::READABLE)
    }

    /// Takes some clients of the backlog; whether it is empty, or as good as that for now.
    fn accept(&mut self, key: Key, io: &mut Io) -> bool {
        self.common.spares.fill();
        for _ in 0..ACCEPTS_MAX {
            let Some(Connection::Listener(listener, local)) = self.connections.get(key) else {
                return true;
            };
            let local = *local;
            match listener.accept() {
                Ok((stream, remote)) => self.arrive(stream, remote, local, io),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                Err(error) if is_out_of_descriptors(&error) => {
                    self.turn_some_away(key);
                    return true;
                }
                // The client was faster than we: it has gone already.
                Err(_) => {}
            }
        }
        false
    }

    /// No descriptor is left: gives up the spare one, and with it takes one client after the other
    /// and says why it cannot stay. Otherwise they would wait in the backlog without a word.
    fn turn_some_away(&mut self, key: Key) {
        self.desk.log.limited(
            "descriptors",
            Level::Critical,
            "smtp",
            "no file descriptor is left; clients are answered 421 (raise LimitNOFILE or lower smtp-connections)",
        );
        let (common, connections) = (&self.common, &self.connections);
        let mut turned = 0;
        common.spares.without_one(|| {
            while turned < ACCEPTS_MAX as u64
                && let Some(Connection::Listener(listener, _)) = connections.get(key)
                && let Ok((stream, _)) = listener.accept()
            {
                turn_away(stream, answer::NO_DESCRIPTORS);
                turned += 1;
            }
        });
        self.desk.numbers().add(Number::Turned, turned);
        // The edge is used up; the next tick looks again.
        self.accept_again.push(key);
    }

    fn arrive(&mut self, stream: TcpStream, remote: SocketAddr, local: SocketAddr, io: &mut Io) {
        if self.desk.mood != Mood::Open {
            return turn_away(stream, answer::SHUTTING_DOWN);
        }
        if !self.desk.settings.smtp.clients.contains(remote.ip()) {
            self.desk.count(Number::Turned);
            return turn_away(stream, answer::CLIENT_REFUSED);
        }
        let permit = match self.common.connections.accept(remote.ip()) {
            Ok(permit) => permit,
            Err(limit) => {
                self.desk.count(Number::Turned);
                let text = format_args!("{} is turned away: {limit}", remote.ip());
                self.desk
                    .log
                    .limited("connections", Level::Warning, "smtp", text);
                return turn_away(stream, answer::TOO_MANY_CONNECTIONS);
            }
        };
        self.desk.count(Number::Connected);
        // With a listener on all addresses the client decides which of them it meets.
        let local = stream.local_addr().unwrap_or(local);
        let options = self.options.clone();
        let key = self.connections.insert(Connection::Opening);
        match Transport::register(stream, io.registry(), Token::from(key)) {
            Ok(transport) => {
                let arrival = Arrival {
                    transport,
                    remote,
                    local,
                    permit,
                    options,
                };
                let incoming = Incoming::new(arrival, &mut self.desk, io, key);
                self.put(key, Connection::Incoming(Box::new(incoming)), io);
            }
            Err(error) => {
                self.connections.remove(key);
                let text = format_args!("a connection could not be registered: {error}");
                self.desk
                    .log
                    .limited("register", Level::Warning, "smtp", text);
            }
        }
    }

    /// Puts a connection in its place and lets it begin.
    fn put(&mut self, key: Key, connection: Connection, io: &mut Io) {
        if let Some(place) = self.connections.get_mut(key) {
            *place = connection;
        }
        self.with(key, io, |connection, desk, io| match connection {
            Connection::Incoming(incoming) => incoming.drive(desk, io),
            Connection::Outgoing(outgoing) => outgoing.drive(desk, io),
            Connection::Opening | Connection::Listener(..) => Keep::Yes,
        });
    }

    /// Lends a connection to `work` and removes it if its driver is done with it.
    fn with(
        &mut self,
        key: Key,
        io: &mut Io,
        work: impl FnOnce(&mut Connection, &mut Desk, &mut Io) -> Keep,
    ) {
        if let Some(connection) = self.connections.get_mut(key)
            && work(connection, &mut self.desk, io) == Keep::No
        {
            self.connections.remove(key);
        }
    }

    fn on_committed(&mut self, completion: Completion, io: &mut Io) {
        for (id, outcome) in completion.accepted {
            let Some(committing) = self.desk.committing.remove(&id) else {
                continue;
            };
            let Committing {
                connection,
                transaction,
                reserved,
            } = committing;
            let recipients = transaction.mails.len();
            match &outcome {
                Ok(()) => {
                    self.desk.numbers().add(Number::Accepted, recipients as u64);
                    self.desk.store.admit(transaction, reserved);
                    if self.desk.memory.is_tight() {
                        self.desk.store.unload(id);
                    }
                }
                Err(_) => self.desk.release(reserved),
            }
            let outcome = outcome.map(|()| recipients);
            self.with(connection, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_committed(id, outcome, desk, io),
                _ => Keep::Yes,
            });
        }
    }

    /// Gives ready mails to idle connections, and opens more if there are too few.
    fn deliver(&mut self, io: &mut Io) {
        if self.desk.mood != Mood::Open || !self.desk.delivering || self.desk.store.ready() == 0 {
            return;
        }
        let Some(hop) = self.hop.clone() else { return };
        // Each idle connection is asked once: one that gets nothing, because memory or the helper is
        // busy, rests again at once, and asking it for ever would end the turn never.
        for _ in 0..self.desk.pool.idle() {
            if self.desk.store.ready() == 0 {
                break;
            }
            let Some(key) = self.desk.pool.take_idle() else {
                break;
            };
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Outgoing(outgoing) => outgoing.on_work(desk, io),
                _ => Keep::Yes,
            });
        }
        for _ in 0..self.desk.pool.wanted(self.desk.store.ready(), io.now_ms()) {
            match self.next_address(&hop, io) {
                Some(address) => self.connect(&hop, address, io),
                None => break,
            }
        }
    }

    /// The address to try next, in turn; asks for them where they are not known or old.
    fn next_address(&mut self, hop: &NextHop, io: &Io) -> Option<SocketAddr> {
        if hop.literal().is_none() {
            let fresh = self
                .resolved_ms
                .is_some_and(|at| io.now_ms() < at + RESOLVED_MS_MAX);
            if !fresh {
                if !self.resolving {
                    let job = crate::blocking::Job::Resolve(self.desk.index, hop.clone());
                    self.resolving = self.desk.jobs.try_send(job).is_ok();
                }
                return None;
            }
        }
        let address = *self
            .addresses
            .get(self.address_next % self.addresses.len().max(1))?;
        self.address_next = self.address_next.wrapping_add(1);
        Some(address)
    }

    fn connect(&mut self, hop: &NextHop, address: SocketAddr, io: &mut Io) {
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
                let departure = Departure {
                    transport,
                    remote: address,
                    hop: hop.clone(),
                    permit,
                };
                let outgoing = Outgoing::new(departure, io, key, &self.desk);
                self.put(key, Connection::Outgoing(Box::new(outgoing)), io);
            }
            Err(error) => {
                self.connections.remove(key);
                self.desk
                    .pool
                    .on_failed(format!("{address}: {error}"), io.now_ms());
            }
        }
    }

    /// Makes due what is due, and ages out what is too old.
    fn look_at_schedule(&mut self, io: &Io) {
        let now = self.desk.now(io);
        while let Some(due) = self.desk.store.pop_due(now) {
            self.desk.batch.extend(due.map(Entry::Settle));
        }
    }

    fn arm_delivery(&mut self, io: &mut Io) {
        let back_at = self.desk.pool.back_at_ms(io.now_ms());
        let next = [self.desk.store.next_due(), back_at]
            .into_iter()
            .flatten()
            .min();
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

    fn on_tick(&mut self, io: &mut Io) {
        io.arm(io.now_ms() + TICK_MS, Timer::Tick);
        let now = self.desk.now(io);
        let aged = self.desk.store.pop_aged(now);
        self.desk.batch.extend(aged.into_iter().map(Entry::Settle));
        for key in std::mem::take(&mut self.accept_again) {
            io.again(Token::from(key));
        }
        self.desk.delivering = self.common.queue.status().delivering;
        if self
            .drain_until_ms
            .is_some_and(|until_ms| io.now_ms() >= until_ms)
        {
            self.abort(io);
        }
    }

    fn on_drain(&mut self, io: &mut Io) {
        if self.desk.mood == Mood::Draining {
            return;
        }
        self.desk.mood = Mood::Draining;
        let settings = &self.desk.settings;
        // D-53: plugins get their own time, and never more than the whole stop has.
        let patience = settings
            .general
            .shutdown_timeout
            .min(settings.plugin.shutdown_timeout);
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

    /// Clients in the backlog are told before the socket closes.
    fn close_listeners(&mut self, io: &mut Io) {
        for key in self.keys() {
            if matches!(self.connections.get(key), Some(Connection::Listener(..))) {
                let rounds = BACKLOG as usize / ACCEPTS_MAX + 1;
                let _ = (0..rounds).any(|_| self.accept(key, io));
                self.connections.remove(key);
            }
        }
        self.sockets.clear();
    }

    /// The time of the stop is over.
    fn abort(&mut self, io: &mut Io) {
        for key in self.keys() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_abort(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_abort(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
    }

    fn keys(&self) -> Vec<Key> {
        self.connections.iter().map(|(key, _)| key).collect()
    }

    /// Draining, and nothing is left: the contexts are cleaned up, then the loop ends.
    fn end_if_drained(&mut self, io: &mut Io) {
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

    fn answer(&self, question: &Question, io: &Io) -> Vec<serde_json::Value> {
        let now = self.desk.now(io);
        let explain = |mail| view::mail(&mail, &self.desk.pool, self.hop.as_ref(), now);
        match question {
            Question::List { limit, after } => self
                .desk
                .store
                .views()
                .into_iter()
                .filter(|mail| after.is_none_or(|after| mail.id > after))
                .take(*limit)
                .map(explain)
                .collect(),
            Question::Show(id) => self.desk.store.view(*id).map(explain).into_iter().collect(),
        }
    }

    fn gauge(&self) {
        let numbers = self.desk.numbers();
        numbers.set(Number::Queued, self.desk.store.queued() as u64);
        numbers.set(Number::Failed, self.desk.store.failed() as u64);
        numbers.set(Number::Committing, self.desk.committing.len() as u64);
        numbers.set(
            Number::OutgoingConnections,
            self.desk.pool.connections() as u64,
        );
        numbers.set(Number::MemoryUsed, self.desk.memory.used());
        numbers.add(Number::Turns, 1);
    }
}

impl Handler for Worker {
    type Timer = Timer;
    type Watch = WatchId;
    type Mail = Mail;

    fn on_timer(&mut self, io: &mut Io, _key: TimerKey, timer: Timer) {
        match timer {
            Timer::Connection(key) => self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_timer(desk, io),
                Connection::Outgoing(outgoing) => outgoing.on_timer(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            }),
            Timer::Plugin(timer) => self.desk.on_plugin_timer(io, timer),
            Timer::Delivery => {
                self.delivery_timer = None;
                self.look_at_schedule(io);
            }
            Timer::Tick => self.on_tick(io),
            Timer::Context => self.on_context_timeout(io),
        }
    }

    fn on_watch(&mut self, io: &mut Io, _key: WatchKey, watch: WatchId, ready: Ready) {
        self.desk.on_plugin_watch(io, watch, ready);
    }

    fn on_socket(&mut self, io: &mut Io, token: Token, ready: Readiness) {
        let key = Key::from(token);
        if matches!(self.connections.get(key), Some(Connection::Listener(..))) {
            if !self.accept(key, io) {
                io.again(token);
            }
            return;
        }
        self.with(key, io, |connection, desk, io| match connection {
            Connection::Incoming(incoming) => incoming.on_ready(ready, desk, io),
            Connection::Outgoing(outgoing) => outgoing.on_ready(ready, desk, io),
            Connection::Opening | Connection::Listener(..) => Keep::Yes,
        });
    }

    fn on_mail(&mut self, io: &mut Io, mail: Mail) {
        match mail {
            Mail::Committed(completion) => self.on_committed(completion, io),
            Mail::Posted(posted) => {
                self.desk.plugins.cell.post_handback(posted);
                self.desk.apply_commands(io);
            }
            Mail::Loaded(id, loaded) => {
                let now = self.desk.now(io);
                let attempts = self.desk.store.on_loaded(id, loaded, now);
                self.desk
                    .batch
                    .extend(attempts.into_iter().map(Entry::Settle));
            }
            Mail::Resolved(Ok(addresses)) => {
                self.resolving = false;
                self.resolved_ms = Some(io.now_ms());
                self.addresses = addresses;
            }
            Mail::Resolved(Err(why)) => {
                self.resolving = false;
                self.desk.pool.on_opening();
                self.desk.pool.on_failed(why, io.now_ms());
            }
            Mail::Restore(waiting) => {
                let now = self.desk.now(io);
                waiting
                    .into_iter()
                    .for_each(|mail| self.desk.store.restore(mail, now));
            }
            Mail::Open => self.open(io),
            Mail::Ask(question, answers) => {
                // Whoever asked may have given up.
                let _ = answers.send(self.answer(&question, io));
            }
            Mail::Drain => self.on_drain(io),
        }
    }

    fn resume(&mut self, io: &mut Io) -> bool {
        if let Some((connection, bytes)) = self.desk.sends.pop_front() {
            if let Some(&key) = self.desk.by_plugin.get(&connection) {
                self.with(key, io, |connection, desk, _| {
                    match connection {
                        Connection::Incoming(incoming) => incoming.on_send(&bytes, desk),
                        Connection::Outgoing(outgoing) => outgoing.on_send(&bytes, desk),
                        Connection::Opening | Connection::Listener(..) => {}
                    }
                    Keep::Yes
                });
            }
            return true;
        }
        if let Some(connection) = self.desk.resumable.pop_front() {
            if let Some(&key) = self.desk.by_plugin.get(&connection) {
                self.with(key, io, |connection, desk, io| match connection {
                    Connection::Incoming(incoming) => incoming.on_resume(desk, io),
                    Connection::Outgoing(outgoing) => outgoing.on_resume(desk, io),
                    Connection::Opening | Connection::Listener(..) => Keep::Yes,
                });
            }
            return true;
        }
        if std::mem::take(&mut self.desk.context_resumable) {
            if let Some(verdict) = self.desk.plugins.take_context_verdict()
                && let Some((_, chain)) = &mut self.context
                && chain.is_held()
            {
                chain.on_verdict(verdict);
                self.walk_context(io);
            }
            return true;
        }
        false
    }

    fn commit(&mut self, io: &mut Io) {
        self.deliver(io);
        let released = self.desk.store.take_released();
        if released > 0 {
            self.desk.release(released);
        }
        if !self.desk.batch.is_empty() {
            let batch = std::mem::take(&mut self.desk.batch);
            self.common.queue.hand_over(self.desk.index, batch);
        }
        self.arm_delivery(io);
    }

    fn flush(&mut self, io: &mut Io) {
        while let Some(key) = self.desk.dirty.pop() {
            self.with(key, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.flush(desk, io),
                Connection::Outgoing(outgoing) => outgoing.flush(desk, io),
                Connection::Opening | Connection::Listener(..) => Keep::Yes,
            });
        }
        self.end_if_drained(io);
        self.gauge();
        // A flush may let a connection go on, and its plugins ask for more: the next turn comes
        // at once then.
        if self.pending() != Pending::NONE {
            io.stay_awake();
        }
    }

    fn pending(&self) -> Pending {
        Pending {
            verdicts: self.desk.resumable.len() + usize::from(self.desk.context_resumable),
            commands: self.desk.sends.len(),
            unflushed: self.desk.dirty.len(),
            unhanded: self.desk.batch.len(),
        }
    }
}

fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Says why and closes; a client that does not read it loses nothing.
fn turn_away(mut stream: TcpStream, reply: Fixed) {
    let _ = stream.write(reply.as_bytes());
}
