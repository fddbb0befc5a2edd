//! The queue at the start, and the mail that was in it before.
//!
//! Owns when that mail is read: a short log before anything else, so that the start fails if it cannot be; a
//! long one on a thread of its own, while the server greets and takes mail already. Must not give a worker
//! mail that the queue does not hold.
//!
//! **Diagnostics**: [`StartError`]; what recovery found is logged.

use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, unbounded};

use crate::cli;
use crate::log::Log;
use crate::mailboxes::{Mailboxes, Receipt};
use crate::net::desk::Mail;
use crate::queue::{
    Backlog, DiskStorage, LogQueue, OpenError, Options, Recovered, Unread, Waiting,
};
use crate::settings::Settings;
use crate::view::counted;

use super::server::{Event, StartError, system};

/// A log of so many octets is read before the server greets: that takes some hundredths of a second.
const READ_FIRST_BYTES_MAX: u64 = 32 << 20;
/// Transactions that a worker takes over at a time: about a millisecond's work, for which clients wait.
const RESTORED_AT_ONCE_MAX: usize = 1_000;
/// Such pieces that stand in a worker's mailbox, so that others do not wait behind all of them.
const PIECES_AT_ONCE_MAX: usize = 2;

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
    let (queue, backlog) = LogQueue::open_within(READ_FIRST_BYTES_MAX, storage, options, notify)?;
    match &backlog {
        Backlog::Found(recovered) => report_recovery(recovered, log),
        Backlog::Unread(unread) => {
            let mib = unread.bytes() >> 20;
            log.info("queue", format_args!("{mib} MiB of the log are read while mail is taken"));
        }
    }
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
            // Nothing waits for it yet, and a worker may be long in a plugin's hook at the start.
            drop(share_out(recovered, mailboxes, usize::MAX));
            queue.end_recovery();
            return Ok(());
        }
        Backlog::Unread(unread) => unread,
    };
    let (queue, mailboxes, lost, log) =
        (queue.clone(), mailboxes.clone(), lost.clone(), log.clone());
    let read = move || {
        // A replay that panics has changed nothing that anybody else sees.
        let read = AssertUnwindSafe(|| recover(*unread, &mailboxes, &log));
        let (why, exit) = match std::panic::catch_unwind(read) {
            Ok(Ok(())) => return queue.end_recovery(),
            // The server stops: the next one reads it.
            Ok(Err(OpenError::Stopped)) => return,
            Ok(Err(error)) => {
                let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
                (format!("{error}{cause}"), cli::EXIT_TRY_AGAIN)
            }
            Err(_) => (
                "what is queued could not be read: a bug, which stderr tells of".into(),
                cli::EXIT_BUG,
            ),
        };
        let _ = lost.send(Event::BacklogLost(why, exit));
    };
    let thread = std::thread::Builder::new().name("recovery".into()).spawn(read);
    thread.map(drop).map_err(system("the thread that reads the queue cannot be started"))
}

/// Reads what is waiting. When this returns, the workers have it, and have counted it.
fn recover(unread: Unread, mailboxes: &Mailboxes, log: &Log) -> Result<(), OpenError> {
    let recovered = unread.read()?;
    report_recovery(&recovered, log);
    let mut shares = share_out(recovered, mailboxes, PIECES_AT_ONCE_MAX);
    shares.iter_mut().for_each(Share::await_all);
    // Figures are those of the turn before: so one turn more.
    for (worker, mut share) in shares.into_iter().enumerate() {
        share.give(worker, mailboxes, 1);
        share.await_all();
    }
    Ok(())
}

/// What one worker is given.
struct Share {
    waiting: Vec<Waiting>,
    under_way: usize,
    taken: (Sender<()>, Receiver<()>),
}

impl Share {
    fn new() -> Self {
        Self { waiting: Vec::new(), under_way: 0, taken: unbounded() }
    }

    /// Gives away what has gathered, when fewer than `pieces_max` pieces are under way.
    fn give(&mut self, worker: usize, mailboxes: &Mailboxes, pieces_max: usize) {
        while self.under_way >= pieces_max {
            self.await_one();
        }
        self.under_way += 1;
        let receipt = Receipt::to(self.taken.0.clone());
        mailboxes.deliver(worker, Mail::Restore(std::mem::take(&mut self.waiting), receipt));
    }

    fn await_one(&mut self) {
        // Each piece tells of its end, whatever becomes of it, and one sender is here.
        let _ = self.taken.1.recv();
        self.under_way -= 1;
    }

    fn await_all(&mut self) {
        while self.under_way > 0 {
            self.await_one();
        }
    }
}

/// Mail belongs to the worker that its id names, or, after a change of `smtp-threads`, to another. A worker
/// gets it in pieces, of which `pieces_max` wait for it at a time: between them it does what else there is
/// to do.
fn share_out(recovered: Recovered, mailboxes: &Mailboxes, pieces_max: usize) -> Vec<Share> {
    let workers = mailboxes.len();
    let mut shares: Vec<Share> = (0..workers).map(|_| Share::new()).collect();
    for waiting in recovered.waiting {
        let worker = waiting.id.as_u64() as usize % 256 % workers;
        shares[worker].waiting.push(waiting);
        if shares[worker].waiting.len() == RESTORED_AT_ONCE_MAX {
            shares[worker].give(worker, mailboxes, pieces_max);
        }
    }
    for (worker, share) in shares.iter_mut().enumerate() {
        share.give(worker, mailboxes, pieces_max);
    }
    shares
}
