//! Taking results out of named queues, at both ends of the control socket.
//!
//! A taker gets entries as rows, writes them where they belong, and then acknowledges them on the same
//! connection with `{"ack": rows}`; only then do they leave the queue. What is not acknowledged, because
//! the taker died, its pipe broke or it took too long, is there for the next one. So each result is taken
//! at least once; two takers never have the same one at the same time.
//!
//! Owns what is lent out, and the bound of all named queues. Must never: wait on a worker.
//!
//! Diagnostics: entries that were dropped because nobody took them, and those that cannot be read, are
//! critical, rate-limited.

use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::clock::Wall;
use crate::control::{self, ControlError, Conversation, Line, ReceiveError, Reply, Request};
use crate::log::{Level, Log};
use crate::queue::{Attempt, Entry, MailId, Next, Queue, ReadError, Shelf, TransactionId};

/// Takers at a time.
const TAKERS_MAX: usize = 16;
/// Entries of one answer; a taker that wants more asks again.
pub const ENTRIES_MAX: u32 = 1_000;
/// How long the entries of one answer may take to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a taker may take to acknowledge what it got.
const ACK_TIMEOUT: Duration = Duration::from_secs(120);
/// How long the queue may take to let go of what was acknowledged.
const REMOVE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often that is looked at.
const REMOVE_LOOK: Duration = Duration::from_millis(2);
/// Entries that are looked at together.
const PAGE: usize = 256;
/// Entries that are dropped at once where there are too many.
const DROPPED_AT_ONCE: usize = 10_000;
/// No worker has this number: what is settled here is told to nobody.
const NOBODY: usize = usize::MAX;

/// What a taker says when it has written everything down.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ack {
    /// So many rows, from the first.
    ack: usize,
}

/// The server's end: the named queues as takers see them.
pub struct Taking {
    queue: Arc<dyn Queue>,
    log: Log,
    lent: Mutex<HashSet<TransactionId>>,
    takers: AtomicUsize,
    dropped: AtomicU64,
}

impl Taking {
    /// Nothing is lent out.
    pub fn new(queue: Arc<dyn Queue>, log: Log) -> Arc<Self> {
        let (lent, takers, dropped) = (Mutex::default(), AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Self { queue, log, lent, takers, dropped })
    }

    /// The named queues that hold something.
    pub fn shelves(&self) -> Vec<Shelf> {
        self.queue.shelves()
    }

    /// Entries that were dropped since the start because there were too many.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Answers [`Request::QueueTake`].
    ///
    /// # Errors
    /// When there are too many takers already.
    pub fn take(self: &Arc<Self>, name: String, limit: u32) -> Result<Reply, String> {
        if self.takers.fetch_add(1, Ordering::Relaxed) >= TAKERS_MAX {
            self.takers.fetch_sub(1, Ordering::Relaxed);
            return Err(format!("{TAKERS_MAX} others are taking results; try again later"));
        }
        let loan = Loan { taking: self.clone(), ids: Vec::new() };
        let limit = limit.min(ENTRIES_MAX) as usize;
        Ok(Reply::Conversation(Box::new(move |stream| {
            // The taker sees that its answer was cut off; what it did not acknowledge stays.
            let _ = loan.serve(&name, limit, stream);
        })))
    }

    /// Drops the oldest entries while there are more, or larger ones, than may be. Called once a second,
    /// so that is how long a queue may be above its bound.
    pub fn trim(&self, entries_max: u64, bytes_max: u64) {
        let mut shelves = self.queue.shelves();
        let mut entries: u64 = shelves.iter().map(|shelf| shelf.entries).sum();
        let mut bytes: u64 = shelves.iter().map(|shelf| shelf.bytes).sum();
        if entries <= entries_max && bytes <= bytes_max {
            return;
        }
        shelves.sort_by_key(|shelf| std::cmp::Reverse(shelf.bytes));
        let mut dropped = 0;
        for shelf in shelves {
            let ids = self.queue.shelved(&shelf.name, None, DROPPED_AT_ONCE);
            let mut gone = Vec::new();
            for (id, size) in ids {
                if entries <= entries_max && bytes <= bytes_max {
                    break;
                }
                gone.push(id);
                entries -= 1;
                bytes = bytes.saturating_sub(u64::from(size));
            }
            dropped += gone.len() as u64;
            self.settle(&gone, "there are too many");
        }
        self.dropped.fetch_add(dropped, Ordering::Relaxed);
        let text = format_args!(
            "{dropped} results were dropped, the oldest: queue-results-max or queue-results-size is \
             reached, and nobody takes them (rohrpost queue take)"
        );
        self.log.limited("results-dropped", Level::Critical, "queue", text);
    }

    fn lent(&self) -> MutexGuard<'_, HashSet<TransactionId>> {
        // No holder of the lock leaves the set half changed.
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lends the next entries after `after` to somebody.
    fn lend(
        &self,
        name: &str,
        mut after: Option<TransactionId>,
        limit: usize,
    ) -> Vec<TransactionId> {
        let mut ids = Vec::new();
        while ids.len() < limit {
            let page = self.queue.shelved(name, after, PAGE);
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let mut lent = self.lent();
            let free = page.iter().map(|(id, _)| *id).filter(|id| lent.insert(*id));
            // Only as many are lent as are taken from the iterator.
            ids.extend(free.take(limit - ids.len()));
        }
        ids
    }

    /// Lets the queue forget entries.
    fn settle(&self, ids: &[TransactionId], why: &str) {
        let at_ms = Wall::now_ms();
        let settle = |id: &TransactionId| {
            let mail: MailId = id.mail(0);
            Entry::Settle(Attempt {
                mail,
                at_ms,
                next: Next::Removed,
                state: "process".into(),
                result: "accepted".into(),
                code: 0,
                status: "".into(),
                description: why.into(),
                from: None,
                to: None,
                facts: None,
            })
        };
        if !ids.is_empty() {
            self.queue.hand_over(NOBODY, ids.iter().map(settle).collect());
        }
    }
}

/// What one taker has.
struct Loan {
    taking: Arc<Taking>,
    ids: Vec<TransactionId>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut lent = self.taking.lent();
        for id in &self.ids {
            lent.remove(id);
        }
        drop(lent);
        self.taking.takers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Loan {
    fn serve(mut self, name: &str, limit: usize, mut stream: Conversation) -> io::Result<()> {
        stream.get_mut().extend(Instant::now() + SEND_TIMEOUT);
        let sent = self.send(name, limit, stream.get_mut())?;
        stream.get_mut().extend(Instant::now() + ACK_TIMEOUT);
        let ack = match control::receive(&mut stream, control::REQUEST_BYTES_MAX) {
            Ok(Ack { ack }) => ack.min(sent.len()),
            Err(ReceiveError::Io(error)) => return Err(error),
            Err(ReceiveError::TooLong | ReceiveError::Nonsense(_)) => {
                let text = "this acknowledges nothing".to_owned();
                return control::send(stream.get_mut(), &Line::Error(text));
            }
        };
        self.taking.settle(&sent[..ack], "taken");
        self.await_removal(name, &sent[..ack]);
        stream.get_mut().extend(Instant::now() + SEND_TIMEOUT);
        control::send(stream.get_mut(), &Line::End(ack as u64))
    }

    /// Sends entries, one in memory at a time; returns their ids.
    fn send(
        &mut self,
        name: &str,
        limit: usize,
        stream: &mut control::Timed,
    ) -> io::Result<Vec<TransactionId>> {
        let mut out = BufWriter::new(stream);
        let mut sent = Vec::new();
        while sent.len() < limit {
            let after = self.ids.last().copied();
            let lent = self.taking.lend(name, after, PAGE.min(limit - sent.len()));
            if lent.is_empty() {
                break;
            }
            self.ids.extend(&lent);
            for id in lent {
                if let Some(result) = self.read(id) {
                    control::send(
                        &mut out,
                        &Line::Row(json!({ "id": id.to_string(), "result": result })),
                    )?;
                    sent.push(id);
                }
            }
        }
        control::send(&mut out, &Line::End(sent.len() as u64))?;
        out.flush()?;
        Ok(sent)
    }

    fn read(&self, id: TransactionId) -> Option<Value> {
        let taking = &self.taking;
        let why = match taking.queue.read(id) {
            Ok(transaction) => {
                let text = transaction.bodies.first().map(|body| body.as_bytes());
                match serde_json::from_slice(text.unwrap_or_default()) {
                    Ok(result) => return Some(result),
                    Err(error) => error.to_string(),
                }
            }
            // Somebody else took it, or it was dropped.
            Err(ReadError::Unknown(_)) => return None,
            Err(error @ ReadError::Io { .. }) => {
                let text = format_args!("a result cannot be read now: {error}");
                taking.log.limited("result-unread", Level::Critical, "queue", text);
                return None;
            }
            Err(error @ ReadError::Damaged(_)) => error.to_string(),
        };
        let text = format_args!("result {id} is lost: {why}");
        taking.log.limited("result-lost", Level::Critical, "queue", text);
        taking.settle(&[id], "damaged");
        None
    }

    /// Waits until the queue lists none of these any more, so that the next taker does not see them.
    fn await_removal(&self, name: &str, ids: &[TransactionId]) {
        let end = Instant::now() + REMOVE_TIMEOUT;
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return };
        // They are removed in the order in which they were settled.
        let listed = |id: &TransactionId| {
            let before = TransactionId::from_u64(id.as_u64().saturating_sub(1));
            let found = self.taking.queue.shelved(name, Some(before), 1);
            found.first().is_some_and(|(found, _)| found == id)
        };
        while (listed(first) || listed(last)) && Instant::now() < end {
            std::thread::sleep(REMOVE_LOOK);
        }
    }
}

/// Why a taker has to give up.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The server cannot be asked, or refuses.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// What was taken could not be written, so it stays where it is.
    #[error("results could not be written, and stay in the queue: {0}")]
    Output(#[source] io::Error),
}

/// A taker's end: writes entries of the queue `name` to `out` as JSON lines, up to `max` of them, and
/// acknowledges them when `out` was flushed. Returns how many it took; fewer than `max` means that the
/// queue is empty. All must be over within `wait`.
///
/// # Errors
/// See [`TakeError`]; what was not acknowledged stays in the queue.
pub fn take(
    queue_directory: &Path,
    name: &str,
    max: u32,
    out: &mut impl Write,
    wait: Duration,
) -> Result<u64, TakeError> {
    let request = Request::QueueTake { name: name.to_owned(), limit: max.min(ENTRIES_MAX) };
    let mut stream = control::talk(queue_directory, &request, wait)?;
    let mut rows: u64 = 0;
    loop {
        match receive(&mut stream)? {
            Line::Row(row) => {
                writeln!(out, "{}", row["result"]).map_err(TakeError::Output)?;
                rows += 1;
            }
            Line::End(sent) if sent == rows => break,
            Line::End(_) => return Err(ControlError::Strange.into()),
            Line::Error(text) => return Err(ControlError::Refused(text).into()),
        }
    }
    if rows == 0 {
        return Ok(0);
    }
    out.flush().map_err(TakeError::Output)?;
    let ack = Ack { ack: usize::try_from(rows).unwrap_or(usize::MAX) };
    control::send(stream.get_mut(), &ack).map_err(ControlError::Cut)?;
    match receive(&mut stream)? {
        Line::End(acknowledged) if acknowledged == rows => Ok(rows),
        Line::End(_) | Line::Row(_) => Err(ControlError::Strange.into()),
        Line::Error(text) => Err(ControlError::Refused(text).into()),
    }
}

fn receive(stream: &mut Conversation) -> Result<Line, ControlError> {
    control::receive(stream, control::ROW_BYTES_MAX).map_err(|error| match error {
        ReceiveError::Io(error) => ControlError::Cut(error),
        ReceiveError::TooLong | ReceiveError::Nonsense(_) => ControlError::Strange,
    })
}
