//! The send log and the received log: a line for each attempt to deliver, and for each mail that came in
//! over SMTP, in a form that an administrator chooses.
//!
//! - `template` is the form: SmartTPL as far as MailerQ's own formats use it, read at the start.
//! - `entry` holds the values of a line.
//! - `handle` takes entries from workers, bounded, and never blocks.
//! - `writer` is the thread that makes lines of them and writes them.
//!
//! Nothing is dropped: while the thread cannot write, entries wait with the outcomes they belong to, and
//! then deliveries and new mail do (`net/settlement.rs`). A crash loses the lines that were on their way.
//!
//! Diagnostics: [`LogbookError`] at the start; a file that cannot be written is a critical line of the
//! application log, again and again, until it can.

mod entry;
mod handle;
mod template;
mod writer;

#[cfg(test)]
mod tests;

pub use entry::{Entry, Received, Sent};
pub use handle::Logbook;
pub use template::{Subject, Template, TemplateError};
pub use writer::{LogbookError, LogbookThread, Page};
