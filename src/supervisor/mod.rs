//! The life of the server: settings, plugins, binding, workers, signals, and the ordered end.
//!
//! Runs on the main thread. What one part needs of another is made here and handed over; there is
//! no other wiring. Order of start: log, lock, ports and what else needs root, the user's rights,
//! queue, plugins, workers, their contexts, and only then traffic. Order of stop: listeners, connections, contexts, queue, plugins.
//!
//! Must never: touch mail.
//!
//! **Diagnostics**: [`StartError`] says what keeps the server from starting and maps to an exit
//! code; a worker that panics is named and ends the process with 70 after the others drained.

mod backlog;
mod by_hand;
mod ground;
mod inquiry;
mod line;
mod orders;
mod readiness;
mod rehearsal;
mod reload;
mod renewal;
mod rights;
mod round;
mod server;
pub(crate) mod single;
mod start;

pub use rehearsal::rehearse;
pub use server::{StartError, run};
