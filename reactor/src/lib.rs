//! An event loop for one thread per processor: a turn in a fixed, written order, with a limit on
//! everything it may do.
//!
//! | module | owns |
//! |---|---|
//! | `slab` | values under keys that are never mistaken for one another: [`Slab`], [`Key`] |
//! | `wheel` | timers by deadline: [`Wheel`], [`TimerKey`] |
//! | `clock` | where time comes from: [`Clock`], [`SystemClock`], [`ManualClock`] |
//!
//! Linux only: epoll and eventfd. Keys need 64-bit tokens.
//!
//! # Diagnostics
//! Nothing is logged here. Errors of the system are returned, misuse of stale keys does nothing and
//! says so by its return value, a broken invariant panics and names itself.
#![forbid(unsafe_code)]

mod clock;
mod slab;
mod wheel;

pub use clock::{Clock, ManualClock, SystemClock};
pub use slab::{Key, Slab};
pub use wheel::{DELAY_MS_MAX, TimerKey, Wheel};
