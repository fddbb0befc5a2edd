//! The mails that one worker owns, from their commit until they are freed.
//!
//! A mail is ready, loading, active, waiting or failed, and nothing else; each state has a way
//! out: readiness by a connection, loading by the helper's answer, activity by the end of the
//! attempt, waiting and failure by the schedule. Age-out works in all of them but two: `Active`,
//! which ends within the deadlines of its connection, and `Loading`, which ends with the read.
//!
//! Memory: a body stays from the commit until the first attempt ended, then it is read back when
//! due. [`Store::take_released`] tells how many octets of the budget came free.
//!
//! Must never: open a socket or file, read a clock, answer a client.
//!
//! **Diagnostics**: [`Store::view`] explains one mail, with its attempts and why it waits.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::queue::{
    Attempt, MailId, Next, ReadError, Retrial, Retry, Schedule, Transaction, TransactionId,
    Waiting, Wishes,
};

use crate::results::ResultQueues;

use super::patience::Patience;
use super::{Ended, Fate, Finish};

/// Attempts of a mail that are kept in memory to be shown; the number of all is exact.
const ATTEMPTS_SHOWN: usize = 8;
/// Ready mails that are looked at for one whose text is in memory, when there is no room for another.
const MEMORY_SCAN: usize = 1_000;
/// Ready mails whose age is looked at per call of [`Store::pop_aged`].
const AGED_SCAN: usize = 1_000;
/// Ready mails that fail in one call because there is no way out.
const FAILED_AT_ONCE: usize = 10_000;
/// How long a mail rests whose text could not be read back.
const READ_PAUSE_MS: u64 = 60_000;

/// Both clocks, read at the same moment: schedules run on the monotonic one, records carry the
/// other.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Milliseconds since the start.
    pub mono_ms: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
}

impl Now {
    /// A unix time on the monotonic clock: the past is now, and nothing is further away than
    /// `span_ms`, however wrong the wall clock stood when it was written down.
    pub(super) fn mono_of(self, unix_ms: u64, span_ms: u64) -> u64 {
        self.mono_ms + unix_ms.saturating_sub(self.unix_ms).min(span_ms)
    }
}

/// The limits that rule all mails of a store.
#[derive(Clone, Debug)]
pub struct StoreLimits {
    /// When a mail that failed for now is tried again.
    pub retry: Retry,
    /// How long a mail may be under way, in milliseconds since it was received.
    pub deliver_ms_max: u64,
    /// Transactions that may be read back at a time.
    pub loading_max: usize,
    /// Where results go: a mail that failed is kept unless somebody takes its result.
    pub queues: ResultQueues,
}

/// Where a transaction's text is.
#[derive(Clone, Debug)]
pub enum Content {
    /// In memory.
    Memory(Arc<Transaction>),
    /// On disk only.
    Disk,
    /// On its way back into memory.
    Loading,
}

/// What one mail is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A connection.
    Ready,
    /// Its text.
    Loading,
    /// The end of an attempt.
    Active,
    /// A time on the monotonic clock, in milliseconds.
    Waiting(u64),
    /// Its removal: it failed for good.
    Failed,
    /// Nothing: it is gone.
    Freed,
}

/// What to do next for the ready mails.
#[derive(Debug)]
pub enum Work {
    /// Deliver this mail; it counts as active from now.
    Deliver(MailId, Arc<Transaction>),
    /// Read this transaction back; then say [`Store::on_loaded`].
    Load(TransactionId),
}

#[derive(Debug)]
struct Held {
    received_ms: u64,
    /// When its time is over, on the monotonic clock: a step of the wall clock removes no mail.
    expiry_ms: u64,
    body_bytes: u64,
    reserved: usize,
    content: Content,
    /// Mails that need the text now or soon: ready, loading or active. Counted, so that a
    /// transaction of many recipients costs no walk over all of them for each.
    needing: usize,
    /// Mails that are not freed.
    unfreed: usize,
    /// What it asks for itself.
    wishes: Option<Box<Wishes>>,
    mails: Box<[MailState]>,
}

impl Held {
    /// Moves a mail; returns where it was.
    fn move_to(&mut self, at: usize, place: Place) -> Place {
        let before = std::mem::replace(&mut self.mails[at].place, place);
        self.needing += usize::from(needs_text(place));
        self.needing -= usize::from(needs_text(before));
        self.unfreed += usize::from(place != Place::Freed);
        self.unfreed -= usize::from(before != Place::Freed);
        before
    }
}

fn needs_text(place: Place) -> bool {
    matches!(place, Place::Ready | Place::Loading | Place::Active)
}

#[derive(Debug)]
struct MailState {
    index: u16,
    place: Place,
    attempts: u32,
    envelope: Box<str>,
    recipient: Box<str>,
    recent: Vec<Attempt>,
}

/// One mail, explained.
#[derive(Clone, Debug, PartialEq)]
pub struct MailView {
    /// Its name.
    pub id: MailId,
    /// When it was received, unix milliseconds.
    pub received_ms: u64,
    /// Sender; empty is the null sender.
    pub envelope: Box<str>,
    /// Recipient.
    pub recipient: Box<str>,
    /// Octets of its transaction's texts.
    pub body_bytes: u64,
    /// What it waits for.
    pub place: Place,
    /// How many attempts there were.
    pub attempts: u32,
    /// The latest of them, oldest first.
    pub recent: Vec<Attempt>,
    /// What it asks for itself.
    pub wishes: Option<Box<Wishes>>,
}

/// The mails of one worker.
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    held: HashMap<TransactionId, Held>,
    ready: VecDeque<MailId>,
    schedule: Schedule<MailId>,
    loading: usize,
    active: usize,
    queued: usize,
    failed: usize,
    released: usize,
    scan: usize,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits) -> Store {
        Store {
            limits,
            held: HashMap::new(),
            ready: VecDeque::new(),
            schedule: Schedule::new(),
            loading: 0,
            active: 0,
            queued: 0,
            failed: 0,
            released: 0,
            scan: 0,
        }
    }

    /// A transaction that became durable. `reserved` octets of the memory budget came with it.
    pub fn admit(&mut self, transaction: Arc<Transaction>, reserved: usize, now: Now) {
        let patience = Patience::of(&self.limits, transaction.wishes.as_deref());
        let expiry_ms = patience.expiry_ms(transaction.received_ms, now);
        let place = patience
            .first_ms(now)
            .map_or(Place::Ready, |first_ms| Place::Waiting(first_ms.min(expiry_ms)));
        let mails = transaction
            .mails
            .iter()
            .map(|mail| MailState {
                index: mail.index,
                place,
                attempts: 0,
                envelope: mail.envelope.clone(),
                recipient: mail.recipient.clone(),
                recent: Vec::new(),
            })
            .collect::<Box<[MailState]>>();
        let id = transaction.id;
        self.queued += mails.len();
        let ids = mails.iter().map(|mail| id.mail(mail.index));
        match place {
            Place::Waiting(due_ms) => ids.for_each(|id| self.schedule.insert(due_ms, id)),
            _ => self.ready.extend(ids),
        }
        let held = Held {
            received_ms: transaction.received_ms,
            expiry_ms,
            body_bytes: transaction.body_bytes(),
            reserved,
            wishes: transaction.wishes.clone(),
            content: Content::Memory(transaction),
            needing: if needs_text(place) { mails.len() } else { 0 },
            unfreed: mails.len(),
            mails,
        };
        self.held.insert(id, held);
        self.shrink(id);
    }

    /// A transaction that the start found.
    pub fn restore(&mut self, waiting: Waiting, now: Now) {
        let patience = Patience::of(&self.limits, waiting.wishes.as_deref());
        let expiry_ms = patience.expiry_ms(waiting.received_ms, now);
        let pause_ms_max = patience.pause_ms_max().max(READ_PAUSE_MS);
        let first = patience
            .first_ms(now)
            .map_or(Place::Ready, |first_ms| Place::Waiting(first_ms.min(expiry_ms)));
        let mut mails = Vec::with_capacity(waiting.mails.len());
        for mail in waiting.mails {
            let id = waiting.id.mail(mail.index);
            let place = match mail.last.as_deref().map(|last| last.next) {
                None => first,
                Some(Next::Retry { not_before_ms }) => {
                    Place::Waiting(now.mono_of(not_before_ms, pause_ms_max).min(expiry_ms))
                }
                Some(Next::Failed | Next::Delivered | Next::Removed) => Place::Failed,
            };
            match place {
                Place::Waiting(due_ms) => self.schedule.insert(due_ms, id),
                Place::Failed => self.schedule.insert(expiry_ms, id),
                _ => self.ready.push_back(id),
            }
            self.failed += usize::from(place == Place::Failed);
            self.queued += 1;
            mails.push(MailState {
                index: mail.index,
                place,
                attempts: mail.attempts,
                envelope: mail.envelope,
                recipient: mail.recipient,
                recent: mail.last.map(|last| vec![*last]).unwrap_or_default(),
            });
        }
        let held = Held {
            received_ms: waiting.received_ms,
            expiry_ms,
            body_bytes: waiting.body_bytes,
            reserved: 0,
            content: Content::Disk,
            needing: mails.iter().filter(|mail| needs_text(mail.place)).count(),
            unfreed: mails.len(),
            wishes: waiting.wishes,
            mails: mails.into(),
        };
        self.held.insert(waiting.id, held);
    }

    /// Lets go of a text that no attempt needs right now, to give memory to newer mail.
    pub fn unload(&mut self, id: TransactionId) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        if !matches!(held.content, Content::Memory(_)) {
            return;
        }
        if held.mails.iter().all(|mail| mail.place != Place::Active) {
            held.content = Content::Disk;
            self.released += std::mem::take(&mut held.reserved);
        }
    }

    /// The next ready mail, made active, or the text that has to be read back for one. `reserve`
    /// asks the memory budget for a text's octets; refused, the mail stays ready, and one whose
    /// text is in memory goes first. If nothing else is under way the text is read back all the
    /// same, one at a time: else a text that is larger than the budget would never go out, nor
    /// anything behind it.
    pub fn take_work(&mut self, mut reserve: impl FnMut(usize) -> bool) -> Option<Work> {
        while let Some(&id) = self.ready.front() {
            let Some((held, place)) = find(&mut self.held, id) else {
                self.ready.pop_front();
                continue;
            };
            if held.mails[place].place != Place::Ready {
                self.ready.pop_front();
                continue;
            }
            match &held.content {
                Content::Memory(transaction) => {
                    let transaction = transaction.clone();
                    held.move_to(place, Place::Active);
                    self.active += 1;
                    self.ready.pop_front();
                    return Some(Work::Deliver(id, transaction));
                }
                Content::Loading => {
                    held.move_to(place, Place::Loading);
                    self.ready.pop_front();
                }
                Content::Disk => {
                    let bytes = usize::try_from(held.body_bytes).unwrap_or(usize::MAX);
                    if self.loading >= self.limits.loading_max {
                        return None;
                    }
                    let reserved = reserve(bytes);
                    if !reserved {
                        let work = self.take_from_memory();
                        if work.is_some() || self.loading + self.active > 0 {
                            return work;
                        }
                    }
                    let (held, place) = find(&mut self.held, id)?;
                    held.reserved = if reserved { bytes } else { 0 };
                    held.content = Content::Loading;
                    held.move_to(place, Place::Loading);
                    self.ready.pop_front();
                    self.loading += 1;
                    return Some(Work::Load(id.transaction));
                }
            }
        }
        None
    }

    /// The first ready mail, among as many as are looked at, whose text is in memory.
    fn take_from_memory(&mut self) -> Option<Work> {
        for at in 0..MEMORY_SCAN.min(self.ready.len()) {
            let id = self.ready[at];
            let Some((held, place)) = find(&mut self.held, id) else {
                continue;
            };
            if let (Place::Ready, Content::Memory(transaction)) =
                (held.mails[place].place, &held.content)
            {
                let transaction = transaction.clone();
                held.move_to(place, Place::Active);
                self.active += 1;
                self.ready.remove(at);
                return Some(Work::Deliver(id, transaction));
            }
        }
        None
    }

    /// The answer to [`Work::Load`]. Returns what has to be settled: a text that is lost fails
    /// its mails for good, a disk that did not answer is asked again later.
    pub fn on_loaded(
        &mut self,
        id: TransactionId,
        loaded: Result<Arc<Transaction>, ReadError>,
        now: Now,
    ) -> Vec<Ended> {
        self.loading -= 1;
        let Some(held) = self.held.get_mut(&id) else {
            return Vec::new();
        };
        let mut loading = Vec::new();
        for mail in &mut held.mails {
            if mail.place == Place::Loading {
                mail.place = Place::Ready;
                loading.push(id.mail(mail.index));
            }
        }
        match loaded {
            Ok(transaction) => {
                held.content = Content::Memory(transaction);
                // They were at the front before; the newest goes first, so reverse.
                loading.into_iter().rev().for_each(|id| self.ready.push_front(id));
                Vec::new()
            }
            Err(error) => {
                held.content = Content::Disk;
                self.released += std::mem::take(&mut held.reserved);
                let fate = match error {
                    ReadError::Unknown(_) | ReadError::Damaged(_) => Fate::Permanent,
                    ReadError::Io { .. } => Fate::Untried,
                };
                let finish = Finish::without_reply(fate, "storage", "error", error.to_string());
                loading
                    .into_iter()
                    .filter_map(|id| self.on_finish(id, finish.clone(), now))
                    .collect()
            }
        }
    }

    /// An active mail was not tried after all: its connection was lost before MAIL.
    pub fn give_back(&mut self, id: MailId) {
        if let Some((held, place)) = find(&mut self.held, id) {
            held.move_to(place, Place::Ready);
            self.active -= 1;
            self.ready.push_front(id);
        }
    }

    /// An attempt ended. Returns the record that settles it; `None` for a mail that is gone.
    pub fn on_finish(&mut self, id: MailId, mut finish: Finish, now: Now) -> Option<Ended> {
        let (held, place) = find(&mut self.held, id)?;
        held.mails[place].attempts += u32::from(finish.fate != Fate::Untried);
        // Its age, told by the clock that does not jump.
        let left_ms = held.expiry_ms.saturating_sub(now.mono_ms);
        let patience = Patience::of(&self.limits, held.wishes.as_deref());
        let failed = if patience.keeps_failed() { Next::Failed } else { Next::Removed };
        let next = match finish.fate {
            Fate::Delivered => Next::Delivered,
            Fate::Permanent => failed,
            Fate::Untried => Next::Retry { not_before_ms: now.unix_ms + READ_PAUSE_MS },
            Fate::Temporary => {
                match patience.next(held.mails[place].attempts, left_ms, now.unix_ms) {
                    Retrial::At(not_before_ms) => Next::Retry { not_before_ms },
                    Retrial::GiveUp => failed,
                }
            }
        };
        let facts = finish.facts.take();
        let attempt = Attempt {
            mail: id,
            at_ms: now.unix_ms,
            next,
            state: finish.state.into(),
            result: finish.result.into(),
            code: finish.code,
            status: finish.status.into(),
            description: finish.description.into(),
            from: finish.from,
            to: finish.to,
            facts: None,
        };
        self.apply(id, attempt, now).map(|ended| Ended { facts, ..ended })
    }

    /// A waiting or failed mail whose time has come: made ready, or aged out with the record that
    /// frees it.
    pub fn pop_due(&mut self, now: Now) -> Option<Option<Ended>> {
        let id = self.schedule.pop_due(now.mono_ms)?;
        let Some((held, place)) = find(&mut self.held, id) else {
            return Some(None);
        };
        let aged = now.mono_ms >= held.expiry_ms;
        match held.mails[place].place {
            Place::Waiting(_) if !aged => {
                held.move_to(place, Place::Ready);
                self.ready.push_back(id);
                Some(None)
            }
            Place::Waiting(_) | Place::Failed => Some(self.age_out(id, now)),
            Place::Ready | Place::Loading | Place::Active | Place::Freed => Some(None),
        }
    }

    /// Looks at some of the ready mails, in turn, and ages out those whose time is over though no
    /// connection came.
    pub fn pop_aged(&mut self, now: Now) -> Vec<Ended> {
        let mut aged = Vec::new();
        for _ in 0..AGED_SCAN.min(self.ready.len()) {
            self.scan = (self.scan + 1) % self.ready.len();
            let id = self.ready[self.scan];
            let Some((held, place)) = find(&mut self.held, id) else {
                continue;
            };
            if held.mails[place].place == Place::Ready && now.mono_ms >= held.expiry_ms {
                aged.extend(self.age_out(id, now));
            }
        }
        // While no connection comes nobody else takes what is gone off the queue.
        while let Some(&id) = self.ready.front()
            && find(&mut self.held, id)
                .is_none_or(|(held, place)| held.mails[place].place != Place::Ready)
        {
            self.ready.pop_front();
        }
        aged
    }

    /// Ready mails fail for good: there is no way out for any of them. The others follow at the next
    /// call.
    pub fn fail_ready(&mut self, why: &str, now: Now) -> Vec<Ended> {
        let finish = Finish::without_reply(Fate::Permanent, "connect", "error", why);
        let count = self.ready.len().min(FAILED_AT_ONCE);
        let ready: Vec<MailId> = self.ready.drain(..count).collect();
        let is_ready = |store: &mut Store, id| {
            find(&mut store.held, id)
                .is_some_and(|(held, place)| held.mails[place].place == Place::Ready)
        };
        ready
            .into_iter()
            .filter_map(|id| {
                if is_ready(self, id) { self.on_finish(id, finish.clone(), now) } else { None }
            })
            .collect()
    }

    /// The next time something is due, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        self.schedule.next_due()
    }

    /// Octets of the memory budget that came free since the last call.
    pub fn take_released(&mut self) -> usize {
        std::mem::take(&mut self.released)
    }

    /// Mails held, failed ones included.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Of these, failed for good.
    pub fn failed(&self) -> usize {
        self.failed
    }

    /// Mails (at most: some may be gone) that wait for a connection.
    pub fn ready(&self) -> usize {
        self.ready.len()
    }

    /// Mails that need no time to pass: ready, being read back, or being sent; at most, since some
    /// may be gone.
    pub fn under_way(&self) -> usize {
        self.ready.len() + self.loading + self.active
    }

    /// The mail of an attempt that ended, with the attempts before that one; their number counts it.
    pub fn mail_of(&self, ended: &mut Ended) -> Option<MailView> {
        if let Some(freed) = ended.freed.take() {
            return Some(freed);
        }
        let mut view = self.view(ended.attempt.mail)?;
        view.recent.pop();
        Some(view)
    }

    /// Where the settings send results.
    pub fn queues(&self) -> &ResultQueues {
        &self.limits.queues
    }

    /// What a transaction asks for itself.
    pub fn wishes(&self, id: TransactionId) -> Option<&Wishes> {
        self.held.get(&id)?.wishes.as_deref()
    }

    /// One mail, explained.
    pub fn view(&self, id: MailId) -> Option<MailView> {
        let held = self.held.get(&id.transaction)?;
        let place = held.mails.binary_search_by_key(&id.index, |mail| mail.index).ok()?;
        let mail = &held.mails[place];
        (mail.place != Place::Freed).then(|| view(id, held, mail))
    }

    /// All mails of one transaction, explained.
    pub fn view_all(&self, id: TransactionId) -> Vec<MailView> {
        let mails = self.held.get(&id).map(|held| &*held.mails).unwrap_or_default();
        mails.iter().filter_map(|mail| self.view(id.mail(mail.index))).collect()
    }

    /// Mails by id, those after `after` and at most `limit`.
    pub fn views(&self, after: Option<MailId>, limit: usize) -> Vec<MailView> {
        let mut ids: Vec<MailId> = self
            .held
            .iter()
            .flat_map(|(id, held)| held.mails.iter().map(move |mail| (*id, mail)))
            .filter(|(_, mail)| mail.place != Place::Freed)
            .map(|(id, mail)| id.mail(mail.index))
            .filter(|&id| after.is_none_or(|after| id > after))
            .collect();
        if limit < ids.len() {
            ids.select_nth_unstable(limit);
            ids.truncate(limit);
        }
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.view(id)).collect()
    }

    fn age_out(&mut self, id: MailId, now: Now) -> Option<Ended> {
        let attempt = Attempt {
            mail: id,
            at_ms: now.unix_ms,
            next: Next::Removed,
            state: "process".into(),
            result: "timeout".into(),
            code: 0,
            status: "".into(),
            description: "max-delivertime is over".into(),
            from: None,
            to: None,
            facts: None,
        };
        self.apply(id, attempt, now)
    }

    /// Changes when a mail that fails for now is tried again, from its next failure on.
    pub fn retry(&mut self, intervals_s: Vec<u32>, attempts_max: u32) {
        self.limits.retry.intervals_s = intervals_s;
        self.limits.retry.attempts_max = attempts_max;
    }

    /// Moves a mail to where its latest attempt sends it.
    fn apply(&mut self, id: MailId, attempt: Attempt, now: Now) -> Option<Ended> {
        let (held, place) = find(&mut self.held, id)?;
        let expiry_ms = held.expiry_ms;
        let patience = Patience::of(&self.limits, held.wishes.as_deref());
        let pause_ms_max = patience.pause_ms_max().max(READ_PAUSE_MS);
        let after = match attempt.next {
            Next::Delivered | Next::Removed => Place::Freed,
            Next::Failed => {
                self.schedule.insert(expiry_ms, id);
                Place::Failed
            }
            Next::Retry { not_before_ms } => {
                let due_ms = now.mono_of(not_before_ms, pause_ms_max).min(expiry_ms);
                self.schedule.insert(due_ms, id);
                Place::Waiting(due_ms)
            }
        };
        let before = held.move_to(place, after);
        let freed = (after == Place::Freed).then(|| taken(id, held, place));
        let mail = &mut held.mails[place];
        if mail.recent.len() == ATTEMPTS_SHOWN {
            mail.recent.remove(0);
        }
        if mail.place != Place::Freed {
            mail.recent.push(attempt.clone());
        }
        self.failed += usize::from(mail.place == Place::Failed);
        self.failed -= usize::from(before == Place::Failed);
        self.active -= usize::from(before == Place::Active);
        self.queued -= usize::from(mail.place == Place::Freed);
        self.shrink(id.transaction);
        Some(Ended { attempt, freed, facts: None })
    }

    /// Frees what the remaining mails of a transaction do not need now.
    fn shrink(&mut self, id: TransactionId) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        if held.needing == 0 {
            held.content = Content::Disk;
            self.released += std::mem::take(&mut held.reserved);
        }
        if held.unfreed == 0 {
            self.held.remove(&id);
        }
    }
}

fn find(held: &mut HashMap<TransactionId, Held>, id: MailId) -> Option<(&mut Held, usize)> {
    let held = held.get_mut(&id.transaction)?;
    let place = held.mails.binary_search_by_key(&id.index, |mail| mail.index).ok()?;
    Some((held, place))
}

/// What is known of a mail that was freed, moved out: mail that arrives at once costs no copy.
fn taken(id: MailId, held: &mut Held, place: usize) -> MailView {
    let (received_ms, body_bytes) = (held.received_ms, held.body_bytes);
    let mail = &mut held.mails[place];
    MailView {
        id,
        received_ms,
        envelope: std::mem::take(&mut mail.envelope),
        recipient: std::mem::take(&mut mail.recipient),
        body_bytes,
        place: mail.place,
        attempts: mail.attempts,
        recent: std::mem::take(&mut mail.recent),
        wishes: held.wishes.clone(),
    }
}

fn view(id: MailId, held: &Held, mail: &MailState) -> MailView {
    MailView {
        id,
        received_ms: held.received_ms,
        envelope: mail.envelope.clone(),
        recipient: mail.recipient.clone(),
        body_bytes: held.body_bytes,
        place: mail.place,
        attempts: mail.attempts,
        recent: mail.recent.clone(),
        wishes: held.wishes.clone(),
    }
}

#[path = "store_by_hand.rs"]
mod by_hand;

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
