//! Notices to senders: that a mail failed, is delayed, or was passed on to where nobody will tell (RFC
//! 3461, RFC 3464, RFC 6522, RFC 6533).
//!
//! - `wanted` says who wants to hear what, and carries wishes between sessions and the queue.
//! - `case` is what a notice tells of: a mail, how its last attempt ended, whose words those are.
//! - `human` writes the part for people, `status` the part for programs; `field` keeps what strangers
//!   said from becoming structure.
//! - `excerpt` takes from the mail what the notice brings back, at a bounded size.
//! - `report` puts the message together.
//!
//! All of it is pure: no clock, no file, no queue. Whoever settles attempts (`net/settlement.rs`) asks.
//!
//! Diagnostics: none; a mail of which nobody wants to hear has no notice.

mod case;
mod excerpt;
mod field;
mod human;
mod report;
mod status;
pub mod wanted;

#[cfg(test)]
mod tests;

pub use case::{Case, Kind};
pub use excerpt::{Excerpt, TEXT_BYTES_NEEDED};
pub use report::{Notice, Stationery, write};
