//! The queue at the start, and the mail that was in it before.
//!
//! Owns when that mail is read: a short log before anything else, so that the start fails if it cannot be; a
//! long one on a thread of its own, while the server greets and takes mail already. Must not give a worker
//! mail that the queue does not hold.
//!
//! **Diagnostics**: [`StartError`]; what recovery found is logged.

use std::error::Error;
use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::log::Log;
use crate::mailboxes::Mailboxes;
use crate::net::desk::Mail;
use crate::queue::{DiskStorage, LogQueue, OpenError, Options, Recovered, TransactionId, Unread};
use crate::settings::Settings;
use crate::view::counted;

use super::server::{Event, StartError, system};

/// A log of so many octets is read before the server greets: that takes some hundredths of a second.
const READ_FIRST_BYTES_MAX: u64 = 32 << 20;
/// Transactions that a worker takes over at a time; more would hold up its clients.
const RESTORED_AT_ONCE_MAX: usize = 64;

/// The mail that was in the queue before.
pub(super) enum Backlog {
    Found(Recovered),
    /// So much that mail is taken before all of it has been read.
    Unread(Box<Unread>),
}

impl Backlog {
    pub(super) fn id_max(&self) -> Option<TransactionId> {
        match self {
            Backlog::Found(recovered) => recovered.id_max,
            Backlog::Unread(unread) => unread.id_max(),
        }
    }
}

pub(super) fn open_queue(
    settings: &Settings,
    mailboxes: &Mailboxes,
    log: &Log,
) -> Result<(Arc<LogQueue>, Backlog), StartError> {
    let options = Options {
        segment_bytes: settings.queue.segment_bytes_max,
        min_free_bytes: settings.queue.free_bytes_min,
        ..Options::default()
    };
    let storage = Arc::new(DiskStorage::new(&settings.queue.directory));
    let answers = mailboxes.clone();
    let notify = Box::new(move |worker, completion| {
        answers.deliver(worker, Mail::Committed(completion));
    });
    let (queue, unread) = LogQueue::open_unread(storage, options, notify)?;
    let backlog = if unread.bytes() > READ_FIRST_BYTES_MAX {
        let mib = unread.bytes() >> 20;
        log.info("queue", format_args!("{mib} MiB of the log are read while mail is taken"));
        Backlog::Unread(Box::new(unread))
    } else {
        let recovered = unread.read()?;
        report_recovery(&recovered, log);
        Backlog::Found(recovered)
    };
    Ok((Arc::new(queue), backlog))
}

fn report_recovery(recovered: &Recovered, log: &Log) {
    let report = &recovered.report;
    for damage in &report.damaged {
        log.critical("queue", damage);
    }
    if report.damaged_more > 0 {
        log.critical("queue", format_args!("{} more damaged places", report.damaged_more));
    }
    if report.torn_bytes > 0 {
        let bytes = report.torn_bytes;
        log.info(
            "queue",
            format_args!("{bytes} bytes were cut off by a crash; none was answered 250"),
        );
    }
    let mails: usize = recovered.waiting.iter().map(|waiting| waiting.mails.len()).sum();
    log.info(
        "queue",
        format_args!(
            "{} found in {} of the log",
            counted(mails as u64, "mail"),
            counted(report.segments, "segment")
        ),
    );
}

/// Gives the workers what was waiting, as soon as it is known. `lost` is told if it never will be.
pub(super) fn restore(
    backlog: Backlog,
    queue: &Arc<LogQueue>,
    mailboxes: &Mailboxes,
    lost: &Sender<Event>,
    log: &Log,
) -> Result<(), StartError> {
    let unread = match backlog {
        Backlog::Found(recovered) => {
            share_out(recovered, mailboxes);
            queue.end_recovery();
            return Ok(());
        }
        Backlog::Unread(unread) => unread,
    };
    let (queue, mailboxes, lost, log) =
        (queue.clone(), mailboxes.clone(), lost.clone(), log.clone());
    let read = move || match unread.read() {
        Ok(recovered) => {
            report_recovery(&recovered, &log);
            share_out(recovered, &mailboxes);
            queue.end_recovery();
        }
        // The server stops: the next one reads it.
        Err(OpenError::Stopped) => {}
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            let _ = lost.send(Event::BacklogLost(format!("{error}{cause}")));
        }
    };
    let thread = std::thread::Builder::new().name("recovery".into()).spawn(read);
    thread.map(drop).map_err(system("the thread that reads the queue cannot be started"))
}

/// Mail belongs to the worker that its id names, or, after a change of `smtp-threads`, to another. A worker
/// gets it in pieces, between which it does what else there is to do.
fn share_out(recovered: Recovered, mailboxes: &Mailboxes) {
    let workers = mailboxes.len();
    let mut shares: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for waiting in recovered.waiting {
        let worker = waiting.id.as_u64() as usize % 256 % workers;
        shares[worker].push(waiting);
        if shares[worker].len() == RESTORED_AT_ONCE_MAX {
            mailboxes.deliver(worker, Mail::Restore(std::mem::take(&mut shares[worker])));
        }
    }
    for (worker, share) in shares.into_iter().enumerate() {
        mailboxes.deliver(worker, Mail::Restore(share));
    }
}
