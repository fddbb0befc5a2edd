//! An event loop for one thread per processor: a turn in a fixed, written order, with a limit on
//! everything it may do.
//!
//! | module | owns |
//! |---|---|
//! | `slab` | values under keys that are never mistaken for one another: [`Slab`], [`Key`] |
//! | `wheel` | timers by deadline: [`Wheel`], [`TimerKey`] |
//! | `watch` | descriptors of others, level-triggered: [`WatchSet`], [`Interest`], [`Ready`] |
//! | `mailbox` | mail from other threads: [`Sender`], [`Mailbox`] |
//! | `clock` | where time comes from: [`Clock`], [`SystemClock`], [`ManualClock`] |
//! | `worker` | threads, pinned: [`spawn`], [`Pin`] |
//!
//! Linux only: epoll and eventfd. Keys need 64-bit tokens.
//!
//! # Diagnostics
//! Nothing is logged here. Errors of the system are returned, misuse of stale keys does nothing and
//! says so by its return value, a broken invariant panics and names itself.
#![forbid(unsafe_code)]

mod clock;
mod mailbox;
mod number;
mod slab;
mod watch;
mod wheel;
mod worker;

pub use clock::{Clock, ManualClock, SystemClock};
pub use mailbox::{Mailbox, Rest, SendError, Sender, mailbox};
pub use slab::{Key, Slab};
pub use watch::{HostReadiness, Interest, Ready, WatchError, WatchKey, WatchSet};
pub use wheel::{DELAY_MS_MAX, TimerKey, Wheel};
pub use worker::{Pin, processors, spawn};
