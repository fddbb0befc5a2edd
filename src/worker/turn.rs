//! The handler of the turn: tokens to drivers, verdicts one by one, the batch in the commit phase.
//!
//! Must never: block.
//!
//! **Diagnostics**: none of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use mio::Token;
use mio::net::TcpListener;
use rohrpost_abi::{PluginIndex, WatchId};
use rohrpost_reactor::{Handler, Key, Pending, Readiness, Ready, Slab, TimerKey, Waiter, WatchKey};

use crate::limits::Connections;
use crate::metrics::Number;
use crate::net::desk::{Committing, Desk, Io, Mail, Question, Timer};
use crate::net::incoming::{Incoming, Keep};
use crate::net::listener::Entrance;
use crate::net::outgoing::Outgoing;
use crate::net::spare::Spares;
use crate::queue::{Completion, Queue};
use crate::smtp::server;
use crate::view;

use super::context::ContextWork;
use super::dispatch::SERVED_MAX;
use super::gather::Gathering;
use super::reload::session_options;

/// Time between two looks at ages and gauges.
pub(super) const TICK_MS: u64 = 1_000;

/// What a token can mean.
#[derive(Debug)]
pub(super) enum Connection {
    /// Its socket is being registered.
    Opening,
    Listener(TcpListener, SocketAddr, Entrance),
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
    /// The plugins of a reload, which had this number, have contexts on this worker.
    Renewed(usize, u64),
    /// A plugin of the reload with this number kept its context for itself.
    RenewalFailed(u64, String),
    /// These plugins, which are in no set any more, have no context on this worker any more.
    Departed(usize, Vec<PluginIndex>),
}

/// The sockets that one worker listens on, and how clients come in there.
pub type Doors = Vec<(std::net::TcpListener, Entrance)>;

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
    pub(super) desk: Desk,
    pub(super) connections: Slab<Connection>,
    pub(super) common: Common,
    pub(super) options: Arc<server::Options>,
    pub(super) doors: Doors,
    pub(super) accept_again: Vec<Key>,
    pub(super) context: Option<ContextWork>,
    pub(super) context_timer: Option<TimerKey>,
    /// Plugins that are to get contexts as soon as nothing else is done with those, and their number.
    pub(super) renewal: Option<(u64, Arc<[PluginIndex]>)>,
    pub(super) delivery_timer: Option<(TimerKey, u64)>,
    gathering: Gathering,
}

impl Worker {
    /// A worker that has not begun: [`Worker::begin`] initialises its contexts.
    pub fn new(desk: Desk, common: Common, doors: Doors) -> Worker {
        let options = session_options(&desk.settings, &desk.tls);
        Worker {
            options: Arc::new(options),
            desk,
            connections: Slab::new(),
            common,
            doors,
            accept_again: Vec::new(),
            context: None,
            context_timer: None,
            renewal: None,
            delivery_timer: None,
            gathering: Gathering::default(),
        }
    }

    pub(super) fn report(&self, report: Report) {
        // The supervisor outlives the workers; if it is gone, nobody is left to care.
        let _ = self.common.reports.send(report);
    }

    /// Lends a connection to `work` and removes it if its driver is done with it.
    pub(super) fn with(
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

    pub(super) fn on_committed(&mut self, completion: Completion, io: &mut Io) {
        if self.desk.settlements.on_settled(completion.settled) {
            self.desk.store.destinations.feed(SERVED_MAX);
        }
        for (id, outcome) in completion.accepted {
            let Some(committing) = self.desk.committing.remove(&id) else {
                continue;
            };
            let Committing { connection, transaction, reserved } = committing;
            let recipients = transaction.mails.len();
            match &outcome {
                Ok(()) => {
                    if connection.is_some() {
                        self.desk.numbers().add(Number::Accepted, recipients as u64);
                        self.desk.log_received(&transaction);
                    }
                    let now = self.desk.now(io);
                    self.desk.store.admit(transaction, reserved, now);
                    if self.desk.memory.is_tight() || reserved == 0 {
                        self.desk.store.unload(id);
                    }
                }
                Err(_) => self.desk.release(reserved),
            }
            let Some(connection) = connection else { continue };
            let outcome = outcome.map(|()| recipients);
            self.with(connection, io, |connection, desk, io| match connection {
                Connection::Incoming(incoming) => incoming.on_committed(id, outcome, desk, io),
                _ => Keep::Yes,
            });
        }
    }

    pub(super) fn on_tick(&mut self, io: &mut Io) {
        io.arm(io.now_ms() + TICK_MS, Timer::Tick);
        self.relieve(io);
        for key in std::mem::take(&mut self.accept_again) {
            io.again(Token::from(key));
        }
        self.desk.delivering = self.common.queue.delivering();
        self.desk.accepting = self.common.queue.accepting();
        self.desk.shrink();
        self.desk.plugins.publish();
        self.retire(io);
    }

    pub(super) fn keys(&self) -> Vec<Key> {
        self.connections.iter().map(|(key, _)| key).collect()
    }

    pub(super) fn answer(&mut self, question: &Question, io: &Io) -> Vec<serde_json::Value> {
        let now = self.desk.now(io);
        let explain = |mail| view::mail(&mail, &self.desk.store.destinations, now);
        match question {
            Question::List { limit, after } => {
                self.desk.store.views(*after, *limit).into_iter().map(explain).collect()
            }
            Question::ShowAll(id) => {
                self.desk.store.view_all(*id).into_iter().map(explain).collect()
            }
            Question::Remove(ids) => self.remove_by_hand(ids, io),
            Question::Retry { which, before } => self.retry_by_hand(which, *before, io),
            Question::Show(id) => self.desk.store.view(*id).map(explain).into_iter().collect(),
            Question::Destinations { limit } => {
                view::destinations(&self.desk.store.destinations, *limit, now)
            }
        }
    }

    pub(super) fn gauge(&self) {
        let numbers = self.desk.numbers();
        numbers.set(Number::Queued, self.desk.store.queued() as u64);
        numbers.set(Number::Failed, self.desk.store.failed() as u64);
        numbers.set(Number::UnderWay, self.desk.store.under_way() as u64);
        numbers.set(Number::Committing, self.desk.committing.len() as u64);
        numbers.set(Number::Settling, self.desk.settlements.len() as u64);
        numbers.set(Number::OutgoingConnections, self.desk.store.destinations.connections() as u64);
        numbers.set(Number::Destinations, self.desk.store.destinations.len() as u64);
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
            Timer::StopHolds => self.revoke_holds(io),
            Timer::StopAll => self.abort(io),
        }
    }

    fn on_watch(&mut self, io: &mut Io, _key: WatchKey, watch: WatchId, ready: Ready) {
        self.desk.on_plugin_watch(io, watch, ready);
    }

    fn on_socket(&mut self, io: &mut Io, token: Token, ready: Readiness) {
        self.gathering.on_socket();
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
            Mail::Posted => self.desk.take_posted(io),
            Mail::Loaded(id, loaded) => {
                let now = self.desk.now(io);
                let attempts = self.desk.store.on_loaded(id, loaded, now);
                attempts.into_iter().for_each(|attempt| self.desk.settle(attempt));
            }
            // The commit phase of this turn goes on with it.
            Mail::LogRoom => {}
            Mail::Recalled(id, recalled) => self.desk.on_recalled(id, recalled),
            Mail::Resolved(query, answer) => self.desk.on_query_answered(io, query, &answer),
            Mail::Routed(destination, routed) => self.on_routed(destination, routed, io),
            Mail::Verified(key, good) => {
                self.with(key, io, |connection, desk, io| match connection {
                    Connection::Incoming(incoming) => incoming.on_verified(good, desk, io),
                    Connection::Outgoing(_) | Connection::Opening | Connection::Listener(..) => {
                        Keep::Yes
                    }
                })
            }
            Mail::Restore(waiting, _receipt) => {
                let now = self.desk.now(io);
                waiting.into_iter().for_each(|mail| self.desk.store.restore(mail, now));
            }
            Mail::Open => self.open(io),
            Mail::Ask(question, answers) => {
                // Whoever asked may have given up.
                let _ = answers.send(self.answer(&question, io));
            }
            Mail::Settings(news, done) => {
                self.adopt(&news, io);
                // Whoever asked may have given up.
                let _ = done.send(());
            }
            Mail::Plugins(intent) => self.on_intent(intent, io),
            Mail::Intake(intake) => self.on_intake(intake, io),
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
        if self.desk.tell_answer(io) {
            return true;
        }
        if std::mem::take(&mut self.desk.context_resumable) {
            if let Some(verdict) = self.desk.plugins.take_context_verdict()
                && let Some(work) = &mut self.context
                && work.chain.is_held()
            {
                work.chain.on_verdict(verdict);
                self.walk_context(io);
            }
            return true;
        }
        false
    }

    fn commit(&mut self, io: &mut Io) {
        self.desk.resume_telling();
        self.desk.resume_lines();
        self.deliver(io);
        let released = self.desk.store.take_released();
        if released > 0 {
            self.desk.release(released);
            self.desk.store.destinations.feed(1);
        }
        let goes = self.gathering.is_over(self.desk.batch.len(), io.now_ms());
        if !self.desk.batch.is_empty() {
            if goes {
                let batch = std::mem::take(&mut self.desk.batch);
                self.common.queue.hand_over(self.desk.index, batch);
            } else {
                // The next look at the sockets tells whether anybody else comes.
                io.stay_awake();
            }
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
        self.desk.end_turn();
        // What was left over, and what found the mailbox full: then there was mail, hence this turn.
        self.desk.take_posted(io);
        // A flush may let a connection go on, and its plugins ask for more: the next turn comes
        // at once then.
        if self.pending() != Pending::NONE || self.has_work() {
            io.stay_awake();
        }
    }

    fn pending(&self) -> Pending {
        Pending {
            verdicts: self.desk.resumable.len() + usize::from(self.desk.context_resumable),
            commands: self.desk.sends.len() + self.desk.untold_answers(),
            unflushed: self.desk.dirty.len(),
            unhanded: self.desk.batch.len(),
        }
    }

    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        self.desk.foreign.as_mut()?.waiter()
    }

    fn on_waited(&mut self, io: &mut Io) {
        self.desk.apply_commands(io);
    }
}
