//! An event loop for one thread per processor: a turn in a fixed, written order, with a limit on
//! everything it may do.
//!
//! | module | owns |
//! |---|---|
//! | `turn` | the order of a turn: [`Handler`], [`Budget`], [`Pending`] |
//! | `reactor` | the event sources of a worker, as handlers see them: [`Reactor`], [`Config`] |
//! | `ready` | which sockets have something to do: [`Readiness`] |
//! | `number` | maps by numbers that no peer chose: [`NumberMap`] |
//! | `slab` | values under keys that are never mistaken for one another: [`Slab`], [`Key`] |
//! | `wheel` | timers by deadline: [`Wheel`], [`TimerKey`] |
//! | `watch` | descriptors of others, level-triggered: [`WatchSet`], [`Interest`], [`Ready`] |
//! | `waiter` | sleeping in the event loop of somebody else: [`Waiter`], [`Source`] |
//! | `mailbox` | mail from other threads: [`Sender`], [`Mailbox`] |
//! | `clock` | where time comes from: [`Clock`], [`SystemClock`], [`ManualClock`] |
//! | `worker` | threads, pinned: [`spawn`], [`Pin`] |
//!
//! A handler implements [`Handler`]; [`Reactor::run`] drives it. `examples/echo.rs` is a whole
//! server.
//!
//! # Invariants
//! 1. The phases of a turn run in the order that the `turn` module writes down, each within its
//!    [`Budget`]. What exceeds it keeps its place and keeps the next poll from waiting.
//!    (`phases_run_in_the_written_order`, `what_exceeds_a_budget_comes_in_the_next_turn_in_order`)
//! 2. The thread sleeps only when every queue of the turn is empty and the handler has nothing
//!    [`Pending`]. (`the_loop_does_not_sleep_on_work`)
//! 3. No callback runs from inside a data structure: an item is taken out, then its callback runs.
//!    (`what_a_callback_starts_waits_for_the_next_turn`)
//! 4. A timer or watch that was taken back is never called, even if it was found due or ready in
//!    the same turn. (`d_90_…` and `d_99_…` of the turn)
//! 5. Time is read once a turn, after the poll; before a sleep that a timer bounds it is looked at
//!    once more. (`all_of_a_turn_sees_one_time`, `a_sleep_ends_in_time_for_the_next_timer`)
//! 6. The sockets in mio's poll are the caller's own. Descriptors of others are in another set,
//!    where a stale number can do no harm. (`tests/watch/closed.rs`)
//! 7. A reactor that sleeps in a foreign loop is woken by the same sources, and asks none twice.
//!    (`tests/suite/waiter.rs`)
//! 8. No turn allocates once the queues have reached their size, and no peak keeps its memory for
//!    ever: timers and slabs live in pages that are freed.
//!
//! Linux only: epoll and eventfd. Keys need 64-bit tokens.
//!
//! # Diagnostics
//! Nothing is logged here. Errors of the system are returned, misuse of stale keys does nothing and
//! says so by its return value, a broken invariant panics and names itself.
#![forbid(unsafe_code)]

/// The page that introduces the crate; here so that its code is compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

mod clock;
mod mailbox;
mod number;
mod reactor;
mod ready;
mod slab;
mod turn;
mod waiter;
mod watch;
mod wheel;
mod worker;

pub use clock::{Clock, ManualClock, SystemClock};
pub use mailbox::{Mailbox, Rest, SendError, Sender, mailbox};
pub use number::{NumberHasher, NumberMap};
pub use reactor::{Config, Reactor};
pub use ready::Readiness;
pub use slab::{Key, Slab};
pub use turn::{Budget, Handler, Io, Pending};
pub use waiter::{Source, Waiter, Woken};
pub use watch::{HostReadiness, Interest, Ready, WatchError, WatchKey, WatchSet};
pub use wheel::{DELAY_MS_MAX, TimerKey, Wheel};
pub use worker::{Pin, processors, spawn};
