//! The functions that plugins call, under the names and with the contracts of `include/mailerq.h`.
//!
//! Owns the conversion of C arguments. Must never trust one beyond what the header lets a plugin
//! promise: strings and buffers are readable, callbacks callable, everything else is checked.
//! Diagnostics: as in `misuse`.
//!
//! Nothing in Rust calls them; plugins find them in the executable (D-0B).

mod answer;
mod connection;
mod context;
mod fact;
mod hold;
mod log;
mod message;

pub use answer::*;
pub use connection::*;
pub use context::*;
pub use fact::*;
pub use hold::*;
pub use log::*;
pub use message::*;
