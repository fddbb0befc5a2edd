//! Owns: the order of one turn, and how much each phase of it may do.
//!
//! ```text
//! poll      without waiting while any queue of the turn is non-empty, else until the next timer,
//!           after a glance whether that is needed where a glance has paid;
//!           within a foreign loop where the handler has one
//! clock     read once
//! waited    what callbacks of that loop left behind
//! timers    those due are moved out first, then run
//! watches   descriptors of others
//! sockets
//! mail
//! verdicts  until none is left, or the budget is used up
//! commit    what must become durable is handed over, or kept for the next turn, which then comes at once
//! flush     output
//! ```
//!
//! What exceeds a budget stays queued, in its place, and keeps the next poll from waiting: so
//! nothing starves.
//!
//! Must never:
//! - sleep on work: before each sleep the handler is asked what is pending, and anything but
//!   nothing is a bug;
//! - call a handler while a queue is being walked: each item is taken out before its callback runs,
//!   so a callback may arm, cancel, watch, unwatch and send as it likes.
//!
//! Diagnostics: system errors of the poll, which end the loop. A handler with something pending
//! before a sleep panics, and the message names the invariant.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use mio::Token;

use crate::mailbox::Rest;
use crate::reactor::{Reactor, WAKE};
use crate::ready::Readiness;
use crate::waiter::Waiter;
use crate::watch::{Ready, WatchKey};
use crate::wheel::TimerKey;

/// How many callbacks each phase of a turn may run. Zero counts as one, since a phase that never
/// runs would keep the loop awake for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Timers that are due. Default 1,024: callbacks of plugins and time-outs, mostly short.
    pub timers: usize,
    /// Watches that are ready. Default 256: each may read and parse.
    pub watches: usize,
    /// Sockets that are ready. Default 256: each may read and parse.
    pub sockets: usize,
    /// Messages from other threads. Default 1,024: completions, mostly short.
    pub mail: usize,
    /// Verdicts to resume. Default 1,024: as many as the phases before can leave.
    pub verdicts: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Budget { timers: 1_024, watches: 256, sockets: 256, mail: 1_024, verdicts: 1_024 }
    }
}

/// What a handler has left to do, asked before a sleep. All must be zero then: each of these is
/// finished by a phase of the turn, so one that is left was recorded where no phase comes by any
/// more, and would wait for an unrelated event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Verdicts recorded and not resumed.
    pub verdicts: usize,
    /// Commands queued by callbacks and not applied.
    pub commands: usize,
    /// Connections with output that was not offered to their socket.
    pub unflushed: usize,
    /// Durable records that were not handed to commit.
    pub unhanded: usize,
}

impl Pending {
    /// Nothing is left to do.
    pub const NONE: Self = Pending { verdicts: 0, commands: 0, unflushed: 0, unhanded: 0 };
}

/// What runs in the turn. One value handles everything of one worker.
///
/// Callbacks get the reactor to arm, watch, send and so on. None of them may block.
pub trait Handler {
    /// What a timer carries.
    type Timer;
    /// What a watch carries; small, it is copied out for each callback.
    type Watch: Copy;
    /// What other threads send.
    type Mail;

    /// A timer fired. Its key is stale: stopping it in here does nothing (D-91).
    fn on_timer(&mut self, io: &mut Io<Self>, timer: TimerKey, payload: Self::Timer);

    /// A watched descriptor is ready, or its watch died.
    fn on_watch(&mut self, io: &mut Io<Self>, watch: WatchKey, payload: Self::Watch, ready: Ready);

    /// Something happened to a socket, or [`Reactor::again`] was called for it. The socket may be
    /// gone by now: look the token up, do nothing if it is stale.
    fn on_socket(&mut self, io: &mut Io<Self>, token: Token, readiness: Readiness);

    /// Another thread sent something.
    fn on_mail(&mut self, io: &mut Io<Self>, mail: Self::Mail);

    /// Resumes what one pending verdict has released; `false` if there was none.
    fn resume(&mut self, io: &mut Io<Self>) -> bool;

    /// Hands over what must become durable. What it keeps for another turn is [`Pending::unhanded`]: it must
    /// then have that turn come at once ([`Reactor::stay_awake`]), for nobody sleeps on it.
    fn commit(&mut self, io: &mut Io<Self>);

    /// Writes output.
    fn flush(&mut self, io: &mut Io<Self>);

    /// What is left to do; asked before each sleep.
    fn pending(&self) -> Pending;

    /// Another event loop to wait in, this time. Without one the reactor waits by itself.
    fn waiter(&mut self) -> Option<&mut dyn Waiter> {
        None
    }

    /// The wait in [`Handler::waiter`] is over, whose callbacks may have left work behind. Not called
    /// where there is none.
    fn on_waited(&mut self, _io: &mut Io<Self>) {}
}

/// The reactor as a handler of this kind sees it.
pub type Io<H> = Reactor<<H as Handler>::Timer, <H as Handler>::Watch, <H as Handler>::Mail>;

/// Whether to look, without waiting, before a sleep. A look that finds nothing is a system call too
/// many, so each of those halves how often there is one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Glance {
    /// How many sleeps to go to without a look.
    skip: u32,
    /// How many it were after the last look.
    skipped: u32,
}

impl Glance {
    /// A load that comes back is noticed after so many sleeps, and a look without avail costs one call
    /// in so many.
    const SKIPPED_MAX: u32 = 31;

    fn is_due(&mut self) -> bool {
        let due = self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        due
    }

    fn learn(&mut self, seen: bool) {
        self.skipped = if seen { 0 } else { (2 * self.skipped + 1).min(Self::SKIPPED_MAX) };
        self.skip = self.skipped;
    }
}

/// Whether a turn may sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Sleep,
    Hurry,
}

impl<T, W: Copy, M> Reactor<T, W, M> {
    /// Runs turns until [`Reactor::stop`], the stopping turn to its end.
    pub fn run<H>(&mut self, handler: &mut H) -> io::Result<()>
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        while !self.stopped {
            self.turn(handler)?;
        }
        Ok(())
    }

    /// Runs one turn, which may begin with a sleep.
    ///
    /// # Panics
    /// If the handler has something pending when the turn would sleep.
    pub fn turn<H>(&mut self, handler: &mut H) -> io::Result<()>
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        self.one_turn(handler, Patience::Sleep)
    }

    /// Runs one turn without sleeping, whatever there is to do. Everything else is as in
    /// [`Reactor::turn`], so this is how a test drives a handler by a manual clock.
    ///
    /// # Panics
    /// As [`Reactor::turn`].
    pub fn turn_now<H>(&mut self, handler: &mut H) -> io::Result<()>
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        self.one_turn(handler, Patience::Hurry)
    }

    fn one_turn<H>(&mut self, handler: &mut H, patience: Patience) -> io::Result<()>
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        if self.poll_phase(handler, patience)? {
            handler.on_waited(self);
        }
        let sockets = self.ready.len().min(self.budget.sockets.max(1));
        self.timer_phase(handler);
        self.watch_phase(handler);
        self.socket_phase(handler, sockets);
        self.mail_phase(handler);
        self.verdict_phase(handler);
        handler.commit(self);
        handler.flush(self);
        Ok(())
    }

    /// Poll and clock: afterwards the queues hold what this turn may handle. Whether a foreign loop ran.
    fn poll_phase<H>(&mut self, handler: &mut H, patience: Patience) -> io::Result<bool>
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        self.watches.apply(Some(self.poll.registry().as_fd()));
        let has_work = self.has_work();
        let patience = if has_work { Patience::Hurry } else { patience };
        if !has_work {
            // Asked for first, whatever comes of it: nobody sleeps on work, nor glances at it.
            let pending = handler.pending();
            assert!(
                pending == Pending::NONE,
                "invariant: nothing is pending when the loop goes to sleep, but {pending:?}"
            );
        }
        self.awake = false;
        let waited = match handler.waiter() {
            None if patience == Patience::Sleep && self.glance_pays()? => false,
            None => {
                self.rest(patience, |reactor, timeout| reactor.wait_for_events(timeout))?;
                false
            }
            Some(waiter) => {
                self.rest(patience, |reactor, timeout| reactor.wait_within(waiter, timeout))?;
                true
            }
        };
        for event in &self.events {
            if event.token() != WAKE {
                self.ready.push(event.token(), Readiness::from(event));
            }
        }
        self.now_ms = self.clock.now_ms().max(self.now_ms);
        self.wheel.advance(self.now_ms);
        Ok(waited)
    }

    /// Whether a queue of the turn is non-empty, so that the poll must not wait.
    fn has_work(&self) -> bool {
        self.awake
            || self.wheel.has_due()
            || self.watches.has_ready()
            || !self.ready.is_empty()
            || !self.mailbox.is_empty()
    }

    /// Looks, without waiting, where that has paid: under load something is ready already, and then nobody
    /// has to be told of a sleep, nor the time to be known, nor an alarm to be set in the kernel.
    fn glance_pays(&mut self) -> io::Result<bool> {
        if !self.glance.is_due() {
            return Ok(false);
        }
        self.wait_for_events(Some(Duration::ZERO))?;
        let seen = !self.events.is_empty() || self.watches.has_ready();
        self.glance.learn(seen);
        Ok(seen)
    }

    /// Waits in the kernel, with `wait`, until something is ready or the next timer is due.
    fn rest(
        &mut self,
        patience: Patience,
        wait: impl FnOnce(&mut Self, Option<Duration>) -> io::Result<()>,
    ) -> io::Result<()> {
        if patience == Patience::Hurry || self.mailbox.lie_down() == Rest::Disturbed {
            return wait(self, Some(Duration::ZERO));
        }
        // The turn may have taken a while. This second look at the clock is the price of timers
        // that are not late by as much, and is paid only before a sleep.
        let left_ms = |deadline_ms: u64| deadline_ms.saturating_sub(self.clock.now_ms());
        let timeout = self.wheel.next_deadline().map(left_ms).map(Duration::from_millis);
        let waited = wait(self, timeout);
        self.mailbox.get_up();
        waited
    }

    fn timer_phase<H>(&mut self, handler: &mut H)
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        for _ in 0..self.budget.timers.max(1) {
            let Some((key, timer)) = self.wheel.take_due() else {
                break;
            };
            handler.on_timer(self, key, timer);
        }
    }

    fn watch_phase<H>(&mut self, handler: &mut H)
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        for _ in 0..self.budget.watches.max(1) {
            let Some((key, payload, ready)) = self.watches.take_ready() else {
                break;
            };
            handler.on_watch(self, key, payload, ready);
        }
    }

    /// Handles the sockets that were ready after the poll, and none that a callback put on the
    /// queue since.
    fn socket_phase<H>(&mut self, handler: &mut H, count: usize)
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        for _ in 0..count {
            let Some((token, readiness)) = self.ready.pop() else {
                break;
            };
            handler.on_socket(self, token, readiness);
        }
    }

    /// Handles the mail that was there when the phase began; more comes while it runs.
    fn mail_phase<H>(&mut self, handler: &mut H)
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        for _ in 0..self.mailbox.len().min(self.budget.mail.max(1)) {
            let Some(mail) = self.mailbox.take() else {
                break;
            };
            handler.on_mail(self, mail);
        }
    }

    fn verdict_phase<H>(&mut self, handler: &mut H)
    where
        H: Handler<Timer = T, Watch = W, Mail = M>,
    {
        for _ in 0..self.budget.verdicts.max(1) {
            if !handler.resume(self) {
                return;
            }
        }
        // The budget is used up; whether verdicts are left shows in the next turn, which must come
        // at once.
        self.awake = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the next sleeps are preceded by a look, each of which finds something or nothing.
    fn looks(glance: &mut Glance, sleeps: u32, found: bool) -> u32 {
        let mut looks = 0;
        for _ in 0..sleeps {
            if glance.is_due() {
                looks += 1;
                glance.learn(found);
            }
        }
        looks
    }

    #[test]
    fn looks_that_find_nothing_become_rare_and_one_that_finds_something_brings_them_back() {
        let mut glance = Glance::default();
        assert_eq!(looks(&mut glance, 10, true), 10);
        assert_eq!(looks(&mut glance, 64, false), 6, "after 0, 1, 3, 7, 15 and 31 sleeps");
        assert_eq!(looks(&mut glance, 320, false), 10, "one in so many for ever after");
        assert!((1..=32).any(|_| looks(&mut glance, 1, true) == 1));
        assert_eq!(looks(&mut glance, 10, true), 10);
    }
}
