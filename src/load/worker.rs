//! The connections of one thread of a load, on a reactor of its own.
//!
//! A place is what a connection has: where one ends while there is more to send, the next is opened in it.
//! A place in which connections fail one after the other, without a reply to any message, is given up.
//!
//! Must never: wait for another thread, or keep a place busy with a server that is not there.
//!
//! **Diagnostics**: the first failure in words, in the tally.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Token};
use rohrpost_reactor::{
    Handler, Key, Pending, Reactor, Readiness, Ready, Sender, Slab, TimerKey, WatchKey,
};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use rustls::ClientConfig;

use super::connection::{Connection, End, Message};
use super::letter::Dice;
use super::pace::Pace;
use super::plan::Plan;
use super::tally::Tally;
use crate::cli::Extent;
use crate::net::transport::Transport;

/// The reactor of a thread.
pub(super) type Io = Reactor<LoadTimer, (), Halt>;

/// Connections of a thread that the system may be making at the same time: more would overflow the queue
/// of a server that accepts slowly, and wait a second to be tried again.
const CONNECTING_MAX: usize = 64;
/// Failures in a row after which a place is given up.
const FAILURES_MAX: u32 = 3;
/// How long a place rests after its second failure in a row; once more so long after each further one.
const REST_MS: u64 = 100;
/// How long messages that are under way may take when the load is told to end.
const GRACE_MS: u64 = 2_000;
/// Octets of the read buffer that all connections of a thread share.
const SCRATCH_BYTES: usize = 64 * 1024;

/// The load is to end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halt;

/// What a timer of a load is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum LoadTimer {
    /// A connection may have waited too long.
    Deadline(Key),
    /// A place has rested.
    Open(Place),
    /// The time of the load is over.
    End,
    /// The grace for messages under way is over.
    Last,
}

/// A place without a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// How often connections failed in it, one after the other, without a reply to a message.
    failures: u32,
    /// Whether none of them was ever ready for mail.
    is_first: bool,
}

/// What connections need of their thread.
#[derive(Debug)]
pub(super) struct Bench {
    pub(super) plan: Arc<Plan>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) tally: Tally,
    pub(super) scratch: Vec<u8>,
    /// Connections with something to write.
    pub(super) dirty: VecDeque<Key>,
    /// Connections that wait for a message to be due; some may be gone.
    pub(super) idle: VecDeque<Key>,
    pace: Option<Pace>,
    dice: Dice,
    connecting: usize,
    /// Places that were not ready yet; an open loop begins when there are none.
    unready: u32,
    stopping: bool,
}

impl Bench {
    /// The system has made a connection.
    pub(super) fn on_connected(&mut self) {
        self.connecting -= 1;
        self.tally.connections += 1;
    }

    /// A server is ready for mail; `is_first` if it is for the first time in this place.
    pub(super) fn on_greeted(&mut self, is_first: bool) {
        self.unready -= u32::from(is_first);
    }

    /// A connection is open and only to be held.
    pub(super) fn on_held(&mut self) {
        if self.plan.hold() {
            let (count, pid) = (self.plan.connections, std::process::id());
            let mut out = io::stdout().lock();
            // Whoever closed it does not wait for this.
            let _ = writeln!(out, "ready connections={count} pid={pid}").and_then(|()| out.flush());
        }
    }

    /// Whether there is nothing to send any more.
    pub(super) fn is_over(&self) -> bool {
        self.stopping
            || match &self.pace {
                Some(pace) => pace.left() == 0,
                None => !self.plan.has_more(),
            }
    }

    /// The next message, if there is one and it is due.
    pub(super) fn next_message(&mut self, now: Instant) -> Option<Message> {
        let (number, due) = match &mut self.pace {
            Some(pace) => pace.take(now).map(|(number, due)| (number, Some(due)))?,
            None => (self.plan.draw()?, None),
        };
        Some(Message { number, octets: self.dice.octets(&self.plan.sizes), due })
    }
}

/// An alarm finer than the reactor's milliseconds, for messages that are due.
#[derive(Debug)]
struct Alarm {
    timer: OwnedFd,
    set_for: Option<Instant>,
}

impl Alarm {
    fn new(key: Key, io: &Io) -> io::Result<Alarm> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let mut source = SourceFd(&timer.as_raw_fd());
        io.registry().register(&mut source, Token::from(key), Interest::READABLE)?;
        Ok(Alarm { timer, set_for: None })
    }

    /// Rings at `due`. Setting it again takes back what it has rung, so nobody has to read it.
    fn set(&mut self, due: Instant, now: Instant) -> io::Result<()> {
        if self.set_for == Some(due) {
            return Ok(());
        }
        self.set_for = Some(due);
        // 0 would switch it off.
        let wait = due.saturating_duration_since(now).max(Duration::from_nanos(1));
        let spec = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec {
                tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: wait.subsec_nanos().into(),
            },
        };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

/// One thread's part of a load.
#[derive(Debug)]
pub(super) struct Worker {
    bench: Bench,
    /// The first place is the alarm's, so that its key is no connection's.
    connections: Slab<Option<Connection>>,
    alarm: Option<(Key, Alarm)>,
    to_open: VecDeque<Place>,
    resting: u32,
    /// All threads, this one included.
    threads: Vec<Sender<Halt>>,
}

impl Worker {
    /// The worker of thread `index`; `threads` is where all are told to end.
    pub(super) fn new(
        plan: Arc<Plan>,
        index: u32,
        threads: Vec<Sender<Halt>>,
        io: &mut Io,
    ) -> io::Result<Worker> {
        let mut connections = Slab::new();
        let key = connections.insert(None);
        let pace = plan.pace(index);
        let alarm = pace.as_ref().map(|_| Alarm::new(key, io)).transpose()?;
        let share = plan.share(index);
        // The first connections are made in the first turn, which no event begins.
        io.stay_awake();
        let places = (0..share).map(|_| Place { failures: 0, is_first: true });
        let mut tally = Tally::default();
        if pace.is_none() {
            tally.begun = Some(Instant::now());
            arm_end(plan.extent, io);
        }
        let tls = plan.tls().map_err(io::Error::other)?;
        let bench = Bench {
            tls,
            tally,
            scratch: Vec::with_capacity(SCRATCH_BYTES),
            dirty: VecDeque::new(),
            idle: VecDeque::new(),
            pace,
            dice: Dice::new(index),
            connecting: 0,
            unready: share,
            stopping: false,
            plan,
        };
        let alarm = alarm.map(|alarm| (key, alarm));
        let to_open = places.collect();
        Ok(Worker { bench, connections, alarm, to_open, resting: 0, threads })
    }

    /// What was counted, when the loop has ended.
    pub(super) fn into_tally(self) -> Tally {
        let mut tally = self.bench.tally;
        let under_way = self.connections.iter().filter_map(|(_, place)| place.as_ref());
        tally.lost += under_way.filter(|connection| connection.has_message()).count() as u64;
        if let (Some(pace), Extent::Time(_)) = (&self.bench.pace, self.bench.plan.extent) {
            tally.missed = pace.left();
        }
        tally
    }

    /// Opens what may be opened now.
    fn open(&mut self, io: &mut Io) {
        while self.bench.connecting < CONNECTING_MAX
            && let Some(place) = self.to_open.pop_front()
        {
            if self.bench.is_over() && !self.bench.plan.idle {
                self.give_up(place);
                continue;
            }
            let key = self.connections.insert(None);
            let opened = TcpStream::connect(self.bench.plan.address)
                .and_then(|stream| Transport::register(stream, io.registry(), Token::from(key)));
            match opened {
                Ok(transport) => {
                    self.bench.connecting += 1;
                    let deadline_ms = io.deadline_after(self.bench.plan.timeout_ms);
                    let deadline = io.arm(deadline_ms, LoadTimer::Deadline(key));
                    let Place { failures, is_first } = place;
                    let connection =
                        Connection::new(key, transport, deadline, io.now_ms(), failures, is_first);
                    if let Some(place) = self.connections.get_mut(key) {
                        *place = Some(connection);
                    }
                }
                Err(error) => {
                    self.connections.remove(key);
                    self.on_failed(place, format!("cannot connect: {error}"), io);
                }
            }
        }
    }

    fn with(
        &mut self,
        key: Key,
        io: &mut Io,
        work: impl FnOnce(&mut Connection, &mut Bench, &mut Io) -> Result<(), End>,
    ) {
        if let Some(Some(connection)) = self.connections.get_mut(key)
            && let Err(end) = work(connection, &mut self.bench, io)
        {
            self.on_end(key, end, io);
        }
    }

    fn on_end(&mut self, key: Key, end: End, io: &mut Io) {
        let Some(Some(mut connection)) = self.connections.remove(key) else {
            return;
        };
        io.cancel(connection.deadline);
        self.bench.connecting -= usize::from(connection.is_connecting());
        self.bench.tally.lost += u64::from(connection.has_message());
        connection.close();
        let Connection { failures, is_first, .. } = connection;
        let place = Place { failures, is_first };
        match end {
            End::Parted if self.bench.is_over() => self.give_up(place),
            End::Parted => self.to_open.push_back(place),
            End::Failed(why) => self.on_failed(place, why, io),
            End::Useless(why) => self.on_useless(why),
        }
    }

    fn on_failed(&mut self, place: Place, why: String, io: &mut Io) {
        let failures = place.failures + 1;
        let Place { is_first, .. } = place;
        let place = Place { failures, is_first };
        let held = self.bench.plan.idle && !is_first;
        if self.bench.plan.idle && failures == FAILURES_MAX {
            return self.on_useless(why);
        }
        self.bench.tally.failed(why);
        if held || failures == FAILURES_MAX || self.bench.stopping {
            self.give_up(place);
        } else if failures == 1 {
            self.to_open.push_back(place);
        } else {
            self.resting += 1;
            let rest_ms = REST_MS * u64::from(failures - 1);
            io.arm(io.deadline_after(rest_ms), LoadTimer::Open(place));
        }
    }

    /// What is wanted cannot be had from this server, so that no thread needs to go on.
    fn on_useless(&mut self, why: String) {
        self.bench.tally.failed_connections += 1;
        self.bench.tally.failure = Some(why);
        halt(&self.threads);
    }

    fn give_up(&mut self, place: Place) {
        self.bench.unready -= u32::from(place.is_first);
    }

    /// Nothing new is begun.
    fn stop(&mut self, io: &mut Io) {
        self.bench.stopping = true;
        self.to_open.clear();
        self.resting = 0;
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.with(key, io, |connection, bench, _| connection.on_stop(bench));
        }
    }

    /// Gives out what is due, and sets the alarm for what comes next.
    fn keep_pace(&mut self, io: &mut Io) {
        let (Some(pace), 0) = (&mut self.bench.pace, self.bench.unready) else {
            return;
        };
        let now = Instant::now();
        if self.bench.tally.begun.is_none() {
            self.bench.tally.begun = Some(now);
            pace.start(now);
            arm_end(self.bench.plan.extent, io);
        }
        while self.due().is_some_and(|due| due <= now)
            && let Some(key) = self.bench.idle.pop_front()
        {
            self.with(key, io, |connection, bench, _| {
                if connection.is_idle() {
                    connection.go_on(now, bench);
                }
                Ok(())
            });
        }
        match self.due() {
            Some(due) if due > now => {
                if let Some((_, alarm)) = &mut self.alarm
                    && let Err(error) = alarm.set(due, now)
                {
                    self.on_useless(format!("the alarm cannot be set: {error}"));
                }
            }
            // The next connection that is free takes it.
            Some(_) => {}
            None => self.dismiss(io),
        }
    }

    fn due(&self) -> Option<Instant> {
        self.bench.pace.as_ref().filter(|_| !self.bench.stopping).and_then(Pace::due)
    }

    /// Sends away whoever waits, as there is nothing left to send.
    fn dismiss(&mut self, io: &mut Io) {
        while let Some(key) = self.bench.idle.pop_front() {
            self.with(key, io, |connection, bench, _| {
                if connection.is_idle() {
                    connection.leave(bench);
                }
                Ok(())
            });
        }
    }
}

/// Tells all threads to end.
pub(super) fn halt(threads: &[Sender<Halt>]) {
    for thread in threads {
        // One that is gone, or has its mailbox full of such news, needs no more.
        let _ = thread.send(Halt);
    }
}

fn arm_end(extent: Extent, io: &mut Io) {
    if let Extent::Time(time) = extent {
        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        io.arm(io.deadline_after(time_ms), LoadTimer::End);
    }
}

impl Handler for Worker {
    type Timer = LoadTimer;
    type Watch = ();
    type Mail = Halt;

    fn on_timer(&mut self, io: &mut Io, _: TimerKey, timer: LoadTimer) {
        match timer {
            LoadTimer::Deadline(key) => {
                self.with(key, io, |connection, bench, io| {
                    let next_ms = connection.on_deadline(io.now_ms(), bench.plan.timeout_ms)?;
                    connection.deadline = io.arm(next_ms, LoadTimer::Deadline(key));
                    Ok(())
                });
            }
            LoadTimer::Open(_) if self.bench.stopping => {}
            LoadTimer::Open(place) => {
                self.resting -= 1;
                self.to_open.push_back(place);
            }
            LoadTimer::End => self.stop(io),
            LoadTimer::Last => io.stop(),
        }
    }

    fn on_watch(&mut self, _: &mut Io, _: WatchKey, (): (), _: Ready) {}

    fn on_socket(&mut self, io: &mut Io, token: Token, ready: Readiness) {
        // That the alarm rang is enough: what is due is given out behind all sockets.
        self.with(Key::from(token), io, |connection, bench, io| {
            connection.on_ready(ready, bench, io)
        });
    }

    fn on_mail(&mut self, io: &mut Io, Halt: Halt) {
        if self.bench.plan.idle {
            return io.stop();
        }
        self.stop(io);
        io.arm(io.deadline_after(GRACE_MS), LoadTimer::Last);
    }

    fn resume(&mut self, _: &mut Io) -> bool {
        false
    }

    fn commit(&mut self, io: &mut Io) {
        self.keep_pace(io);
        self.open(io);
    }

    fn flush(&mut self, io: &mut Io) {
        while let Some(key) = self.bench.dirty.pop_front() {
            self.with(key, io, |connection, bench, io| {
                connection.flush(bench, io);
                Ok(())
            });
        }
        let open = self.connections.len() - 1;
        if open == 0 && self.to_open.is_empty() && self.resting == 0 {
            io.stop();
        }
    }

    fn pending(&self) -> Pending {
        Pending { unflushed: self.bench.dirty.len(), ..Pending::NONE }
    }
}
