//! Owns: the tests of all parts but the watch set, which needs a process of its own: it plays with
//! descriptor numbers.
//!
//! Must never: sleep, use a fixed port, depend on how long something takes.
//!
//! Diagnostics: model tests print their seed; set `ROHRPOST_SEED` to run one alone.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod clock;
mod mailbox;
mod slab;
mod support;
mod turn;
mod waiter;
mod wheel;
mod worker;
