//! What an operator does: starting as root, reloading, draining, running below a service manager.
//!
//! **Diagnostics**: what the server or the subcommand said.

mod backlog;
mod drain;
mod metrics;
mod packaging;
mod readiness;
mod reload;
mod text;
mod user;

/// A mail that is nothing special.
const TEXT: &[u8] = b"Subject: operation\r\n\r\nText.\r\n";
