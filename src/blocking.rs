//! The thread that may wait for disks on behalf of the workers.
//!
//! Jobs come over a bounded channel and are answered into the asking worker's mailbox, in order.
//! Must never: touch what a worker owns.
//!
//! **Diagnostics**: what goes wrong is the answer; a worker that is gone is not an error.

use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;
use crate::net::settlement::{RecallFor, Recalled};
use crate::queue::{Queue, ReadError, Transaction, TransactionId};

/// Reads that one worker may have asked for at a time.
pub const READS_MAX: usize = 64;

/// Messages of which one worker may have asked for parts at a time.
pub const RECALLS_MAX: usize = 16;

/// Work that blocks.
#[derive(Clone, Debug)]
pub enum Job {
    /// Read a transaction back; answered by [`Mail::Loaded`].
    Read(usize, TransactionId),
    /// Read back what is to be told of these mails of a message; answered by [`Mail::Recalled`].
    Recall(usize, TransactionId, Box<[u16]>, RecallFor),
}

/// The way to the helper thread, before it runs: room for all that `workers` workers may ask for,
/// so that no job is ever turned away.
pub fn channel(workers: usize) -> (Sender<Job>, Receiver<Job>) {
    bounded(workers * (READS_MAX + RECALLS_MAX))
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
                Job::Recall(worker, id, mails, what) => {
                    let recalled = without_panic(id, || {
                        Ok(Recalled::each(queue.recall(id, &mails, what.text_bytes)?, what))
                    });
                    (worker, Mail::Recalled(id, recalled))
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
