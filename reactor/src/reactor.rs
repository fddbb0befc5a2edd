//! Owns: everything a worker's loop waits for: sockets (mio), timers, watches, mail. A [`Reactor`]
//! is what handlers see while the turn runs; `turn.rs` says in which order that is.
//!
//! Must never: call a handler from here. Methods record, the turn calls.
//!
//! Diagnostics: errors of the system while making or waiting, as `io::Error`; [`WatchError`] for a
//! watch refused.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use mio::{Events, Poll, Registry, Token};

use crate::clock::Clock;
use crate::mailbox::{Mailbox, Sender, mailbox};
use crate::ready::{Readiness, ReadyQueue};
use crate::slab::Key;
use crate::turn::{Budget, Glance};
use crate::waiter::{Source, Waiter, Woken};
use crate::watch::{HostReadiness, Interest, WatchError, WatchKey, WatchSet};
use crate::wheel::{TimerKey, Wheel};

/// The waker's token in mio's poll. The number 0 is the watch set's.
pub(crate) const WAKE: Token = Key::reserved(1);

/// The bounds of a reactor.
#[derive(Clone, Debug)]
pub struct Config {
    /// How much each phase of a turn may do.
    pub budget: Budget,
    /// How many socket events one poll may collect; the rest stays with the kernel. At least 1.
    /// Default 256, as many as a turn handles, so that the queue of ready sockets stays short.
    pub events_max: usize,
    /// How many messages the mailbox holds, whose memory is taken at once. At least 1. Default
    /// 16,384.
    pub mail_max: usize,
    /// How many watches there may be. Default 65,536.
    pub watches_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { budget: Budget::default(), events_max: 256, mail_max: 16_384, watches_max: 65_536 }
    }
}

/// The event sources of one worker thread, with timer payload `T`, watch payload `W` and mail `M`.
pub struct Reactor<T, W, M> {
    pub(crate) poll: Poll,
    pub(crate) events: Events,
    pub(crate) wheel: Wheel<T>,
    pub(crate) watches: WatchSet<W>,
    pub(crate) mailbox: Mailbox<M>,
    pub(crate) ready: ReadyQueue,
    pub(crate) clock: Box<dyn Clock + Send>,
    pub(crate) now_ms: u64,
    pub(crate) budget: Budget,
    /// Whether the next poll must not wait although no queue here says so.
    pub(crate) awake: bool,
    pub(crate) stopped: bool,
    pub(crate) glance: Glance,
    sender: Sender<M>,
}

impl<T, W, M> fmt::Debug for Reactor<T, W, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reactor")
            .field("now_ms", &self.now_ms)
            .field("timers", &self.wheel.len())
            .field("ready", &self.ready.len())
            .field("mail", &self.mailbox)
            .field("stopped", &self.stopped)
            .finish_non_exhaustive()
    }
}

impl<T, W: Copy, M> Reactor<T, W, M> {
    /// A reactor that waits for nothing yet. Its time is the clock's.
    pub fn new(config: Config, clock: impl Clock + Send + 'static) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (sender, mailbox) = mailbox(poll.registry(), WAKE, config.mail_max)?;
        let now_ms = clock.now_ms();
        Ok(Reactor {
            poll,
            events: Events::with_capacity(config.events_max.max(1)),
            wheel: Wheel::new(now_ms),
            watches: WatchSet::new(config.watches_max),
            mailbox,
            ready: ReadyQueue::default(),
            clock: Box::new(clock),
            now_ms,
            budget: config.budget,
            awake: false,
            stopped: false,
            glance: Glance::default(),
            sender,
        })
    }

    /// The time of this turn: what the clock said after the poll. All that happens in a turn
    /// happens at this time.
    pub const fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Where sockets are registered, edge-triggered, under tokens made from a [`Key`]. Only the
    /// caller's own sockets belong here; descriptors of others are watched.
    pub fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    /// The deadline for something that shall take at least `delay_ms` from now: 0 is the next turn
    /// (D-92), else one tick is added, because the clock rounds down and a timer must not be early
    /// (D-93).
    pub const fn deadline_after(&self, delay_ms: u64) -> u64 {
        match delay_ms {
            0 => self.now_ms,
            delay_ms => self.now_ms.saturating_add(delay_ms).saturating_add(1),
        }
    }

    /// Arms a timer; see [`Wheel::arm`]. One whose deadline has passed fires in the next turn.
    pub fn arm(&mut self, deadline_ms: u64, timer: T) -> TimerKey {
        self.wheel.arm(deadline_ms, timer)
    }

    /// Gives a timer that has not fired a new deadline; `false` if it fired or was cancelled
    /// (D-90). A timer that is due in this turn and whose callback has not run counts as not fired,
    /// and waits for its new deadline.
    pub fn rearm(&mut self, timer: TimerKey, deadline_ms: u64) -> bool {
        self.wheel.rearm(timer, deadline_ms)
    }

    /// Takes back a timer that has not fired; `None` if it fired or was cancelled (D-90). Its
    /// callback does not run any more, even if it is due in this turn.
    pub fn cancel(&mut self, timer: TimerKey) -> Option<T> {
        self.wheel.cancel(timer)
    }

    /// Watches a descriptor of somebody else, level-triggered; see [`WatchSet::watch`].
    pub fn watch(
        &mut self,
        fd: BorrowedFd<'static>,
        interest: Interest,
        payload: W,
    ) -> Result<WatchKey, WatchError> {
        self.watches.watch(fd, interest, payload)
    }

    /// Gives a watch another interest; see [`WatchSet::set_interest`].
    pub fn set_interest(&mut self, watch: WatchKey, interest: Interest) -> bool {
        self.watches.set_interest(watch, interest)
    }

    /// Takes a watch back; `None` if the key is stale. Its callback does not run any more (D-99).
    pub fn unwatch(&mut self, watch: WatchKey) -> Option<W> {
        self.watches.unwatch(watch)
    }

    /// Asks for a call to [`crate::Handler::on_socket`] in the next turn, which then does not wait:
    /// for a handler that stops reading before the socket would block. A token that waits for its
    /// call already gets one call for both reasons, when its place comes.
    pub fn again(&mut self, token: Token) {
        assert!(Key::is_key(token), "invariant: reserved tokens name no socket");
        self.ready.push(token, Readiness::AGAIN);
    }

    /// Keeps the next poll from waiting, for a handler that leaves work behind on purpose.
    pub const fn stay_awake(&mut self) {
        self.awake = true;
    }

    /// A sender to this reactor's mailbox, for any thread.
    pub fn sender(&self) -> Sender<M> {
        self.sender.clone()
    }

    /// Ends [`Reactor::run`] after this turn.
    pub const fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether [`Reactor::stop`] was called.
    pub const fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// When the loop would wake for a timer, at the latest; see [`Wheel::next_deadline`]. For whoever
    /// drives it by a manual clock.
    pub fn next_deadline(&self) -> Option<u64> {
        self.wheel.next_deadline()
    }

    /// How many timers are armed.
    pub const fn timers(&self) -> usize {
        self.wheel.len()
    }

    /// The watches, to be looked at.
    pub const fn watches(&self) -> &WatchSet<W> {
        &self.watches
    }

    /// The mailbox, to be looked at.
    pub const fn mailbox(&self) -> &Mailbox<M> {
        &self.mailbox
    }

    /// Waits for any source, at most for `timeout` (for ever with `None`), and leaves socket events in
    /// `events`.
    ///
    /// This is the one place where the thread may sleep, but for [`Reactor::wait_within`]. Sockets wait
    /// in mio's poll; as long as there are watches, in their set, which holds mio's poll as one member.
    pub(crate) fn wait_for_events(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.watches.is_empty() {
            true => self.poll_sockets(timeout),
            false => self.wait_in_set(timeout),
        }
    }

    /// The same, asleep in the loop of somebody else.
    pub(crate) fn wait_within(
        &mut self,
        waiter: &mut dyn Waiter,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        // Once there is a set it stays the source, with watches or without: then its descriptor is
        // registered over there once.
        let source = match self.watches.fd() {
            Some(fd) => Source { fd, generation: self.watches.rebuilds() + 1 },
            None => Source { fd: self.poll.registry().as_fd(), generation: 0 },
        };
        let woken = waiter.wait(source, timeout)?;
        // What was left over in the set's queue is called only if it is ready still.
        if woken == Woken::Otherwise && !self.watches.has_ready() {
            self.events.clear();
            return Ok(());
        }
        match self.watches.fd() {
            // In there may be what belongs to nobody, and would wake for ever.
            Some(_) => self.wait_in_set(Some(Duration::ZERO)),
            None => self.poll_sockets(Some(Duration::ZERO)),
        }
    }

    fn wait_in_set(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let host = self.poll.registry().as_fd();
        match self.watches.wait(timeout, Some(host))? {
            HostReadiness::Ready => self.poll_sockets(Some(Duration::ZERO)),
            HostReadiness::Idle => {
                self.events.clear();
                Ok(())
            }
        }
    }

    fn poll_sockets(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, timeout) {
            // A signal ends the wait as a timeout does.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            outcome => outcome,
        }
    }
}
