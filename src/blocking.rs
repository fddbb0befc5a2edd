//! The thread that may wait for disks on behalf of the workers, and those that wait for a resolver.
//!
//! Jobs come over a bounded channel and are answered into the asking worker's mailbox: reads in order,
//! names when they are found.
//! Must never: touch what a worker owns.
//!
//! **Diagnostics**: what goes wrong is the answer; a worker that is gone is not an error.

use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::delivery::NextHop;
use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;
use crate::net::settlement::{RecallFor, Recalled};
use crate::queue::{MailId, Queue, ReadError, Transaction, TransactionId};

/// Reads that one worker may have asked for at a time.
pub const READS_MAX: usize = 64;

/// Mails of which one worker may have asked for parts at a time.
pub const RECALLS_MAX: usize = 16;

/// Work that blocks.
#[derive(Clone, Debug)]
pub enum Job {
    /// Read a transaction back; answered by [`Mail::Loaded`].
    Read(usize, TransactionId),
    /// Read back what is needed to tell of the end of a mail; answered by [`Mail::Recalled`].
    Recall(usize, MailId, RecallFor),
    /// Find the addresses of the next hop; answered by [`Mail::Resolved`].
    Resolve(usize, NextHop),
}

/// The way to the helper thread, before it runs: room for all that `workers` workers may ask for,
/// their reads, recalls and one name each, so that no job is ever turned away.
pub fn channel(workers: usize) -> (Sender<Job>, Receiver<Job>) {
    bounded(workers * (READS_MAX + RECALLS_MAX + 1))
}

/// Starts the thread; it ends when every sender is gone.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn(
    jobs: Receiver<Job>,
    queue: Arc<dyn Queue>,
    mailboxes: Mailboxes,
) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("helper".into()).spawn(move || {
        for job in jobs {
            let (worker, answer) = match job {
                Job::Read(worker, id) => (worker, Mail::Loaded(id, read(&*queue, id))),
                Job::Recall(worker, id, what) => {
                    let read = without_panic(id.transaction, || {
                        queue.recall(id.transaction, &[id.index], what.text_bytes)
                    });
                    let recalled = read.and_then(|read| Recalled::of(read, id, what));
                    (worker, Mail::Recalled(id, recalled.map(Box::new)))
                }
                Job::Resolve(worker, hop) => {
                    resolve_aside(worker, hop, &mailboxes);
                    continue;
                }
            };
            mailboxes.deliver(worker, answer);
        }
    })
}

fn read(queue: &dyn Queue, id: TransactionId) -> Result<Arc<Transaction>, ReadError> {
    without_panic(id, || queue.read(id)).map(Arc::new)
}

/// A panic in here is a bug, but one text that cannot be read must not keep all others waiting.
fn without_panic<T>(
    id: TransactionId,
    read: impl FnOnce() -> Result<T, ReadError>,
) -> Result<T, ReadError> {
    let bug = |_| {
        let source = std::io::Error::other("reading it panicked; this is a bug");
        Err(ReadError::Io { id, source })
    };
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(bug)
}

/// The resolver may take half a minute, and texts must not wait for it: each look-up has a thread of
/// its own, one a worker at most.
fn resolve_aside(worker: usize, hop: NextHop, mailboxes: &Mailboxes) {
    let answers = mailboxes.clone();
    let work = move || answers.deliver(worker, Mail::Resolved(resolve(&hop)));
    if let Err(error) = std::thread::Builder::new().name("resolver".into()).spawn(work) {
        let why = format!("no thread for the resolver: {error}");
        mailboxes.deliver(worker, Mail::Resolved(Err(why)));
    }
}

fn resolve(hop: &NextHop) -> Result<Vec<SocketAddr>, String> {
    match (hop.host.as_str(), hop.port).to_socket_addrs() {
        Ok(found) => {
            let found: Vec<SocketAddr> = found.collect();
            if found.is_empty() { Err(format!("{} has no address", hop.host)) } else { Ok(found) }
        }
        Err(error) => Err(format!("{} cannot be resolved: {error}", hop.host)),
    }
}
