//! Plugins for Rohrpost in safe Rust, on top of `mailerq.h` (generation G3, and the extensions).
//!
//! A plugin is a type that implements [`Plugin`], and [`export!`] with the hooks that it wants. Its crate
//! is a `cdylib`; `rohrpost plugin new --rust NAME` makes one.
//!
//! ```no_run
//! use rohrpost_plugin::{Address, Context, Failure, Outcome, Plugin, Setup, Step, export};
//!
//! struct NoStrangers;
//!
//! impl Plugin for NoStrangers {
//!     type Worker = ();
//!     type Connection = ();
//!
//!     fn start(_: Setup) -> Result<Self, Failure> {
//!         Ok(NoStrangers)
//!     }
//!
//!     fn worker(&self, _: Context) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!
//!     fn mail_from(&self, step: &mut Step<'_, Self>, sender: Address<'_>) -> Outcome {
//!         if sender.is_null() {
//!             step.reject(550, "5.7.1", "No bounces here");
//!         }
//!         Ok(())
//!     }
//! }
//!
//! export!(NoStrangers: mail_from);
//! # fn main() {}
//! ```
//!
//! | file | owns |
//! |---|---|
//! | `plugin` | what an author implements |
//! | `edge` | the functions that the server calls, and what is stopped there |
//! | `step`, `connection`, `message`, `address` | what a hook is shown |
//! | `hold` | steps that wait, from any thread |
//! | `context`, `timer`, `watch`, `post` | the worker and its loop |
//! | `setup` | the plugin's settings and metrics |
//! | `log`, `failure` | words |
//! | `ffi` | the C functions |
//!
//! # What it promises
//!
//! 1. A panic in a hook or callback fails that step, by the server's `plugin-failure`, and nothing else.
//!    It is written to the log.
//! 2. A step that a plugin holds ends: a [`Hold`] that is dropped without a verdict, as by a panic, fails
//!    its step, and so does a [`RemoteHold`]. One that is leaked is taken back by `plugin-timeout`.
//! 3. A [`Timer`] or [`Watch`] that is dropped is over: its closure never runs again.
//! 4. What belongs to a worker stays on its thread: only [`Remote`] and [`RemoteHold`] can be sent.
//!
//! 5. An answer is for the step that it was given in: a [`Hold`] that is over answers nothing, and a
//!    [`Connection`] that is kept only knows.
//!
//! # What it does not have
//!
//! `MQ_json`, `MQX_resolve`, `MQ_ev`, `MQ_fileDescriptor`, a closure for the end of a hold's time
//! ([`Step::hold_for`] fails the step then), and the older generations of the interface. For these there is
//! `as_raw` of [`Context`], [`Connection`] and [`Message`]: a plugin declares the functions of `mailerq.h` itself,
//! and answers itself for the `unsafe` in it, and that no panic leaves a callback.
//!
//! Strings of the server are copied, for what they would borrow may end with a step that the server takes
//! back. The texts of a hook's arguments are borrowed for its call.
#![deny(
    clippy::undocumented_unsafe_blocks,
    clippy::missing_safety_doc,
    clippy::multiple_unsafe_ops_per_block
)]

#[cfg(panic = "abort")]
compile_error!("a plugin needs panic = \"unwind\": a panic must not end the server");

mod address;
mod connection;
mod context;
#[doc(hidden)]
pub mod edge;
mod failure;
mod ffi;
mod hold;
mod log;
mod message;
mod plugin;
mod post;
mod setup;
mod step;
mod timer;
mod watch;

pub use address::Address;
pub use connection::Connection;
pub use context::Context;
pub use failure::{Failure, Outcome};
pub use hold::{Hold, RemoteHold, Verdict};
pub use log::{critical, info, warning};
pub use message::Message;
pub use plugin::Plugin;
pub use post::Remote;
pub use setup::{Metric, Setup};
pub use step::Step;
pub use timer::Timer;
pub use watch::{Interest, Readiness, Watch};
