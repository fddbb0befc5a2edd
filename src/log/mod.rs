//! The application log: handles that never block, and the one thread that writes.
//!
//! Owns the line's shape, `[Critical] [2019-09-23 12:46:56] [smtp] text`, and what happens when
//! more is said than can be written: lines are dropped and counted, and the count is the next
//! line. Never blocks a caller, never logs a secret or a message's text: callers see to that.
//!
//! Diagnostics: [`LogError`] where a log cannot be opened or not be written out in time; lines
//! that were lost are reported in the log itself.

pub(crate) mod file;
mod handle;
mod level;
mod limit;
mod line;
mod thread;

#[cfg(test)]
mod tests;

pub use handle::Log;
pub use level::Level;
pub(crate) use line::push_safe;
pub use thread::{LogError, LogThread, Target};
