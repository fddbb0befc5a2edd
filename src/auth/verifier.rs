//! The thread that computes the hashes of passwords, for all workers.
//!
//! Of its own, and not the helper: a hash takes tens of milliseconds, and texts that are read back must
//! not wait behind a few hundred of them. One thread, so that guessing passwords takes one CPU at most.
//!
//! Must never: keep a password longer than its hash takes.
//!
//! **Diagnostics**: none; a full queue is the worker's to answer (454).

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};
use rohrpost_reactor::Key;

use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;
use crate::smtp::sasl::Secret;

use super::hash::Hash;

/// Checks that may wait, of all workers together. Behind so many hashes of usual cost the last one waits
/// for two seconds, and behind the costliest ones for less than a client has patience.
pub const CHECKS_MAX: usize = 64;

/// One password to be checked. Answered by [`Mail::Verified`].
#[derive(Debug)]
pub struct Check {
    /// The worker that asks.
    pub worker: usize,
    /// For which connection. It has one check at a time.
    pub connection: Key,
    /// What the password must match.
    pub hash: Arc<Hash>,
    /// Whether matching is enough; not so for a name that nobody has.
    pub known: bool,
    /// What the client gave.
    pub password: Secret,
}

/// The way to the thread, before it runs.
pub fn channel() -> (Sender<Check>, Receiver<Check>) {
    bounded(CHECKS_MAX)
}

/// Starts the thread; it ends when every sender is gone.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(checks: Receiver<Check>, mailboxes: Mailboxes) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("verifier".into()).spawn(move || {
        for check in checks {
            let Check { worker, connection, hash, known, password } = check;
            let matches = matches(&hash, password);
            mailboxes.deliver(worker, Mail::Verified(connection, matches && known));
        }
    })
}

/// A panic in here is a bug, but one hash that cannot be computed must not keep all others waiting.
fn matches(hash: &Hash, password: Secret) -> bool {
    let compute = std::panic::AssertUnwindSafe(|| hash.matches(password.as_bytes()));
    std::panic::catch_unwind(compute).unwrap_or(false)
}
