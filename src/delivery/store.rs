//! The mails that one worker owns, from their commit until they are freed.
//!
//! A mail is ready, loading, active, waiting or failed, and nothing else; each state has a way
//! out: readiness by a connection, loading by the helper's answer, activity by the end of the
//! attempt, waiting and failure by the schedule. Age-out works in all of them but two: `Active`,
//! which ends within the deadlines of its connection, and `Loading`, which ends with the read. Mails
//! that need a connection belong to a destination ([`Store::destinations`]) as long as they do.
//!
//! Memory: a body stays from the commit until the first attempt ended, unless that is far away (`store_texts`);
//! then it is read back when due. [`Store::take_released`] tells how many octets of the budget came free.
//!
//! Must never: open a socket or file, read a clock, answer a client.
//!
//! **Diagnostics**: [`Store::view`] explains one mail, with its attempts and why it waits.

use std::sync::Arc;

use crate::queue::{
    Addresses, Attempt, Extras, Few, Ledger, MailId, Next, ReadError, Retrial, Retry, Schedule,
    Transaction, TransactionId, Waiting, WaitingMail, Wishes,
};
use crate::results::ResultQueues;

use super::ages::Ages;
use super::destinations::{DestinationId, Destinations};
use super::explain::taken;
use super::held::{Content, Held, MailState, Watched, needs_text};
use super::patience::Patience;
use super::{Ended, Fate, Finish};

/// When a transaction is looked at again whose time was over while some of its mail was under way.
const AGED_PAUSE_MS: u64 = 1_000;
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

/// The mails of one worker.
#[derive(Debug)]
pub struct Store {
    pub(super) limits: StoreLimits,
    pub(super) held: Ledger<Held>,
    /// Where ready mails wait for connections.
    pub destinations: Destinations,
    schedule: Schedule<MailId>,
    pub(super) ages: Ages,
    loading: usize,
    pub(super) active: usize,
    queued: usize,
    failed: usize,
    pub(super) released: usize,
}

impl Store {
    /// An empty store.
    pub fn new(limits: StoreLimits, destinations: Destinations) -> Store {
        Store {
            limits,
            held: Ledger::new(),
            destinations,
            schedule: Schedule::new(),
            ages: Ages::default(),
            loading: 0,
            active: 0,
            queued: 0,
            failed: 0,
            released: 0,
        }
    }

    /// A transaction that became durable. `reserved` octets of the memory budget came with it.
    pub fn admit(&mut self, transaction: Arc<Transaction>, reserved: usize, now: Now) {
        let id = transaction.id;
        let patience = Patience::of(&self.limits, transaction.wishes.as_deref());
        let expiry_ms = patience.expiry_ms(transaction.received_ms, now);
        let first = patience.first(expiry_ms, now);
        let watched = watched_as(Watched::Admitted, transaction.wishes.as_deref());
        let mails: Few<MailState> = transaction
            .mails
            .iter()
            .map(|mail| {
                let own =
                    self.own_of(mail.extras.as_ref(), transaction.received_ms, expiry_ms, now);
                self.watch_age(own.as_deref(), id.mail(mail.index));
                let place = own.as_deref().and_then(|own| own.first).unwrap_or(first);
                let wishes = transaction.wishes_of(mail);
                let destination = self.put(place, wishes, &mail.recipient, id.mail(mail.index));
                let addresses = Addresses::new(&mail.envelope, &mail.recipient);
                MailState::new(mail.index, addresses, (place, destination), 0, own, None)
            })
            .collect();
        self.queued += mails.len();
        let wishes = transaction.wishes.clone();
        let mut held =
            Held::new(transaction.received_ms, expiry_ms, transaction.body_bytes(), wishes, mails);
        held.watched = self.ages.watch(id, expiry_ms, watched);
        held.put_text(transaction);
        held.reserve(reserved);
        if self.is_far(&held) {
            self.released += held.let_text_go();
        }
        self.held.insert(id, held);
    }

    /// A transaction that the start found.
    pub fn restore(&mut self, waiting: Waiting, now: Now) {
        let patience = Patience::of(&self.limits, waiting.wishes.as_deref());
        let all_expiry_ms = patience.expiry_ms(waiting.received_ms, now);
        let all_first = patience.first(all_expiry_ms, now);
        let watched = watched_as(Watched::Restored, waiting.wishes.as_deref());
        let Waiting { id, received_ms, body_bytes, wishes: all_wishes, mails } = waiting;
        let mails: Few<MailState> = mails
            .into_iter()
            .map(|mail| {
                let own = self.own_found(&mail, received_ms, all_expiry_ms, now);
                self.watch_age(own.as_deref(), id.mail(mail.index));
                let WaitingMail { index, addresses, attempts, last, .. } = mail;
                let wishes = own.as_deref().and_then(Own::wishes).or(all_wishes.as_deref());
                let expiry_ms =
                    own.as_deref().and_then(|own| own.expiry_ms).unwrap_or(all_expiry_ms);
                let first = own.as_deref().and_then(|own| own.first).unwrap_or(all_first);
                let place = match last.as_deref().map(|last| (last.at_ms, last.next)) {
                    None => first,
                    Some((at_ms, Next::Retry { not_before_ms })) => {
                        Place::Waiting(Patience::due_ms(at_ms, not_before_ms, expiry_ms, now))
                    }
                    Some((_, Next::Failed | Next::Delivered | Next::Removed)) => Place::Failed,
                };
                let recipient = addresses.recipient();
                let destination = self.put(place, wishes, recipient, id.mail(index));
                self.failed += usize::from(place == Place::Failed);
                self.queued += 1;
                MailState::new(index, addresses, (place, destination), attempts, own, last)
            })
            .collect();
        let mut held = Held::new(received_ms, all_expiry_ms, body_bytes, all_wishes, mails);
        held.watched = self.ages.watch(id, all_expiry_ms, watched);
        self.held.insert(id, held);
    }

    /// A new mail goes to where it waits; returns its destination.
    fn put(
        &mut self,
        place: Place,
        wishes: Option<&Wishes>,
        recipient: &str,
        id: MailId,
    ) -> DestinationId {
        match place {
            Place::Waiting(due_ms) => self.schedule.insert(due_ms, id),
            Place::Failed | Place::Freed => {}
            Place::Ready | Place::Loading | Place::Active => {
                return make_ready(&mut self.destinations, wishes, recipient, id);
            }
        }
        DestinationId::default()
    }

    /// The next ready mail of a destination, made active, or the text that has to be read back for
    /// one. `reserve` asks the memory budget for a text's octets; refused, the mail stays ready, and one whose
    /// text is in memory goes first. If nothing else is under way the text is read back all the
    /// same, one at a time: else a text that is larger than the budget would never go out, nor
    /// anything behind it.
    pub fn take_work(
        &mut self,
        destination: DestinationId,
        mut reserve: impl FnMut(usize) -> bool,
    ) -> Option<Work> {
        let ready = &mut self.destinations.get_mut(destination)?.ready;
        while let Some(&id) = ready.front() {
            let Some((held, place)) = find(&mut self.held, id) else {
                ready.pop_front();
                continue;
            };
            if held.mails()[place].place() != Place::Ready {
                ready.pop_front();
                continue;
            }
            match held.content() {
                Content::Memory(transaction) => {
                    let transaction = held.text_for(id, place, transaction);
                    held.move_to(place, Place::Active);
                    self.active += 1;
                    ready.pop_front();
                    return Some(Work::Deliver(id, transaction));
                }
                Content::Loading => {
                    held.move_to(place, Place::Loading);
                    ready.pop_front();
                }
                Content::Disk => {
                    let bytes = usize::try_from(held.body_bytes()).unwrap_or(usize::MAX);
                    if self.loading >= self.limits.loading_max {
                        return None;
                    }
                    let reserved = reserve(bytes);
                    if !reserved {
                        let work = self.take_from_memory(destination);
                        if work.is_some() || self.loading + self.active > 0 {
                            return work;
                        }
                    }
                    let (held, place) = find(&mut self.held, id)?;
                    held.reserve(if reserved { bytes } else { 0 });
                    held.begin_loading();
                    held.move_to(place, Place::Loading);
                    self.destinations.get_mut(destination)?.ready.pop_front();
                    self.loading += 1;
                    return Some(Work::Load(id.transaction));
                }
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
        let Some(held) = self.held.get_mut(id) else {
            return Vec::new();
        };
        let mut loading = Vec::new();
        for place in 0..held.mails().len() {
            if held.mails()[place].place() == Place::Loading {
                held.move_to(place, Place::Ready);
                let mail = &held.mails()[place];
                loading.push((mail.destination, id.mail(mail.index)));
            }
        }
        match loaded {
            Ok(transaction) => {
                held.put_text(transaction);
                // They were at the front before; the newest goes first, so reverse.
                for (destination, mail) in loading.into_iter().rev() {
                    self.destinations.push(destination, mail, true);
                }
                self.destinations.feed(1);
                Vec::new()
            }
            Err(error) => {
                self.released += held.let_text_go();
                let fate = match error {
                    ReadError::Unknown(_) | ReadError::Damaged(_) => Fate::Permanent,
                    ReadError::Io { .. } => Fate::Untried,
                };
                let finish = Finish::without_reply(fate, "storage", "error", error.to_string());
                loading
                    .into_iter()
                    .filter_map(|(_, mail)| self.on_finish(mail, finish.clone(), now))
                    .collect()
            }
        }
    }

    /// An active mail was not tried after all: its connection was lost before MAIL.
    pub fn give_back(&mut self, id: MailId) {
        if let Some((held, place)) = find(&mut self.held, id) {
            held.move_to(place, Place::Ready);
            self.active -= 1;
            self.destinations.push(held.mails()[place].destination, id, true);
        }
    }

    /// An attempt ended. Returns the record that settles it; `None` for a mail that is gone.
    pub fn on_finish(&mut self, id: MailId, mut finish: Finish, now: Now) -> Option<Ended> {
        let (held, place) = find(&mut self.held, id)?;
        held.mail_mut(place).attempts += u32::from(finish.fate != Fate::Untried);
        // Its age, told by the clock that does not jump.
        let left_ms = held.expiry_ms_of(place).saturating_sub(now.mono_ms);
        let patience = Patience::of(&self.limits, held.wishes_of(place));
        let failed = if patience.keeps_failed() { Next::Failed } else { Next::Removed };
        let (attempts, unix_ms) = (held.mails()[place].attempts, now.unix_ms);
        let retrial = match (finish.fate, finish.put_off_ms) {
            (Fate::Delivered | Fate::Permanent, _) => Retrial::GiveUp,
            (Fate::Untried, None) => Retrial::At(unix_ms + READ_PAUSE_MS),
            (Fate::Untried, Some(at_ms)) => patience.put_off(at_ms, None, left_ms, unix_ms),
            (Fate::Temporary, None) => patience.next(attempts, left_ms, unix_ms),
            (Fate::Temporary, Some(at_ms)) => {
                patience.put_off(at_ms, Some(attempts), left_ms, unix_ms)
            }
        };
        let next = match retrial {
            Retrial::At(not_before_ms) => Next::Retry { not_before_ms },
            Retrial::GiveUp if finish.fate == Fate::Delivered => Next::Delivered,
            Retrial::GiveUp => failed,
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
            extras: held.mails()[place].own().and_then(Own::changed),
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
        let aged = now.mono_ms >= held.expiry_ms_of(place);
        match held.mails()[place].place() {
            Place::Waiting(_) if !aged => {
                held.move_to(place, Place::Ready);
                let recipient = held.mails()[place].addresses.recipient();
                let wishes = held.wishes_of(place);
                let destination = make_ready(&mut self.destinations, wishes, recipient, id);
                held.mail_mut(place).destination = destination;
                Some(None)
            }
            Place::Waiting(_) | Place::Failed => Some(self.age_out(id, now)),
            Place::Ready | Place::Loading | Place::Active | Place::Freed => Some(None),
        }
    }

    /// Some of the mails of a destination that end their attempt without a connection, if any do
    /// ([`Destinations::end_ready`]).
    pub fn end_some(
        &mut self,
        destination: DestinationId,
        count_max: usize,
        now: Now,
    ) -> Vec<Ended> {
        let Some((mails, finish)) = self.destinations.take_ending(destination, count_max) else {
            return Vec::new();
        };
        let mut ended = Vec::with_capacity(mails.len());
        for id in mails {
            if let Some((held, place)) = find(&mut self.held, id)
                && held.mails()[place].place() == Place::Ready
            {
                ended.extend(self.on_finish(id, finish.clone(), now));
            }
        }
        ended
    }

    /// The next time something is due, on the monotonic clock.
    pub fn next_due(&self) -> Option<u64> {
        [self.schedule.next_due(), self.ages.next_due()].into_iter().flatten().min()
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

    /// Mails that need no time to pass: ready, being read back, or being sent.
    pub fn under_way(&self) -> usize {
        self.destinations.mails()
    }

    /// The time of a mail is over. One that waited for a connection says why there was none.
    fn age_out(&mut self, id: MailId, now: Now) -> Option<Ended> {
        let (held, place) = find(&mut self.held, id)?;
        let mail = &held.mails()[place];
        let waited = (mail.place() == Place::Ready).then_some(mail.destination);
        let trouble = waited.and_then(|destination| self.destinations.trouble(destination));
        let last = trouble.map(|trouble| format!("; last: {trouble}")).unwrap_or_default();
        let attempt = Attempt {
            mail: id,
            at_ms: now.unix_ms,
            next: Next::Removed,
            state: "process".into(),
            result: "timeout".into(),
            code: 0,
            status: "".into(),
            description: format!("max-delivertime is over{last}").into(),
            from: None,
            to: None,
            facts: None,
            extras: None,
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
        let expiry_ms = held.expiry_ms_of(place);
        let after = match attempt.next {
            Next::Delivered | Next::Removed => Place::Freed,
            Next::Failed => {
                if now.mono_ms >= expiry_ms {
                    // Its time was over before its attempt was: the look at ages has passed it.
                    self.schedule.insert(expiry_ms, id);
                }
                Place::Failed
            }
            Next::Retry { not_before_ms } => {
                let due_ms = Patience::due_ms(attempt.at_ms, not_before_ms, expiry_ms, now);
                self.schedule.insert(due_ms, id);
                Place::Waiting(due_ms)
            }
        };
        let before = held.move_to(place, after);
        if after == Place::Freed && before != Place::Freed {
            held.forget_extras(place);
        }
        let freed = (after == Place::Freed).then(|| taken(id, held, place));
        let mail = held.mail_mut(place);
        mail.rerouted = 0;
        let left = needs_text(before).then_some(mail.destination);
        if after != Place::Freed {
            mail.note(Attempt { extras: None, ..attempt.clone() });
        }
        self.failed += usize::from(after == Place::Failed);
        self.failed -= usize::from(before == Place::Failed);
        self.active -= usize::from(before == Place::Active);
        self.queued -= usize::from(after == Place::Freed);
        if let Some(destination) = left {
            let held = &self.held;
            self.destinations.leave(destination, |mail| is_ready(held, mail));
        }
        self.shrink(id.transaction);
        Some(Ended { attempt, freed, facts: None })
    }

    /// Frees what the remaining mails of a transaction do not need now.
    fn shrink(&mut self, id: TransactionId) {
        let Some(held) = self.held.get_mut(id) else {
            return;
        };
        if !held.is_needed() {
            self.released += held.let_text_go();
        }
        if held.is_freed() {
            for (expiry_ms, age) in held.ages(id) {
                self.ages.forget_alone(age, expiry_ms);
            }
            self.held.remove(id);
            if self.held.is_empty() {
                self.ages.forget_lines();
            }
        }
    }
}

pub(super) fn find(held: &mut Ledger<Held>, id: MailId) -> Option<(&mut Held, usize)> {
    let held = held.get_mut(id.transaction)?;
    let place = held.find(id.index)?;
    Some((held, place))
}

pub(super) fn is_ready(held: &Ledger<Held>, id: MailId) -> bool {
    held.get(id.transaction).is_some_and(|held| {
        held.find(id.index).is_some_and(|place| held.mails()[place].place() == Place::Ready)
    })
}

/// A time that it wishes for itself does not end in the order in which mail came.
fn watched_as(line: Watched, wishes: Option<&Wishes>) -> Watched {
    match wishes.and_then(|wishes| wishes.deliver_until_ms) {
        Some(_) => Watched::Alone,
        None => line,
    }
}

/// A mail begins to wait for a connection of its destination.
fn make_ready(
    destinations: &mut Destinations,
    wishes: Option<&Wishes>,
    recipient: &str,
    id: MailId,
) -> DestinationId {
    let destination = match wishes.and_then(|wishes| wishes.smarthost.as_deref()) {
        Some(smarthost) => destinations.of_host(smarthost),
        None => destinations.of_recipient(recipient),
    };
    destinations.enter(destination);
    destinations.push(destination, id, false);
    destination
}

#[path = "store_by_hand.rs"]
mod by_hand;

#[path = "store_own.rs"]
mod own;

#[path = "store_texts.rs"]
mod texts;

pub(super) use own::Own;
pub use own::TooManyExtras;

#[cfg(test)]
#[path = "store_tests.rs"]
pub(super) mod tests;
