//! The mailboxes of all workers, known to the threads that answer them.
//!
//! Filled once, when every worker has started; a message to a worker that is gone is dropped,
//! because nobody is left who could want it. Must never: wait on a worker's own thread.
//!
//! **Diagnostics**: [`Mailboxes::offer`] gives back what a full mailbox does not take.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::Sender;
use rohrpost_reactor::SendError;

use crate::net::desk::Mail;

/// How long a thread that may wait rests before it offers to a full mailbox again.
const FULL_PAUSE: Duration = Duration::from_millis(1);

/// Tells whoever sent a message that it was dealt with, or that nobody is left to do so: when it is dropped.
#[derive(Debug)]
pub struct Receipt(Sender<()>);

impl Receipt {
    /// Fills `told` once.
    pub fn to(told: Sender<()>) -> Self {
        Self(told)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        // Whoever sent it may have gone.
        let _ = self.0.try_send(());
    }
}

/// One sender per worker; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Mailboxes(Arc<OnceLock<Vec<rohrpost_reactor::Sender<Mail>>>>);

impl Mailboxes {
    /// Makes the workers known; the first call counts.
    pub fn fill(&self, senders: Vec<rohrpost_reactor::Sender<Mail>>) {
        assert!(self.0.set(senders).is_ok(), "the workers are made known once");
    }

    /// Sends, waiting while the mailbox is full: for threads that may block, with messages that
    /// must not be lost.
    pub fn deliver(&self, worker: usize, mut mail: Mail) {
        while let Err(SendError::Full(back)) = self.send(worker, mail) {
            mail = back;
            std::thread::sleep(FULL_PAUSE);
        }
    }

    /// Sends without waiting; gives the message back if the mailbox is full.
    pub fn offer(&self, worker: usize, mail: Mail) -> Result<(), Mail> {
        match self.send(worker, mail) {
            Err(SendError::Full(back)) => Err(back),
            Ok(()) | Err(SendError::Closed(_)) => Ok(()),
        }
    }

    /// How many workers there are; 0 before they started.
    pub fn len(&self) -> usize {
        self.0.get().map_or(0, Vec::len)
    }

    /// Whether no worker has started.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn send(&self, worker: usize, mail: Mail) -> Result<(), SendError<Mail>> {
        match self.0.get().and_then(|senders| senders.get(worker)) {
            Some(sender) => sender.send(mail),
            None => Err(SendError::Closed(mail)),
        }
    }
}
