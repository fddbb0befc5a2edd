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
/// Octets of the results of one answer; the last one may exceed it. A slow taker gets that much in time.
const ANSWER_BYTES_MAX: usize = 8 << 20;
/// How long the entries of one answer may take to be sent.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// Octets of the lines of one answer before its last one, at a taker; numbers may be written longer here.
const LINES_BYTES_MAX: usize = 4 * ANSWER_BYTES_MAX;
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
    trim: Mutex<Trim>,
    takers: AtomicUsize,
    dropped: AtomicU64,
    /// See [`REMOVE_TIMEOUT`].
    patience: Duration,
}

/// What was dropped last, until the queue lists it no more. It counts as lent so long.
#[derive(Default)]
struct Trim {
    ids: Vec<TransactionId>,
    /// Of each named queue the last of these, which goes last.
    last: Vec<(Box<str>, TransactionId)>,
}

impl Taking {
    /// Nothing is lent out.
    pub fn new(queue: Arc<dyn Queue>, log: Log) -> Arc<Self> {
        Arc::new(Self {
            queue,
            log,
            lent: Mutex::default(),
            trim: Mutex::default(),
            takers: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            patience: REMOVE_TIMEOUT,
        })
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

    /// Drops the oldest entries while there are more, or larger ones, than may be, but none that somebody
    /// is about to take. Called once a second, so that is how long a queue may be above its bound; longer
    /// while the disk is away, because nothing is dropped before what was dropped last has gone.
    pub fn trim(&self, entries_max: u64, bytes_max: u64) {
        // No holder of the lock leaves it half changed.
        let mut trim = self.trim.lock().unwrap_or_else(PoisonError::into_inner);
        if trim.last.iter().any(|(name, id)| self.lists(name, *id)) {
            return;
        }
        let Trim { ids, .. } = std::mem::take(&mut *trim);
        let mut lent = self.lent();
        for id in &ids {
            lent.remove(id);
        }
        drop(lent);
        *trim = self.drop_oldest(entries_max, bytes_max);
        if trim.ids.is_empty() {
            return;
        }
        let dropped = trim.ids.len();
        self.dropped.fetch_add(dropped as u64, Ordering::Relaxed);
        let text = format_args!(
            "{dropped} results were dropped, the oldest: queue-results-max or queue-results-size is \
             reached, and nobody takes them (rohrpost queue take)"
        );
        self.log.limited("results-dropped", Level::Critical, "queue", text);
    }

    /// Lets go of the oldest entries that are not lent, of the largest queue first.
    fn drop_oldest(&self, entries_max: u64, bytes_max: u64) -> Trim {
        let mut shelves = self.queue.shelves();
        let mut entries: u64 = shelves.iter().map(|shelf| shelf.entries).sum();
        let mut bytes: u64 = shelves.iter().map(|shelf| shelf.bytes).sum();
        let mut trim = Trim::default();
        shelves.sort_by_key(|shelf| std::cmp::Reverse(shelf.bytes));
        for shelf in shelves {
            if entries <= entries_max && bytes <= bytes_max {
                break;
            }
            let listed = self.queue.shelved(&shelf.name, None, DROPPED_AT_ONCE);
            let mut gone = Vec::new();
            let mut lent = self.lent();
            for (id, size) in listed {
                if entries <= entries_max && bytes <= bytes_max {
                    break;
                }
                if lent.insert(id) {
                    gone.push(id);
                    // It may have grown since it was counted.
                    entries = entries.saturating_sub(1);
                    bytes = bytes.saturating_sub(u64::from(size));
                }
            }
            drop(lent);
            self.settle(&gone, "there are too many");
            trim.last.extend(gone.last().map(|last| (shelf.name.clone(), *last)));
            trim.ids.append(&mut gone);
        }
        trim
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

    /// Whether the queue `name` still holds an entry.
    fn lists(&self, name: &str, id: TransactionId) -> bool {
        let before = TransactionId::from_u64(id.as_u64().saturating_sub(1));
        let found = self.queue.shelved(name, Some(before), 1);
        found.first().is_some_and(|(found, _)| *found == id)
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
                extras: None,
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
        let removed = self.await_removal(name, &sent[..ack]);
        stream.get_mut().extend(Instant::now() + SEND_TIMEOUT);
        if !removed {
            let text = "the queue did not let go of what was acknowledged in time, as while its disk \
                        takes nothing: it may come again";
            return control::send(stream.get_mut(), &Line::Error(text.to_owned()));
        }
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
        let mut bytes = 0;
        while sent.len() < limit && bytes < ANSWER_BYTES_MAX {
            let after = self.ids.last().copied();
            let lent = self.taking.lend(name, after, PAGE.min(limit - sent.len()));
            if lent.is_empty() {
                break;
            }
            let first = self.ids.len();
            self.ids.extend(&lent);
            for (place, id) in lent.into_iter().enumerate() {
                if bytes >= ANSWER_BYTES_MAX {
                    self.give_back(first + place);
                    break;
                }
                if let Some((result, result_bytes)) = self.read(id) {
                    let row = json!({ "id": id.to_string(), "result": result });
                    control::send(&mut out, &Line::Row(row))?;
                    bytes += result_bytes;
                    sent.push(id);
                }
            }
        }
        control::send(&mut out, &Line::End(sent.len() as u64))?;
        out.flush()?;
        Ok(sent)
    }

    /// What was lent from this place on is not sent: others may have it.
    fn give_back(&mut self, place: usize) {
        let mut lent = self.taking.lent();
        for id in self.ids.drain(place..) {
            lent.remove(&id);
        }
    }

    /// A result, and its octets.
    fn read(&self, id: TransactionId) -> Option<(Value, usize)> {
        let taking = &self.taking;
        let why = match taking.queue.read(id) {
            Ok(transaction) => {
                let text = transaction.bodies.first().map(|body| body.as_bytes());
                let text = text.unwrap_or_default();
                match serde_json::from_slice(text) {
                    Ok(result) => return Some((result, text.len())),
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

    /// Waits until the queue lists none of these any more, so that the next taker does not see them;
    /// whether that came in time.
    fn await_removal(&self, name: &str, ids: &[TransactionId]) -> bool {
        let end = Instant::now() + self.taking.patience;
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return true };
        // They are removed in the order in which they were settled.
        let listed = |id: &TransactionId| self.taking.lists(name, *id);
        while listed(first) || listed(last) {
            if Instant::now() >= end {
                return false;
            }
            std::thread::sleep(REMOVE_LOOK);
        }
        true
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
/// acknowledges them when `out` was flushed. Returns how many it took: none means that the queue is empty,
/// or that `max` is 0. Nothing of an answer that is cut off is written. All must be over within `wait`.
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
    let mut lines: Vec<u8> = Vec::new();
    loop {
        match receive(&mut stream)? {
            // The server ends an answer at that size.
            Line::Row(_) if lines.len() >= LINES_BYTES_MAX => {
                return Err(ControlError::Strange.into());
            }
            Line::Row(row) => {
                writeln!(lines, "{}", row["result"]).map_err(TakeError::Output)?;
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
    out.write_all(&lines).and_then(|()| out.flush()).map_err(TakeError::Output)?;
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

#[cfg(test)]
#[path = "taking_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "taking_trim_tests.rs"]
mod trim_tests;
