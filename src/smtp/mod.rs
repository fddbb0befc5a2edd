//! SMTP as values: bytes go in, bytes and events come out (RFC 5321 and its extensions).
//!
//! Owns command lines, replies, addresses, message text (dot-stuffing, chunks) and the two sessions,
//! [`server::Session`] and [`client::Session`]. It never opens a socket, reads a clock, touches a file
//! or decides policy: drivers in `net/` join sessions to sockets and deadlines, and answer the events.
//!
//! Spoken: RFC 5321, 1870 (SIZE), 2920 (PIPELINING), 6152 (8BITMIME), 6531 (SMTPUTF8), 3030 (CHUNKING
//! without BINARYMIME), 3461 (DSN), 2034 and 3463 (enhanced status codes), 4954 (AUTH, PLAIN and
//! LOGIN).
//!
//! Diagnostics: whatever the peer does wrong becomes a reply to it (server) or an event (client), never
//! a panic. Panics mean that the driver broke a written contract, and name it.

pub mod address;
pub mod answer;
pub mod bench;
pub mod body;
mod buffer;
pub mod client;
pub mod command;
pub mod dsn;
pub mod fuzz;
mod line;
pub mod memory;
pub mod reply;
pub mod sasl;
pub mod server;
pub mod stuffer;
pub mod trace;

pub use address::{Address, AddressError};
pub use answer::Fixed;
pub use body::{Body, is_crlf_only};
pub use memory::Memory;
pub use reply::{EnhancedStatus, Reply};
pub use stuffer::{LineRepair, Stuffer};

#[cfg(test)]
mod support;
#[cfg(test)]
mod tests;
