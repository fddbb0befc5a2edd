//! The commit thread, and the handle that the workers share.
//!
//! Owns the channel, the clock and the loop: everything that is pending from all workers becomes
//! one batch (that is the group commit), one write and one sync, one completion a worker. Decides
//! nothing about durability; that is [`journal`](super::journal).
//!
//! Diagnostics: [`OpenError`] at the start; when the thread is gone, [`Status`] says that nothing is
//! accepted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use super::gauges::Gauges;
use super::journal::{Completions, Handed, Journal, Options};
use super::reader::LogReader;
use super::recovery::{OpenError, Replay};
use super::start::{self, Reading, Start, start};
use crate::queue::engine::{
    Accepting, Completion, Entry, Queue, ReadError, Recalled, Shelf, ShutdownError, Status,
};
use crate::queue::mail::{Transaction, TransactionId};
use crate::queue::report::Recovered;
use crate::queue::storage::Storage;

/// How a worker is told; called on the commit thread, so it must not block.
pub type Notify = Box<dyn Fn(usize, Completion) + Send>;

/// The embedded engine: an append-only segment log.
pub struct LogQueue {
    sender: Sender<Message>,
    done: Receiver<Result<(), ShutdownError>>,
    reader: LogReader,
    gauges: Arc<Gauges>,
}

enum Message {
    Batch(usize, Vec<Entry>),
    Replayed(Box<Replay>, Sender<Recovered>),
    Stop,
}

impl LogQueue {
    /// Reads the log in `storage`, which the caller has locked against a second server, and starts
    /// the thread `commit`. `notify` gets every [`Completion`].
    ///
    /// A disk that can be read but not written is no error: mail is refused until it can be.
    pub fn open(
        storage: Arc<dyn Storage>,
        options: Options,
        notify: Notify,
    ) -> Result<(Self, Recovered), OpenError> {
        match Self::open_within(u64::MAX, storage, options, notify)? {
            (queue, Backlog::Found(recovered)) => {
                queue.end_recovery();
                Ok((queue, recovered))
            }
            (_, Backlog::Unread(_)) => unreachable!("no log is longer"),
        }
    }

    /// The same with a log of at most `bytes_max` bytes. Of one that is longer only as much is read as must be
    /// before mail can be taken; what is waiting in it is found by [`Unread::read`]. Whoever passes it on to the
    /// workers calls [`LogQueue::end_recovery`].
    pub fn open_within(
        bytes_max: u64,
        storage: Arc<dyn Storage>,
        options: Options,
        notify: Notify,
    ) -> Result<(Self, Backlog), OpenError> {
        let Start { mut journal, reader, gauges, reading } = start(storage, options, bytes_max)?;
        match reading {
            Reading::Done(replay) => {
                let recovered = journal.absorb(*replay);
                let queue = Self::run(journal, reader, gauges, notify)?;
                Ok((queue, Backlog::Found(recovered)))
            }
            Reading::Open(log) => {
                let queue = Self::run(journal, reader, gauges, notify)?;
                let sender = queue.sender.clone();
                Ok((queue, Backlog::Unread(Box::new(Unread { log, sender }))))
            }
        }
    }

    /// What was waiting has been passed on to the workers ([`Status::recovering`]).
    pub fn end_recovery(&self) {
        self.gauges.on_recovered();
    }

    fn run(
        journal: Journal,
        reader: LogReader,
        gauges: Arc<Gauges>,
        notify: Notify,
    ) -> Result<Self, OpenError> {
        let (sender, messages) = unbounded();
        let (finished, done) = bounded(1);
        let mut thread = Thread::new(journal, messages, notify, Arc::clone(&gauges));
        thread.turn();
        thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || {
                let run = std::panic::AssertUnwindSafe(|| thread.run());
                match std::panic::catch_unwind(run) {
                    // Nobody may be waiting for it.
                    Ok(outcome) => drop(finished.send(outcome)),
                    // Nothing can be made durable any more, so nothing may be answered: what was
                    // answered is on disk, and the next start finds it.
                    Err(_) => std::process::abort(),
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { sender, done, reader, gauges })
    }
}

/// The mail that was in a log before it was opened.
pub enum Backlog {
    /// All of it.
    Found(Recovered),
    /// It has to be read yet.
    Unread(Box<Unread>),
}

impl Backlog {
    /// The largest id of any transaction so far, for [`Ids::new`](crate::queue::Ids::new).
    pub fn id_max(&self) -> Option<TransactionId> {
        match self {
            Backlog::Found(recovered) => recovered.id_max,
            Backlog::Unread(unread) => unread.log.id_max,
        }
    }
}

/// The mail of a long log, until it has been read.
#[must_use = "mail is waiting in it"]
pub struct Unread {
    log: start::Unread,
    sender: Sender<Message>,
}

impl Unread {
    /// Bytes of the segments that are to be read.
    pub fn bytes(&self) -> u64 {
        self.log.bytes()
    }

    /// Reads what is waiting; when this returns, the queue holds it. Blocks on the disk.
    ///
    /// # Errors
    /// A segment cannot be opened any more; or the queue was shut down meanwhile. It then holds nothing of
    /// what was there before, and does not give back space: the server has to be started again.
    pub fn read(self) -> Result<Recovered, OpenError> {
        let replay = Box::new(self.log.replay()?);
        let (answer, answered) = bounded(1);
        // Fails only when the thread has stopped, and then nobody answers.
        let _ = self.sender.send(Message::Replayed(replay, answer));
        answered.recv().map_err(|_| OpenError::Stopped)
    }
}

impl Queue for LogQueue {
    fn hand_over(&self, worker: usize, batch: Vec<Entry>) {
        // Fails only when the thread has stopped, and then nobody may be answered 250.
        let _ = self.sender.send(Message::Batch(worker, batch));
    }

    fn read(&self, id: TransactionId) -> Result<Transaction, ReadError> {
        self.reader.read(id)
    }

    fn recall(
        &self,
        id: TransactionId,
        indexes: &[u16],
        body_bytes_max: usize,
    ) -> Result<Recalled, ReadError> {
        self.reader.recall(id, indexes, body_bytes_max)
    }

    fn shelves(&self) -> Vec<Shelf> {
        self.reader.shelves()
    }

    fn shelved(
        &self,
        name: &str,
        after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<(TransactionId, u32)> {
        self.reader.shelved(name, after, limit)
    }

    fn accepting(&self) -> Accepting {
        self.gauges.accepting()
    }

    fn delivering(&self) -> bool {
        self.gauges.delivering()
    }

    fn status(&self) -> Status {
        self.gauges.status()
    }

    fn shutdown(&self, patience: Duration) -> Result<(), ShutdownError> {
        // Fails only when the thread has stopped already.
        let _ = self.sender.send(Message::Stop);
        match self.done.recv_timeout(patience) {
            Ok(outcome) => outcome,
            Err(RecvTimeoutError::Timeout) => Err(ShutdownError::TimedOut),
            Err(RecvTimeoutError::Disconnected) => Err(ShutdownError::Stopped),
        }
    }
}

/// What the commit thread works with.
struct Thread {
    journal: Journal,
    messages: Receiver<Message>,
    notify: Notify,
    queue: VecDeque<Handed>,
    stopping: bool,
    started: Instant,
    _farewell: Farewell,
}

/// Says that nothing is accepted when the thread ends, however it ends.
struct Farewell(Arc<Gauges>);

impl Drop for Farewell {
    fn drop(&mut self) {
        self.0.update(Accepting::Failed, false, |_| {});
    }
}

impl Thread {
    fn new(
        journal: Journal,
        messages: Receiver<Message>,
        notify: Notify,
        gauges: Arc<Gauges>,
    ) -> Self {
        Self {
            journal,
            messages,
            notify,
            queue: VecDeque::new(),
            stopping: false,
            started: Instant::now(),
            _farewell: Farewell(gauges),
        }
    }

    fn run(mut self) -> Result<(), ShutdownError> {
        while !self.stopping || !self.queue.is_empty() {
            self.receive();
            self.turn();
        }
        let mut done = Completions::new();
        let unwritten = self.journal.finish(self.now_ms(), &mut done);
        self.tell(done);
        match unwritten {
            0 => Ok(()),
            settles => Err(ShutdownError::Unwritten { settles: settles as u64 }),
        }
    }

    /// One batch.
    fn turn(&mut self) {
        let now_ms = self.now_ms();
        let done = self.journal.commit(&mut self.queue, now_ms);
        self.tell(done);
    }

    fn tell(&self, done: Completions) {
        for (worker, completion) in done {
            (self.notify)(worker, completion);
        }
    }

    /// Waits for something to do, then takes everything that is there.
    fn receive(&mut self) {
        if self.queue.is_empty() && !self.stopping {
            let first = match self.journal.next_wake(self.now_ms()) {
                Some(at_ms) => {
                    let deadline = self.started + Duration::from_millis(at_ms);
                    self.messages.recv_deadline(deadline)
                }
                None => self.messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                // Every handle is gone, which ends the queue as a shutdown does.
                Err(RecvTimeoutError::Disconnected) => self.stopping = true,
            }
        }
        while let Ok(message) = self.messages.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Batch(worker, entries) => {
                self.queue.extend(entries.into_iter().map(|entry| (worker, entry)));
            }
            Message::Replayed(replay, answer) => {
                // Whoever read it may have given up.
                let _ = answer.send(self.journal.absorb(*replay));
            }
            Message::Stop => self.stopping = true,
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}
