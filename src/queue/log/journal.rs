//! The log as a machine: entries and time in, durable bytes and completions out.
//!
//! Owns the order of every write and sync, what is answered when, and what happens when either
//! fails. This is the one file that knows how durable is done. Must not read a clock or start a
//! thread; [`commit`](super::commit) drives it.
//!
//! Diagnostics: refusals to the worker; every failure of the disk as a sentence in
//! [`Status::trouble`](crate::queue::Status::trouble).
//!
//! The rules:
//! - A transaction is in the index, and answered, only after the sync that covers it.
//! - After a failed write or sync the segment counts up to its last sync only. Nothing is written
//!   to it or synced again; what follows is cut off, so that a record that filled the disk does not
//!   keep it full. The next segment says so in its opening, voids by name the transactions
//!   that were refused with it, and repeats the settles that were not durable.
//! - A segment is removed only when everything in it and in all older ones is settled or rewritten,
//!   and the settles are durable. So a settle never goes before what it settles.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::batch::Batch;
use super::codec::{Opening, Unfit};
use super::gauges::Gauges;
use super::head::Head;
use super::index::{Held, HeldMail, Index};
use super::record::Place;
use super::recovery::Tail;
use super::reserve::Reserve;
use super::segment::{Location, SegmentName, Segments};
use super::space::Space;
use super::unsynced::{Companion, Durable, Group, Unsynced};
use crate::queue::engine::{Accepting, Completion, Entry, Refusal};
use crate::queue::mail::{Attempt, MailId, Transaction, TransactionId};
use crate::queue::storage::Storage;

/// After so many bytes a batch takes no further entry.
pub(super) const BATCH_BYTES_MAX: u64 = 8 << 20;
/// Most entries of a batch.
pub(super) const BATCH_ENTRIES_MAX: usize = 4096;
/// Most transactions that tell of one outcome; one more stands alone.
const COMPANIONS_MAX: usize = 15;
const _: () = assert!(
    COMPANIONS_MAX as u64 * super::batch::INTERNAL_BYTES_MAX
        <= super::record::RECORD_BYTES_MAX as u64
);
/// How often is looked for room for what waits for some.
const DEFERRED_MS: u64 = 100;
/// The first pause before a segment is opened again after a failure; doubled each time.
const REOPEN_MS_MIN: u64 = 50;
/// The longest such pause.
const REOPEN_MS_MAX: u64 = 2000;

/// What an administrator may choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// A segment is closed when it has reached so many bytes; at most [`Options::SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// Outcomes of attempts become durable with the next transaction, at the latest after so many
    /// milliseconds.
    pub settle_sync_ms: u64,
    /// Transactions are refused while fewer bytes are free, so that outcomes can still be written.
    pub min_free_bytes: u64,
    /// Bytes kept for outcomes when others fill the disk; 0 for none.
    pub reserve_bytes: u64,
}

impl Options {
    /// The largest [`Options::segment_bytes`]; with one batch more a segment stays below 4 GiB.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: 64 << 20,
            settle_sync_ms: 100,
            min_free_bytes: 64 << 20,
            reserve_bytes: 2 << 20,
        }
    }
}

const _: () = assert!(
    Options::SEGMENT_BYTES_MAX
        + BATCH_BYTES_MAX
        + super::compaction::REWRITE_BYTES_MAX
        + 2 * (super::record::RECORD_BYTES_MAX as u64)
        < u32::MAX as u64
);

/// An entry with the worker that handed it over.
pub(super) type Handed = (usize, Entry);

/// The writing side of the log.
pub(super) struct Journal {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) options: Options,
    index: Arc<Mutex<Index>>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) segments: Segments,
    pub(super) state: State,
    /// What the next opening says of its predecessor: number, bytes that count.
    previous: (u64, u64),
    pub(super) oldest: u64,
    /// Whether all is known that was there at the start: until then nothing is removed or rewritten.
    pub(super) whole: bool,
    next_number: u64,
    /// The largest id of any transaction so far.
    id_max: Option<TransactionId>,
    /// A segment with bytes that do not count and how many do, until the rest is cut off.
    untrimmed: Option<(SegmentName, u64)>,
    pub(super) batch: Batch,
    pub(super) unsynced: Unsynced,
    pub(super) space: Space,
    pub(super) compaction: super::compaction::Compaction,
}

/// Whether there is a segment to write to.
pub(super) enum State {
    Open(Head),
    Closed {
        /// When to try again.
        retry_ms: u64,
        /// How long to wait after that.
        pause_ms: u64,
        refusal: Refusal,
    },
}

/// What one batch holds.
#[derive(Default)]
struct Round {
    accepts: Vec<Taken>,
    moves: Vec<super::compaction::Move>,
    written: bool,
}

struct Taken {
    worker: usize,
    transaction: Arc<Transaction>,
    fate: Result<Location, Refusal>,
}

pub(super) type Completions = BTreeMap<usize, Completion>;

impl Journal {
    /// Continues after `tail`. Opens no segment yet.
    pub(super) fn new(
        storage: Arc<dyn Storage>,
        options: Options,
        tail: Tail,
        next_number: u64,
        index: Arc<Mutex<Index>>,
        gauges: Arc<Gauges>,
    ) -> Self {
        let mut options = options;
        options.segment_bytes = options.segment_bytes.clamp(1, Options::SEGMENT_BYTES_MAX);
        let reserve = Reserve::find(&*storage, options.reserve_bytes);
        Self {
            storage,
            index,
            gauges,
            segments: Segments::default(),
            state: State::Closed { retry_ms: 0, pause_ms: REOPEN_MS_MIN, refusal: Refusal::Failed },
            previous: tail.previous,
            oldest: tail.oldest,
            whole: false,
            next_number,
            id_max: tail.id_max,
            untrimmed: None,
            batch: Batch::new(SegmentName { number: 0, salt: 0 }, 0),
            unsynced: Unsynced::default(),
            space: Space::new(options.min_free_bytes, reserve),
            compaction: super::compaction::Compaction::default(),
            options,
        }
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        // No holder of the lock leaves the index half changed.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes one batch from the front of `queue`, as large as the limits allow. `now_ms` is
    /// monotonic. Returns what became durable or was refused, by worker.
    pub(super) fn commit(&mut self, queue: &mut VecDeque<Handed>, now_ms: u64) -> Completions {
        let mut done = Completions::new();
        if let Err(error) = self.space.look(&*self.storage, now_ms) {
            self.gauges
                .trouble("the free space could not be determined, or no reserve be made", &error);
        }
        self.prepare(now_ms, &mut done);
        let mut round = Round::default();
        if let State::Open(head) = &self.state {
            self.batch.reset(head.name(), head.written());
            self.add_release();
            round.moves = self.add_survivors(now_ms);
            self.add_deferred(now_ms);
        }
        self.take(queue, &mut round, now_ms);
        self.write(&mut round, now_ms);
        self.conclude(round, &mut done);
        self.publish();
        done
    }

    /// Makes durable what is written, whatever the deadlines say. Returns how many settles could
    /// not be.
    pub(super) fn finish(&mut self, now_ms: u64, done: &mut Completions) -> usize {
        // The second round is for the segment after one that failed.
        for _ in 0..2 {
            if let State::Closed { retry_ms, .. } = &mut self.state {
                *retry_ms = now_ms;
            }
            self.prepare(now_ms, done);
            if self.unsynced.since_ms.is_some() {
                self.sync(now_ms, done);
            }
        }
        while let State::Open(head) = &self.state {
            self.batch.reset(head.name(), head.written());
            self.add_deferred(now_ms);
            if self.batch.bytes() == 0 {
                break;
            }
            self.write(&mut Round::default(), now_ms);
            self.sync(now_ms, done);
        }
        self.publish();
        self.unsynced.settles()
    }

    /// When [`Journal::commit`] is to be called even without entries.
    pub(super) fn next_wake(&self, now_ms: u64) -> Option<u64> {
        let deadlines = match &self.state {
            State::Closed { retry_ms, .. } => [Some(*retry_ms), None, None],
            State::Open(_) => [
                // What was written may have given room for more of what waits.
                self.unsynced.has_deferred().then_some(now_ms + DEFERRED_MS),
                self.unsynced.since_ms.map(|since| since + self.options.settle_sync_ms),
                self.compaction_due(now_ms),
            ],
        };
        deadlines.into_iter().chain([self.space.next_look()]).flatten().min()
    }

    /// Sees to it that there is a segment with room, if the disk lets us.
    fn prepare(&mut self, now_ms: u64, done: &mut Completions) {
        if let State::Open(head) = &self.state
            && head.written() >= self.options.segment_bytes
        {
            if head.written() != head.synced() {
                self.sync(now_ms, done);
            }
            if let State::Open(head) = &self.state {
                self.previous = (head.name().number, head.synced());
                self.state = closed(now_ms, REOPEN_MS_MIN, Refusal::Failed);
            }
        }
        if let State::Closed { retry_ms, pause_ms, .. } = self.state
            && retry_ms <= now_ms
        {
            self.trim();
            match self.open_segment(now_ms) {
                Ok(head) => {
                    self.state = State::Open(head);
                    self.on_settles_durable(done);
                    self.unsynced.voids.clear();
                }
                Err(error) => {
                    // Nothing of it counts: what it held is laid out anew with the next attempt.
                    self.unsynced.undefer();
                    self.batch.clear();
                    self.gauges.trouble("a segment could not be opened", &error);
                    let refusal = refusal_of(&error);
                    let pause = (pause_ms * 2).min(REOPEN_MS_MAX);
                    self.state =
                        State::Closed { retry_ms: now_ms + pause_ms, pause_ms: pause, refusal };
                }
            }
        }
    }

    /// A new segment that says how far the one before counts, voids what was refused with it and
    /// repeats the settles that it may have lost; durable with its name.
    fn open_segment(&mut self, now_ms: u64) -> io::Result<Head> {
        let name = SegmentName { number: self.next_number, salt: self.storage.salt()? };
        self.next_number += 1;
        let file = self.storage.create(&name.to_string())?;
        let mut head = Head::new(file, name);
        self.batch.reset(name, 0);
        let (previous, previous_bytes) = self.previous;
        let (oldest, id_max) = (self.oldest, self.id_max);
        self.batch.add_opening(&Opening { previous, previous_bytes, oldest, id_max });
        if !self.unsynced.voids.is_empty() {
            self.batch.add_void(&self.unsynced.voids);
        }
        let all = self.unsynced.take_all();
        let places = self.lay_all(all);
        let written = head
            .write(&self.batch)
            .and_then(|()| head.sync())
            .and_then(|()| self.storage.sync_directory());
        if let Err(error) = written {
            self.space.on_failure(&*self.storage, &error, now_ms);
            // If it stays, the next opening says that nothing in it counts.
            if self.storage.remove(&name.to_string()).is_err() {
                let _ = self.storage.truncate(&name.to_string(), 0);
            }
            return Err(error);
        }
        self.space.on_written(head.written());
        self.gauges.count_sync();
        self.segments.push(name);
        self.segments.on_length(name.number, head.written());
        let mut index = self.index();
        index.add_segment(name);
        for (mail, place) in places {
            index.on_settle_placed(mail, place);
        }
        drop(index);
        self.free();
        Ok(head)
    }

    /// Lays out what was handed over before, as much as there is room for; the rest waits. Returns where
    /// the outcomes are.
    fn lay_all(&mut self, groups: Vec<Group>) -> Vec<(MailId, Place)> {
        let mut places = Vec::with_capacity(groups.len());
        let end = self.batch.bytes() + self.space.stride();
        for mut group in groups {
            if self.batch.bytes() < end.min(BATCH_BYTES_MAX) && self.fits(&group) {
                places.extend(add_group(&mut self.batch, &mut group, &self.gauges));
                self.unsynced.lay(group);
            } else {
                self.unsynced.defer(group);
            }
        }
        places
    }

    /// Whether there is room for what tells of an outcome, and nothing of the same message is before it.
    fn fits(&self, group: &Group) -> bool {
        let waits = group.of().is_some_and(|id| self.unsynced.waits(id));
        let room = || self.space.room_to_tell(self.batch.bytes());
        !waits && (group.companions.is_empty() || group.companion_bytes() < room())
    }

    /// Adds what waited for room to the batch.
    fn add_deferred(&mut self, now_ms: u64) {
        if !self.unsynced.has_deferred() {
            return;
        }
        let deferred = self.unsynced.take_deferred();
        let before = self.batch.bytes();
        let places = self.lay_all(deferred);
        if self.batch.bytes() > before {
            self.unsynced.since_ms.get_or_insert(now_ms);
        }
        let mut index = self.index();
        for (mail, place) in places {
            index.on_settle_placed(mail, place);
        }
        drop(index);
        self.free();
    }

    /// Outcomes are in the segment: what they freed may go when that is durable.
    fn free(&mut self) {
        for location in self.unsynced.take_freed() {
            self.segments.on_freed(location);
        }
    }

    /// Moves entries from the queue into the batch.
    fn take(&mut self, queue: &mut VecDeque<Handed>, round: &mut Round, now_ms: u64) {
        // What waits for the outcome that it tells of.
        let mut companions = Vec::new();
        // Without a segment nothing is laid out, and whoever waits is to be told at once.
        let open = matches!(self.state, State::Open(_));
        for taken in 0.. {
            let full =
                taken >= BATCH_ENTRIES_MAX || (open && self.batch.bytes() >= BATCH_BYTES_MAX);
            // A group is never cut: it becomes durable as one.
            let entry = if full && companions.is_empty() { None } else { queue.pop_front() };
            match entry {
                Some((worker, Entry::Accept(transaction))) if transaction.is_internal() => {
                    self.id_max = self.id_max.max(Some(transaction.id));
                    companions.push(Companion { transaction, location: None });
                    let same = queue.front().is_some_and(|(next, _)| *next == worker);
                    if !same || companions.len() == COMPANIONS_MAX {
                        self.take_alone(worker, &mut companions, now_ms);
                    }
                }
                Some((worker, Entry::Accept(transaction))) => {
                    self.take_alone(worker, &mut companions, now_ms);
                    let fate = self.take_accept(&transaction);
                    round.accepts.push(Taken { worker, transaction, fate });
                }
                Some((worker, Entry::Settle(attempt))) => {
                    let companions = std::mem::take(&mut companions);
                    self.take_settle(worker, companions, attempt, now_ms);
                }
                None => break,
            }
        }
    }

    /// No outcome follows these: each becomes durable by itself.
    fn take_alone(&mut self, worker: usize, companions: &mut Vec<Companion>, now_ms: u64) {
        for companion in companions.drain(..) {
            let companions = vec![companion];
            let group = Group { worker, companions, settle: None, freed: None };
            self.take_group(group, now_ms);
        }
    }

    fn take_accept(&mut self, transaction: &Transaction) -> Result<Location, Refusal> {
        if let State::Closed { refusal, .. } = self.state {
            return Err(refusal);
        }
        self.id_max = self.id_max.max(Some(transaction.id));
        if self.space.is_full() {
            return Err(Refusal::Full);
        }
        if self.index().get(transaction.id).is_some() {
            self.gauges.trouble("a transaction was refused", &"its id is in use");
            return Err(Refusal::Failed);
        }
        let room = self.space.room(self.batch.bytes());
        self.batch.add_accept(transaction, &[], room).map_err(|unfit| {
            self.gauges.trouble("a transaction was refused", &unfit);
            match unfit {
                Unfit::NoRoom(_) => Refusal::Full,
                Unfit::TooLarge(_) => Refusal::TooLarge,
                Unfit::Malformed(_) => Refusal::Failed,
            }
        })
    }

    fn take_settle(
        &mut self,
        worker: usize,
        companions: Vec<Companion>,
        attempt: Attempt,
        now_ms: u64,
    ) {
        let settled = self.index().settle(&attempt);
        let settle = Some((attempt, settled.number));
        self.take_group(Group { worker, companions, settle, freed: settled.freed }, now_ms);
    }

    /// Outcomes are written while there is any room at all, what tells of them while it does not take
    /// theirs.
    fn take_group(&mut self, mut group: Group, now_ms: u64) {
        if let State::Open(_) = self.state {
            if !self.fits(&group) {
                return self.unsynced.add_deferred(group);
            }
            if let Some(location) = group.freed.take() {
                self.segments.on_freed(location);
            }
            if let Some((mail, place)) = add_group(&mut self.batch, &mut group, &self.gauges) {
                self.index().on_settle_placed(mail, place);
            }
        }
        self.unsynced.add(group, now_ms);
    }

    /// Writes the batch, and syncs it if someone waits for it or the settles have waited enough.
    fn write(&mut self, round: &mut Round, now_ms: u64) {
        let State::Open(head) = &mut self.state else {
            return;
        };
        let mut outcome = Ok(());
        if self.batch.bytes() > 0 {
            outcome = head.write(&self.batch);
            self.space.on_written(self.batch.bytes());
            self.unsynced.since_ms.get_or_insert(now_ms);
            self.gauges.count_commit();
        }
        let waiting = round.accepts.iter().any(|taken| taken.fate.is_ok());
        let late = self
            .unsynced
            .since_ms
            .is_some_and(|since| since + self.options.settle_sync_ms <= now_ms);
        let sync = waiting || late || !round.moves.is_empty();
        if sync && outcome.is_ok() {
            outcome = head.sync();
            self.gauges.count_sync();
        }
        match outcome {
            Ok(()) => round.written = sync,
            Err(error) => self.on_failure(round, &error, now_ms),
        }
    }

    /// Syncs outside of a batch.
    fn sync(&mut self, now_ms: u64, done: &mut Completions) {
        let State::Open(head) = &mut self.state else {
            return;
        };
        self.gauges.count_sync();
        match head.sync() {
            Ok(()) => self.on_synced(done),
            Err(error) => self.on_failure(&mut Round::default(), &error, now_ms),
        }
    }

    /// Closes the head for good: it counts as far as it was synced. The next one is opened with the
    /// next batch.
    fn on_failure(&mut self, round: &mut Round, error: &io::Error, now_ms: u64) {
        self.gauges.trouble("a segment could not be written", error);
        let State::Open(head) = &self.state else {
            return;
        };
        let (name, synced) = (head.name(), head.synced());
        self.segments.on_length(name.number, head.written());
        self.untrimmed = Some((name, synced));
        let refusal = refusal_of(error);
        for taken in &mut round.accepts {
            if taken.fate.is_ok() {
                taken.fate = Err(refusal);
                self.unsynced.voids.push(taken.transaction.id);
            }
        }
        round.moves.clear();
        self.on_compaction_failed(now_ms);
        self.previous = (name.number, synced);
        self.state = closed(now_ms, REOPEN_MS_MIN, refusal);
        self.space.on_failure(&*self.storage, error, now_ms);
        self.unsynced.undefer();
        self.trim();
    }

    /// Gives back what a failed write left behind the last sync. If this fails too, it is tried
    /// again before the next segment is opened, and by the next start.
    fn trim(&mut self) {
        let Some((name, bytes)) = self.untrimmed else {
            return;
        };
        if self.storage.truncate(&name.to_string(), bytes).is_ok() {
            self.segments.on_length(name.number, bytes);
            self.untrimmed = None;
        }
    }

    /// Answers the batch.
    fn conclude(&mut self, round: Round, done: &mut Completions) {
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        let total = round.accepts.len() as u64;
        let mut accepted = 0;
        for Taken { worker, transaction, fate } in round.accepts {
            let id = transaction.id;
            if let Ok(location) = fate {
                // A second record under one id replaces the first, as it will at the next start.
                let entry = held(&transaction, location, &index);
                if let Some(held) = index.hold(id, entry) {
                    self.segments.on_freed(held.location());
                }
                self.segments.on_placed(id, location);
            }
            accepted += u64::from(fate.is_ok());
            let answer = fate.map(|_| ());
            done.entry(worker).or_default().accepted.push((id, answer));
        }
        drop(index);
        self.gauges.count_accepts(accepted, total - accepted);
        if round.written {
            self.on_moved(round.moves);
            self.on_synced(done);
        }
        if let State::Open(head) = &self.state {
            self.segments.on_length(head.name().number, head.written());
        }
    }

    /// Everything written is durable.
    fn on_synced(&mut self, done: &mut Completions) {
        self.on_settles_durable(done);
        self.on_release_durable();
    }

    fn on_settles_durable(&mut self, done: &mut Completions) {
        self.space.on_success();
        let Durable { groups, owed } = self.unsynced.take();
        for (worker, settled) in owed {
            done.entry(worker).or_default().settled += settled;
        }
        for group in &groups {
            for companion in &group.companions {
                self.on_companion_durable(group.worker, companion, done);
            }
        }
        self.unsynced.reuse(groups);
    }

    fn on_companion_durable(
        &mut self,
        worker: usize,
        Companion { transaction, location }: &Companion,
        done: &mut Completions,
    ) {
        let id = transaction.id;
        let mut index = self.index.lock().unwrap_or_else(PoisonError::into_inner);
        // What has no place had no record that could hold it, which was said.
        let answer = location.ok_or(Refusal::TooLarge);
        if let Ok(location) = answer {
            let entry = held(transaction, location, &index);
            if let Some(held) = index.hold(id, entry) {
                self.segments.on_freed(held.location());
            }
            self.segments.on_placed(id, location);
        }
        drop(index);
        // The entry of a named queue belongs to no worker.
        if transaction.shelf.is_none() {
            done.entry(worker).or_default().accepted.push((id, answer.map(|_| ())));
        }
    }

    pub(super) fn publish(&self) {
        let accepting = match &self.state {
            State::Closed { refusal: Refusal::Full, .. } => Accepting::Full,
            State::Closed { .. } => Accepting::Failed,
            State::Open(_) if self.space.is_full() => Accepting::Full,
            State::Open(_) => Accepting::Yes,
        };
        let settles = self.unsynced.settles();
        let transactions = self.index().len();
        self.gauges.update(accepting, !self.unsynced.is_too_much(), |status| {
            status.settles_unsynced = settles as u64;
            status.transactions = transactions as u64;
            status.segments = self.segments.list().len() as u64;
            status.total_bytes = self.segments.total_bytes();
            status.live_bytes = self.segments.live_bytes();
        });
    }
}

/// Adds what becomes durable as one. Returns where the outcome is.
fn add_group(batch: &mut Batch, group: &mut Group, gauges: &Gauges) -> Option<(MailId, Place)> {
    let mut written = 0;
    for Companion { transaction, location } in &mut group.companions {
        *location = match batch.add_internal(transaction, group.settle.is_some()) {
            Ok(location) => Some(location),
            Err(unfit) => {
                gauges.trouble("what tells of an outcome was lost", &unfit);
                None
            }
        };
        written += u8::from(location.is_some());
    }
    let (attempt, number) = group.settle.as_ref()?;
    Some((attempt.mail, batch.add_settle(attempt, *number, written).place))
}

fn held(transaction: &Transaction, location: Location, index: &Index) -> Held {
    let mail = |index| HeldMail { index, attempts: 0, outcomes: Vec::new() };
    let mails = transaction.mails.iter().map(|each| mail(each.index));
    let shelf = transaction.shelf.as_deref().map(|name| index.shelves.name(name));
    Held::new(location, mails, shelf)
}

fn closed(retry_ms: u64, pause_ms: u64, refusal: Refusal) -> State {
    State::Closed { retry_ms, pause_ms, refusal }
}

/// A full disk passes by itself; everything else is a failure.
fn refusal_of(error: &io::Error) -> Refusal {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Refusal::Full,
        _ => Refusal::Failed,
    }
}
