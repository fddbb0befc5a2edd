//! The desk of one worker: everything its drivers share beside the connections themselves.
//!
//! A driver gets the desk and the reactor as arguments and owns neither, so a connection can be
//! worked on while its worker's slab lends it out.
//!
//! Must never: reach another worker except through its mailbox.
//!
//! **Diagnostics**: a watch whose descriptor died, or cannot be watched, gets its last callback
//! (D-97), with a warning.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::Sender as Channel;
use rohrpost_abi::{
    Command, ConnectionId, PluginIndex, PluginSet, QueryAnswer, QueryId, TimerId, WatchId,
};
use rohrpost_reactor::{Interest, Key, NumberMap, Reactor, TimerKey, WatchKey};

use crate::blocking::Job;
use crate::clock::Wall;
use crate::control::Which;
use crate::delivery::{DestinationId, Journey, Now, Store};
use crate::limits::Share;
use crate::log::Log;
use crate::logbook::Logbook;
use crate::mailboxes::Receipt;
use crate::metrics::{Metrics, Number, WorkerMetrics};
use crate::plugin::view::Plugins;
use crate::queue::{
    Accepting, Completion, Entry, Ids, MailId, ReadError, Transaction, TransactionId, Waiting,
};
use crate::rolls::Rolls;
use crate::services::{Routed, Services};
use crate::settings::Settings;
use crate::smtp::Memory;
use crate::tls::Tls;

use super::broken::BrokenTls;
use super::foreign::{Foreign, Repeat};
use super::settlement::{Recalled, Settlements};

use super::login::Admission;

/// The reactor of a mail worker.
pub type Io = Reactor<Timer, WatchId, Mail>;

/// What a timer of a mail worker is for.
#[derive(Clone, Copy, Debug)]
pub enum Timer {
    /// The deadline of a connection.
    Connection(Key),
    /// A plugin's.
    Plugin(TimerId),
    /// The next mail is due, or a destination may be tried again.
    Delivery,
    /// Once a second: age-out, gauges, resuming to accept.
    Tick,
    /// A start or stop waits for plugins no longer.
    Context,
    /// The time is over that a stop gives to plugins which hold something (D-53).
    StopHolds,
    /// The time of the whole stop is over.
    StopAll,
}

/// What other threads send to a mail worker.
#[derive(Debug)]
pub enum Mail {
    /// What became durable.
    Committed(Completion),
    /// Threads of plugins handed steps back, or may have: look.
    Posted,
    /// A transaction was read back, or not.
    Loaded(TransactionId, Result<Arc<Transaction>, ReadError>),
    /// The send log or received log has room again.
    LogRoom,
    /// What is to be told of mails of a message was read back, or not.
    Recalled(TransactionId, Result<Vec<(u16, Recalled)>, ReadError>),
    /// What name servers answered to a plugin's query.
    Resolved(QueryId, QueryAnswer),
    /// The route of a destination with the milliseconds that it is good for, or why there is none.
    Routed(DestinationId, Routed),
    /// The password that this connection gave was checked: whether it is good.
    Verified(Key, bool),
    /// Mail that the start found, to be owned by this worker.
    Restore(Vec<Waiting>, Receipt),
    /// Every worker is ready: take connections.
    Open,
    /// A question of the control socket.
    Ask(Question, Channel<Answer>),
    /// Whether to take mail from now on.
    Intake(Intake),
    /// What was read again, and whom to tell that it is in force.
    Settings(News, Channel<()>),
    /// What is to become of plugins that were loaded anew.
    Plugins(Intent),
    /// Stop: take nothing new, finish what is under way.
    Drain,
}

/// What a reload found.
#[derive(Clone, Debug)]
pub struct News {
    /// Settings, of which some may change while the server runs.
    pub settings: Arc<Settings>,
    /// The files of TLS.
    pub tls: Arc<Tls>,
    /// Who may log in, and who is local.
    pub rolls: Arc<Rolls>,
    /// Whom connections are to begin with from now on; their contexts are initialised. All of them, also
    /// where nothing has changed: a worker that was busy may be told of the last of several reloads alone.
    pub plugins: Arc<PluginSet>,
}

/// What is to become of plugins that were loaded anew.
#[derive(Clone, Debug)]
pub enum Intent {
    /// The first get contexts; [`Report`](crate::worker::Report) tells when, with this number. The second
    /// as in `Abandon`: they may stand in place of one that was not taken yet.
    Renew(u64, Arc<[PluginIndex]>, Arc<[PluginIndex]>),
    /// They are not to be used after all. All that were abandoned and are not over yet: a worker may be told
    /// of some of them again.
    Abandon(Arc<[PluginIndex]>),
}

/// What can be asked of a worker.
#[derive(Clone, Debug)]
pub enum Question {
    /// All its mails, at most this many, after this id.
    List {
        /// Rows at most.
        limit: usize,
        /// The id after which to begin.
        after: Option<MailId>,
    },
    /// One mail.
    Show(MailId),
    /// All mails of a transaction.
    ShowAll(TransactionId),
    /// Remove mails: ids of mails, or of transactions.
    Remove(Vec<String>),
    /// Make waiting mails due now.
    Retry {
        /// Which.
        which: Which,
        /// Only those due before: where the part before this one ended.
        before: Option<(u64, MailId)>,
    },
    /// Its destinations, at most this many, those with the most mail first.
    Destinations {
        /// Rows at most.
        limit: usize,
    },
}

/// Mails or destinations as the control socket shows them.
pub type Answer = Vec<serde_json::Value>;

/// A transaction on its way to the disk.
#[derive(Debug)]
pub struct Committing {
    /// The connection that waits for the answer, if it is still there; none for what this server wrote
    /// itself.
    pub connection: Option<Key>,
    /// What will be ours.
    pub transaction: Arc<Transaction>,
    /// Octets of the memory budget that it holds.
    pub reserved: usize,
}

/// Whether mail is taken while the server runs (`rohrpost drain`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intake {
    /// It is.
    Open,
    /// Clients are answered 421.
    Closed,
}

/// Whether the worker takes new work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Contexts are being initialised: no traffic yet.
    Starting,
    /// Traffic.
    Open,
    /// Traffic out of the server only ([`Intake::Closed`]).
    Emptying,
    /// Stopping: what is under way is finished.
    Draining,
}

impl Mood {
    /// Whether clients are taken.
    pub fn takes(self) -> bool {
        match self {
            Mood::Open => true,
            Mood::Starting | Mood::Emptying | Mood::Draining => false,
        }
    }

    /// Whether mail is given to connections.
    pub fn delivers(self) -> bool {
        match self {
            Mood::Open | Mood::Emptying => true,
            Mood::Starting | Mood::Draining => false,
        }
    }
}

/// What the drivers of one worker share.
#[derive(Debug)]
pub struct Desk {
    /// Which worker this is.
    pub index: usize,
    /// All settings.
    pub settings: Arc<Settings>,
    /// The application log.
    pub log: Log,
    /// The numbers of all workers; this one writes its own.
    pub metrics: Arc<Metrics>,
    /// What TLS is done with.
    pub tls: Tls,
    /// Next hops that cannot do the TLS that they offer.
    pub broken_tls: BrokenTls,
    /// The plugin interface.
    pub plugins: Plugins,
    /// This worker's share of the memory budget.
    pub memory: Share,
    /// Names for new transactions.
    pub ids: Ids,
    /// Dates.
    pub wall: Wall,
    /// Where every socket is read into first; consumed before the next read.
    pub scratch: Vec<u8>,
    /// What must become durable, handed over at the end of the turn or soon after (`worker/gather.rs`).
    pub batch: Vec<Entry>,
    /// What was handed over and not answered yet.
    pub committing: NumberMap<TransactionId, Committing>,
    /// The mails of this worker.
    pub store: Store,
    /// The send log and the received log.
    pub logbook: Logbook,
    /// Attempts that ended and are not handed over yet.
    pub settlements: Settlements,
    /// Connections in the making that go on to their next host.
    pub onward: VecDeque<Journey>,
    /// Where blocking work goes.
    pub jobs: Channel<Job>,
    /// Where name servers are asked.
    pub services: Services,
    /// Who may log in, and who must.
    pub admission: Admission,
    /// Connections whose output has not been offered to their socket.
    pub dirty: Vec<Key>,
    /// Held connections with a verdict, oldest first (D-2F).
    pub resumable: VecDeque<ConnectionId>,
    /// Output that plugins sent to connections other than the one at work.
    pub sends: VecDeque<(ConnectionId, Vec<u8>)>,
    /// The context has a verdict.
    pub context_resumable: bool,
    /// The event loop of a plugin, where the reactor sleeps.
    pub foreign: Option<Foreign>,
    /// Which connection a plugin's token means.
    pub by_plugin: NumberMap<ConnectionId, Key>,
    /// Our own addresses.
    pub listeners: Arc<[SocketAddr]>,
    /// Whether new work is taken.
    pub mood: Mood,
    /// Whether the queue wants deliveries to go on; looked at once a second.
    pub delivering: bool,
    /// Whether the queue takes mail; looked at once a second, and decided at the commit.
    pub accepting: Accepting,
    /// Steps of TLS handshakes that this turn may still do, in either direction.
    shakes_left: usize,
    /// Answers of name servers to plugins, not told yet.
    pub(super) answered: VecDeque<(QueryId, QueryAnswer)>,
    timers: NumberMap<TimerId, TimerKey>,
    repeating: NumberMap<TimerId, Repeat>,
    watches: NumberMap<WatchId, WatchKey>,
    commands: Vec<Command>,
}

/// The parts of a desk that have no empty form.
#[derive(Debug)]
pub struct DeskInit {
    /// See [`Desk::index`].
    pub index: usize,
    /// See [`Desk::settings`].
    pub settings: Arc<Settings>,
    /// See [`Desk::log`].
    pub log: Log,
    /// See [`Desk::logbook`].
    pub logbook: Logbook,
    /// See [`Desk::metrics`].
    pub metrics: Arc<Metrics>,
    /// See [`Desk::tls`].
    pub tls: Tls,
    /// See [`Desk::plugins`].
    pub plugins: Plugins,
    /// See [`Desk::memory`].
    pub memory: Share,
    /// See [`Desk::ids`].
    pub ids: Ids,
    /// See [`Desk::store`].
    pub store: Store,
    /// See [`Desk::jobs`].
    pub jobs: Channel<Job>,
    /// See [`Desk::services`].
    pub services: Services,
    /// See [`Desk::admission`].
    pub admission: Admission,
    /// See [`Desk::listeners`].
    pub listeners: Arc<[SocketAddr]>,
}

/// How many steps are taken back from other threads at once.
pub(super) const POSTED_PER_LOOK: usize = 1_024;
/// Steps of TLS handshakes in one turn: with the slowest of keys that is 30 ms, after which the others
/// have their turn.
const SHAKES_MAX: usize = 40;
/// Places of a table that are worth no effort to give back.
const TABLE_KEPT: usize = 256;
/// Octets of the read buffer that all connections of a worker share.
const SCRATCH_BYTES: usize = 64 * 1024;

impl Desk {
    /// A desk with nothing on it.
    pub fn new(init: DeskInit) -> Desk {
        Desk {
            index: init.index,
            settings: init.settings,
            log: init.log,
            metrics: init.metrics,
            tls: init.tls,
            broken_tls: BrokenTls::default(),
            plugins: init.plugins,
            memory: init.memory,
            ids: init.ids,
            wall: Wall::system(),
            scratch: Vec::with_capacity(SCRATCH_BYTES),
            batch: Vec::new(),
            committing: NumberMap::default(),
            store: init.store,
            logbook: init.logbook,
            settlements: Settlements::default(),
            onward: VecDeque::new(),
            jobs: init.jobs,
            services: init.services,
            admission: init.admission,
            dirty: Vec::new(),
            resumable: VecDeque::new(),
            sends: VecDeque::new(),
            context_resumable: false,
            foreign: None,
            by_plugin: NumberMap::default(),
            listeners: init.listeners,
            mood: Mood::Starting,
            delivering: true,
            accepting: Accepting::Yes,
            shakes_left: SHAKES_MAX,
            answered: VecDeque::new(),
            timers: NumberMap::default(),
            repeating: NumberMap::default(),
            watches: NumberMap::default(),
            commands: Vec::new(),
        }
    }

    /// This worker's numbers.
    pub fn numbers(&self) -> &WorkerMetrics {
        self.metrics.worker(self.index)
    }

    /// Counts one.
    pub fn count(&self, number: Number) {
        self.numbers().add(number, 1);
    }

    /// Both clocks.
    pub fn now(&self, io: &Io) -> Now {
        Now { mono_ms: io.now_ms(), unix_ms: Wall::now_ms() }
    }

    /// Whether this turn may do another step of a TLS handshake; it counts as done.
    pub fn may_shake(&mut self) -> bool {
        let left = self.shakes_left.checked_sub(1);
        self.shakes_left = left.unwrap_or(0);
        left.is_some()
    }

    /// A turn is over.
    pub fn end_turn(&mut self) {
        self.shakes_left = SHAKES_MAX;
        self.settlements.end_turn();
    }

    /// Remembers to offer a connection's output to its socket.
    pub fn mark_dirty(&mut self, key: Key) {
        self.dirty.push(key);
    }

    /// Takes responsibility for a transaction, as soon as the queue says that it is durable.
    pub fn commit(
        &mut self,
        transaction: Transaction,
        reserved: usize,
        connection: Key,
    ) -> TransactionId {
        let id = transaction.id;
        let transaction = Arc::new(transaction);
        self.batch.push(Entry::Accept(transaction.clone()));
        let connection = Some(connection);
        self.committing.insert(id, Committing { connection, transaction, reserved });
        id
    }

    /// Hands over a transaction that this server wrote itself: a result or a notice
    /// ([`Transaction::is_internal`]). No client waits for it. One that tells of an outcome is published
    /// before that is settled, in the same turn, so that both become durable as one.
    pub fn publish(&mut self, transaction: Transaction) {
        debug_assert!(transaction.is_internal(), "clients' mail has a connection");
        let transaction = Arc::new(transaction);
        self.batch.push(Entry::Accept(transaction.clone()));
        if transaction.shelf.is_some() {
            // Nobody delivers it: it is the queue's from now.
            return;
        }
        let bytes = usize::try_from(transaction.body_bytes()).unwrap_or(usize::MAX);
        let reserved = if Memory::reserve(&mut self.memory, bytes) { bytes } else { 0 };
        let committing = Committing { connection: None, transaction, reserved };
        self.committing.insert(committing.transaction.id, committing);
    }

    /// Gives octets back to the memory budget.
    pub fn release(&mut self, bytes: usize) {
        Memory::release(&mut self.memory, bytes);
    }

    /// Applies what plugins asked for in the callback that just returned: timers and watches at
    /// once; output and verdicts wait for the verdict phase. Calls no plugin, so that there is an
    /// end to it: a watch that is refused has its last callback in the next turn.
    pub fn apply_commands(&mut self, io: &mut Io) {
        let mut commands = std::mem::take(&mut self.commands);
        self.plugins.take_commands(&mut commands);
        for command in commands.drain(..) {
            self.apply(io, command);
        }
        self.commands = commands;
    }

    /// Takes what threads of plugins handed back (D-26), and runs what they posted, some at a time: for
    /// the rest the next turn comes at once.
    pub fn take_posted(&mut self, io: &mut Io) {
        if self.plugins.cell.has_posted() {
            self.plugins.cell.apply_posted(POSTED_PER_LOOK);
            self.apply_commands(io);
        }
        if self.plugins.cell.has_posts() {
            self.run_posts(io);
        }
        if self.plugins.cell.has_posted() || self.plugins.cell.has_posts() {
            io.stay_awake();
        }
    }

    /// The output that plugins sent to `connection` in the callback that just returned.
    pub fn take_sends(&mut self, connection: ConnectionId) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.sends.retain_mut(|(to, sent)| {
            if *to == connection {
                bytes.append(sent);
            }
            *to != connection
        });
        bytes
    }

    /// A plugin's timer fired.
    pub fn on_plugin_timer(&mut self, io: &mut Io, timer: TimerId) {
        self.timers.remove(&timer);
        if let Some(repeat) = self.repeating.get_mut(&timer) {
            repeat.go_on(io.now_ms());
            self.timers.insert(timer, io.arm(repeat.due_ms, Timer::Plugin(timer)));
        }
        self.plugins.fire_timer(timer);
        self.apply_commands(io);
    }

    /// A plugin's descriptor is ready.
    pub fn on_plugin_watch(&mut self, io: &mut Io, watch: WatchId, ready: rohrpost_reactor::Ready) {
        if let rohrpost_reactor::Ready::Dead { os_error, .. } = ready {
            // D-97: the last callback, with a warning. The watch is gone from the reactor already.
            self.watches.remove(&watch);
            self.plugins.cell.remove_watch(watch, os_error);
        } else {
            let bits = ready.interest().bits();
            self.plugins.fire_watch(watch, bits);
        }
        self.apply_commands(io);
    }

    /// Gives back what tables took for a peak that is over. Called once a second; costs nothing while
    /// they are in use.
    pub fn shrink(&mut self) {
        fn spare(capacity: usize, len: usize) -> Option<usize> {
            (capacity > TABLE_KEPT && capacity / 4 > len).then_some(TABLE_KEPT.max(2 * len))
        }
        macro_rules! shrink {
            ($($table:ident),*) => {$(
                if let Some(kept) = spare(self.$table.capacity(), self.$table.len()) {
                    self.$table.shrink_to(kept);
                }
            )*};
        }
        shrink!(by_plugin, committing, timers, repeating, watches);
        shrink!(dirty, resumable, sends, answered, batch, commands, onward);
        self.store.destinations.shrink();
    }

    /// D-17: after the cleanup hooks, what is left of timers and watches goes without a word.
    pub fn drop_plugin_sources(&mut self, io: &mut Io) {
        self.plugins.cell.drop_all();
        for (_, timer) in self.timers.drain() {
            io.cancel(timer);
        }
        self.repeating.clear();
        self.answered.clear();
        for (_, watch) in self.watches.drain() {
            io.unwatch(watch);
        }
    }

    fn apply(&mut self, io: &mut Io, command: Command) {
        match command {
            Command::TimerStart { timer, after_ms } => {
                let key = io.arm(io.deadline_after(after_ms), Timer::Plugin(timer));
                self.timers.insert(timer, key);
            }
            Command::TimerRepeat { timer, after_ms, interval_ms } => {
                let due_ms = io.deadline_after(after_ms);
                self.timers.insert(timer, io.arm(due_ms, Timer::Plugin(timer)));
                self.repeating.insert(timer, Repeat { due_ms, interval_ms });
            }
            Command::TimerReset { timer, after_ms } => {
                let due_ms = io.deadline_after(after_ms);
                if let Some(&key) = self.timers.get(&timer) {
                    io.rearm(key, due_ms);
                }
                if let Some(repeat) = self.repeating.get_mut(&timer) {
                    repeat.due_ms = due_ms;
                }
            }
            Command::TimerStop { timer } => {
                self.repeating.remove(&timer);
                if let Some(key) = self.timers.remove(&timer) {
                    io.cancel(key);
                }
            }
            Command::Watch { watch, fd, interest } => self.watch(io, watch, fd, interest),
            Command::SetInterest { watch, interest } => {
                if let Some(&key) = self.watches.get(&watch) {
                    io.set_interest(key, interest_of(interest));
                }
            }
            Command::Unwatch { watch } => {
                if let Some(key) = self.watches.remove(&watch) {
                    io.unwatch(key);
                }
            }
            Command::Send { connection, bytes } => self.sends.push_back((connection, bytes)),
            Command::Resume { connection } => self.resumable.push_back(connection),
            Command::ResumeContext => self.context_resumable = true,
            Command::Resolve { query, name, kind } => self.resolve(query, &name, kind),
            Command::WaitWithin => {
                self.foreign = self.plugins.cell.foreign_loop().map(Foreign::new)
            }
        }
    }

    fn watch(
        &mut self,
        io: &mut Io,
        watch: WatchId,
        fd: std::os::fd::BorrowedFd<'static>,
        interest: u8,
    ) {
        let key = io.watch(fd, interest_of(interest), watch);
        // Each that the reactor has, abi/ has as well, and it has no more than the limit of both.
        let key = key.expect("invariant: abi/ refuses watches beyond the limit");
        self.watches.insert(watch, key);
    }
}

fn interest_of(bits: u8) -> Interest {
    Interest::from_bits(bits).expect("abi/ refuses watches without a bit")
}
