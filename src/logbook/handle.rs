//! What workers hold of the two logs: whether they are kept, and the bounded way to the thread.
//!
//! Must never: block, or drop an entry: one that does not fit is given back.
//!
//! Diagnostics: none of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crossbeam_channel::{Sender, TrySendError};

use crate::queue::{Attempt, Mail, Transaction, Wishes};

use super::entry::{Entry, Field, Received, Sent, capped};
use super::template::Template;

/// Entries that wait for the thread.
pub(super) const QUEUE_ENTRIES_MAX: usize = 4096;
/// Octets of them.
pub(super) const QUEUE_BYTES_MAX: usize = 4 << 20;

/// A way to the logs; clones share it.
#[derive(Clone)]
pub struct Logbook(Option<Arc<Front>>);

pub(super) struct Front {
    pub(super) sender: Sender<Entry>,
    pub(super) sent: Option<Template>,
    pub(super) received: Option<Template>,
    pub(super) shared: Arc<Shared>,
}

/// What handles share with the thread.
pub(super) struct Shared {
    /// Octets that wait.
    pub(super) bytes: AtomicUsize,
    /// Workers that were given an entry back, and want to know when there is room.
    pub(super) refused: Vec<AtomicBool>,
    /// Somebody moved the files (SIGHUP).
    pub(super) reopen: AtomicBool,
}

impl Logbook {
    /// No log is kept.
    pub const fn none() -> Self {
        Self(None)
    }

    pub(super) fn new(front: Front) -> Self {
        Self(Some(Arc::new(front)))
    }

    /// Whether attempts are logged.
    pub fn logs_sent(&self) -> bool {
        self.0.as_ref().is_some_and(|front| front.sent.is_some())
    }

    /// Whether a line of an attempt names what is known of its connection.
    pub fn logs_facts(&self) -> bool {
        let template = self.0.as_ref().and_then(|front| front.sent.as_ref());
        template.is_some_and(|template| template.uses(|field| matches!(field, Field::Fact(_))))
    }

    /// Whether mail that came in is logged.
    pub fn logs_received(&self) -> bool {
        self.0.as_ref().is_some_and(|front| front.received.is_some())
    }

    /// The entry of an attempt, the one of its mail that `number` says; `None` where none is logged.
    pub fn sent(
        &self,
        attempt: &Attempt,
        number: u32,
        (envelope, recipient): (&str, &str),
        wishes: Option<&Wishes>,
    ) -> Option<Entry> {
        let template = self.0.as_ref()?.sent.as_ref()?;
        let facts = |field: &Field| matches!(field, Field::Fact(_));
        let known = |field: &Field| matches!(field, Field::Property(_));
        let properties = wishes.and_then(|wishes| wishes.properties.as_ref());
        let attempt = Attempt {
            state: attempt.state.clone(),
            result: attempt.result.clone(),
            status: capped(&attempt.status),
            description: capped(&attempt.description),
            facts: attempt.facts.as_ref().filter(|_| template.uses(facts)).cloned(),
            extras: None,
            ..*attempt
        };
        Some(Entry::Sent(Box::new(Sent {
            attempt,
            number,
            envelope: capped(envelope),
            recipient: capped(recipient),
            tags: wishes.map(|wishes| capped(&wishes.tags.join(","))).unwrap_or_default(),
            properties: properties.filter(|_| template.uses(known)).cloned(),
        })))
    }

    /// The entry of a mail that came in to `hostname`, as this server is called now; `None` where none is
    /// logged.
    pub fn received(
        &self,
        transaction: &Transaction,
        mail: &Mail,
        hostname: &str,
    ) -> Option<Entry> {
        let template = self.0.as_ref()?.received.as_ref()?;
        let named = |field: &Field| *field == Field::Hostname;
        let mut origin = transaction.origin.clone();
        origin.helo = Arc::default();
        origin.user = origin.user.map(|user| capped(&user));
        Some(Entry::Received(Box::new(Received {
            at_ms: transaction.received_ms,
            mail: transaction.id.mail(mail.index),
            envelope: capped(&mail.envelope),
            recipient: capped(&mail.recipient),
            origin,
            hostname: template.uses(named).then(|| hostname.into()),
        })))
    }

    /// Hands an entry to the thread.
    ///
    /// # Errors
    /// There is no room: the entry comes back, and `worker` is told when there is.
    pub fn offer(&self, entry: Entry, worker: usize) -> Result<(), Entry> {
        let Some(front) = &self.0 else { return Ok(()) };
        let entry = match front.send(entry) {
            Ok(()) => return Ok(()),
            Err(entry) => entry,
        };
        if let Some(refused) = front.shared.refused.get(worker) {
            refused.store(true, Ordering::SeqCst);
        }
        // The thread may have made room before it could see that.
        front.send(entry)
    }

    /// Asks the thread to open the files again, because somebody moved them.
    pub fn reopen(&self) {
        if let Some(front) = &self.0 {
            front.shared.reopen.store(true, Ordering::SeqCst);
        }
    }
}

impl Front {
    fn send(&self, entry: Entry) -> Result<(), Entry> {
        let bytes = entry.bytes();
        let waiting = self.shared.bytes.fetch_add(bytes, Ordering::SeqCst);
        // One that is larger than the bound alone goes when nothing else waits.
        let sent = if waiting == 0 || waiting + bytes <= QUEUE_BYTES_MAX {
            self.sender.try_send(entry)
        } else {
            Err(TrySendError::Full(entry))
        };
        match sent {
            Ok(()) => Ok(()),
            Err(refused) => {
                self.shared.bytes.fetch_sub(bytes, Ordering::SeqCst);
                match refused {
                    TrySendError::Full(entry) => Err(entry),
                    // The thread has ended, with the server or by a bug that it has logged.
                    TrySendError::Disconnected(_) => Ok(()),
                }
            }
        }
    }
}

impl std::fmt::Debug for Logbook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (sent, received) = (self.logs_sent(), self.logs_received());
        f.debug_struct("Logbook").field("sent", &sent).field("received", &received).finish()
    }
}
