//! An attempt between its end and its record: the notice and the results that it calls for are written
//! first, and all are handed over together, so that they become durable as one.
//!
//! Most attempts call for nothing and are handed over at once. One that calls for a notice needs the
//! mail's header, and one that calls for results its attempts before as well: of a mail that was just
//! tried for the first time all is in memory; else the helper reads it back, and the outcome waits so
//! long. Where a send log is kept an outcome also waits until the log took its line. What a turn may
//! write of notices and results is bounded, and so is what of them the disk has not taken yet.
//! [`SETTLEMENTS_MAX`] may wait at most: while there is no room for another, nothing new is delivered,
//! nothing ages out, and no new mail is taken, because a line of the received log may wait here too.
//!
//! Must never: record an outcome before the notice of it, drop either, or wait in a worker.
//!
//! **Diagnostics**: a mail that ends without having arrived is logged, rate-limited, and whether its
//! sender hears of it.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::blocking::{Job, RECALLS_MAX};
use crate::clock::Wall;
use crate::delivery::{Ended, MailView};
use crate::log::Level;
use crate::logbook;
use crate::metrics::Number;
use crate::notice::wanted::{self, Occasion};
use crate::notice::{self, Case, Excerpt, Kind, Stationery, TEXT_BYTES_NEEDED};
use crate::queue::{
    self, Attempt, Body, DsnNotify, Entry, Mail, MailDsn, MailId, Next, Origin, ReadError,
    Transaction, TransactionId, Wishes,
};
use crate::results::{self, text_bytes_needed};
use crate::smtp::Address;
use crate::smtp::dsn::{Notify, Ret};

use super::desk::Desk;
use super::unwritten::Unwritten;

/// Outcomes and lines of one worker that may wait for what they call for, before new work pauses; what is
/// under way then still comes on top.
pub const SETTLEMENTS_MAX: usize = 1_000;
/// Recipients of one message whose notices are written from one reading: a message may have thousands, and
/// each notice holds what comes back of it.
const RECALLED_MAX: usize = 64;
/// Octets of notices and results that may wait with them.
const NOTICE_BYTES_MAX: usize = 16 << 20;
/// Octets of notices and results that are written in one turn, after which the others have theirs; the last
/// one may exceed it.
const TOLD_BYTES_A_TURN: usize = 4 << 20;

/// What is to be read back of mails.
#[derive(Clone, Copy, Debug)]
pub struct RecallFor {
    /// The default of what comes back with a notice.
    ret: Ret,
    /// Octets of each text.
    pub text_bytes: usize,
}

/// What notices and results need of a mail beside its outcome.
#[derive(Clone, Debug, Default)]
pub struct Recalled {
    /// What the sender asked for.
    notify: Option<Notify>,
    orcpt: Option<Box<str>>,
    envid: Option<Box<str>>,
    smtputf8: bool,
    excerpt: Option<Excerpt>,
    /// What was read, shared by all its mails.
    pub(super) read: Option<Arc<queue::Recalled>>,
}

impl Recalled {
    /// Takes what was read apart.
    pub fn each(read: queue::Recalled, what: RecallFor) -> Vec<(u16, Self)> {
        let read = Arc::new(read);
        let of = |mail: &Mail| {
            let recalled = Self::of(&read.transaction, mail.index, what.ret);
            (mail.index, Self { read: Some(read.clone()), ..recalled })
        };
        read.transaction.mails.iter().map(of).collect()
    }

    /// Takes it from a transaction; `ret` is the default of what comes back. Nothing but an empty one of a
    /// mail that is not part of it any more.
    fn of(transaction: &Transaction, index: u16, ret: Ret) -> Self {
        let Some(mail) = transaction.mail(index) else { return Self::default() };
        let request = wanted::request(transaction, mail);
        Self {
            notify: request.notify,
            orcpt: request.orcpt.map(Box::from),
            envid: request.envid.map(Box::from),
            smtputf8: transaction.smtputf8,
            excerpt: Excerpt::of(transaction, mail, wanted::ret_of(transaction, mail, ret)),
            read: None,
        }
    }
}

/// An outcome that waits for what is to be told of it.
#[derive(Debug)]
struct Pending {
    attempt: Attempt,
    mail: MailView,
    /// The notice of it, if the sender wants one.
    kind: Option<Kind>,
    /// How the far end calls itself.
    mta: Option<Arc<str>>,
    /// Whether the sender's own wish about notices is considered in `kind`.
    known: bool,
    results: bool,
    line: Option<logbook::Entry>,
    /// Its text was asked for.
    asked: bool,
}

/// Outcomes of one message whose text was read back.
#[derive(Debug)]
struct Answered {
    id: TransactionId,
    waiting: VecDeque<Pending>,
    /// What is known of its mails, by their numbers.
    recalled: HashMap<u16, Recalled>,
}

/// A line that the log had no room for, and the outcome that waits with it.
#[derive(Debug)]
struct Unlogged {
    line: logbook::Entry,
    outcome: Option<Outcome>,
}

/// An outcome with what tells of it: a notice, results.
#[derive(Debug)]
struct Outcome {
    told: Vec<Transaction>,
    attempt: Attempt,
}

/// Attempts that ended and are not handed over yet.
#[derive(Debug, Default)]
pub struct Settlements {
    /// Those that wait for a read: one serves many recipients of a message.
    pending: HashMap<TransactionId, Vec<Pending>>,
    /// Messages that have to be asked for.
    unasked: VecDeque<TransactionId>,
    /// Reads under way.
    asked: usize,
    /// Those that were read, and wait for a turn that may write what is told of them.
    answered: VecDeque<Answered>,
    /// Those that wait for a read, or for that turn.
    reading: usize,
    /// Those that wait for the log, in the order in which they ended.
    unlogged: VecDeque<Unlogged>,
    /// Octets of what tells of them.
    told_bytes: usize,
    /// Octets that this turn wrote.
    turn_bytes: usize,
    /// What was handed over and is not durable yet.
    unwritten: Unwritten,
}

impl Settlements {
    /// Whether another one may wait, and more may be told.
    pub fn has_room(&self) -> bool {
        self.has_room_for_lines() && self.unwritten.has_room()
    }

    /// Whether another one may wait, with a line of a log.
    pub fn has_room_for_lines(&self) -> bool {
        self.len() < SETTLEMENTS_MAX && self.told_bytes < NOTICE_BYTES_MAX
    }

    /// So many outcomes are durable; whether there is room again that there was not.
    pub fn on_settled(&mut self, count: usize) -> bool {
        self.unwritten.on_settled(count)
    }

    /// A turn is over.
    pub fn end_turn(&mut self) {
        self.turn_bytes = 0;
    }

    /// Whether the next turn has something to write.
    pub fn is_telling(&self) -> bool {
        !self.answered.is_empty() && self.unwritten.has_room()
    }

    /// Whether this turn may write more.
    fn may_tell(&self) -> bool {
        self.turn_bytes < TOLD_BYTES_A_TURN && self.unwritten.has_room()
    }

    /// How many more may wait.
    pub fn room(&self) -> usize {
        if self.has_room() { SETTLEMENTS_MAX - self.len() } else { 0 }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.reading + self.unlogged.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether an outcome of this mail waits for a read: those behind it must not pass.
    fn waits(&self, id: MailId) -> bool {
        let is_of = |one: &Pending| one.attempt.mail == id;
        let waiting = self.pending.get(&id.transaction);
        let mut answered = self.answered.iter().filter(|one| one.id == id.transaction);
        waiting.is_some_and(|waiting| waiting.iter().any(is_of))
            || answered.any(|one| one.waiting.iter().any(is_of))
    }

    fn push(&mut self, pending: Pending) {
        let id = pending.attempt.mail.transaction;
        let waiting = self.pending.entry(id).or_default();
        if waiting.is_empty() {
            self.unasked.push_back(id);
        }
        waiting.push(pending);
        self.reading += 1;
    }

    /// The mails of the next message that is to be read, some at a time, and the octets of its text.
    fn ask(&mut self) -> Option<(TransactionId, Box<[u16]>, usize)> {
        let id = self.unasked.pop_front()?;
        let waiting = self.pending.get_mut(&id)?;
        let mut mails = Vec::new();
        let mut text_bytes = TEXT_BYTES_NEEDED;
        for pending in waiting.iter_mut().filter(|one| !one.asked).take(RECALLED_MAX) {
            pending.asked = true;
            let index = pending.attempt.mail.index;
            if !mails.contains(&index) {
                mails.push(index);
            }
            if pending.results {
                text_bytes = text_bytes.max(text_bytes_needed(pending.mail.wishes.as_deref()));
            }
        }
        self.asked += 1;
        Some((id, mails.into(), text_bytes))
    }

    /// An answer came: those that it is for may be told of.
    fn on_answer(&mut self, id: TransactionId, recalled: HashMap<u16, Recalled>) {
        self.asked -= 1;
        let Some(waiting) = self.pending.remove(&id) else { return };
        let (answered, others): (Vec<Pending>, Vec<Pending>) =
            waiting.into_iter().partition(|one| one.asked);
        if !others.is_empty() {
            self.pending.insert(id, others);
            self.unasked.push_back(id);
        }
        if !answered.is_empty() {
            self.answered.push_back(Answered { id, waiting: answered.into(), recalled });
        }
    }

    /// The next one that may be told of, with what was read.
    fn next_answered(&mut self) -> Option<(Pending, Recalled)> {
        let answered = self.answered.front_mut()?;
        let next = answered.next();
        if answered.waiting.is_empty() {
            self.answered.pop_front();
        }
        self.reading -= usize::from(next.is_some());
        next
    }
}

impl Desk {
    /// Records the outcome of an attempt that had no connection, with what it calls for, and says so where
    /// a mail ends without having arrived.
    pub fn settle(&mut self, ended: Ended) {
        let noticed = match ended.attempt.next {
            Next::Failed | Next::Removed => true,
            // A host or name server that gives no answer is what delays most.
            Next::Retry { .. } => !wanted::is_untried(&ended.attempt),
            Next::Delivered => false,
        };
        self.tell_outcome(&ended.attempt);
        self.settle_unread(ended, noticed);
    }

    /// The same for a mail that an operator removed: results tell of it, a notice does not.
    pub fn settle_removed(&mut self, ended: Ended) {
        self.log.info("smtp", format_args!("mail {} is removed by hand", ended.attempt.mail));
        self.settle_unread(ended, false);
    }

    fn settle_unread(&mut self, mut ended: Ended, noticed: bool) {
        let results = self.wants_results(&ended);
        let waits = self.settlements.waits(ended.attempt.mail);
        if !noticed && !results && !waits && !self.logbook.logs_sent() {
            return self.record(ended.attempt, 0);
        }
        let Some(mail) = self.store.mail_of(&mut ended) else {
            return self.record(ended.attempt, 0);
        };
        let attempt = ended.attempt;
        let line = self.line_of(&attempt, &mail, mail.wishes.as_deref());
        let kind = self.kind_of(&attempt, &mail, true).filter(|_| noticed);
        if kind.is_none() && !results && !waits {
            return self.conclude(line, Outcome { told: Vec::new(), attempt });
        }
        let known = kind.is_none();
        let (mta, asked) = (None, false);
        self.settle_later(Pending { attempt, mail, kind, mta, known, results, line, asked });
    }

    /// The same for a mail that was tried, whose text is at hand; `hop_tells` says whether the far end
    /// offers DSN.
    pub fn settle_with(&mut self, mut ended: Ended, transaction: &Transaction, hop_tells: bool) {
        self.tell_outcome(&ended.attempt);
        let id = ended.attempt.mail;
        let notify = transaction.mail(id.index).map(|mail| self.notify_of(mail));
        let noticed = notify.is_some_and(|notify| match ended.attempt.next {
            Next::Delivered => notify.success && !hop_tells,
            Next::Retry { .. } => notify.delay,
            Next::Failed | Next::Removed => notify.failure,
        });
        let results = self.wants_results(&ended);
        let waits = self.settlements.waits(id);
        // A result of a later attempt repeats those of this one.
        let told = results || ended.freed.is_none() || self.logbook.logs_facts();
        let facts = ended.facts.take();
        let mta = facts.as_ref().and_then(|facts| facts.mta.clone());
        ended.attempt.facts = facts.filter(|_| told).and_then(|facts| results::facts(&facts));
        if !noticed && !results && !waits && !self.logbook.logs_sent() {
            return self.record(ended.attempt, 0);
        }
        let Some(mail) = self.store.mail_of(&mut ended) else {
            return self.record(ended.attempt, 0);
        };
        let attempt = ended.attempt;
        let line = self.line_of(&attempt, &mail, mail.wishes.as_deref());
        let kind = self.kind_of(&attempt, &mail, hop_tells).filter(|_| noticed);
        // Attempts before this one are in the log, with all that was known of them.
        let tells = kind.is_some() || results;
        let later =
            waits || (results && mail.attempts > 1) || (tells && !self.settlements.may_tell());
        let (known, asked) = (true, false);
        let pending = Pending { attempt, mail, kind, mta, known, results, line, asked };
        if later {
            return self.settle_later(pending);
        }
        let recalled = match pending.kind {
            Some(_) => Recalled::of(transaction, id.index, self.settings.notices.ret),
            None => Recalled::default(),
        };
        self.tell(pending, &recalled, Some(transaction));
    }

    /// What is to be told of mails of a message was read back. Those of one that could not be read are
    /// told of without its text.
    pub fn on_recalled(
        &mut self,
        id: TransactionId,
        recalled: Result<Vec<(u16, Recalled)>, ReadError>,
    ) {
        if let Err(error) = &recalled {
            let text = format_args!("what is told of message {id} has no header: {error}");
            self.log.limited("notice-header", Level::Warning, "queue", text);
        }
        let recalled = recalled.unwrap_or_default().into_iter().collect();
        self.settlements.on_answer(id, recalled);
        self.resume_telling();
    }

    /// Writes what is to be told of those that were read back, as far as this turn may.
    pub fn resume_telling(&mut self) {
        while self.settlements.may_tell()
            && let Some((pending, recalled)) = self.settlements.next_answered()
        {
            let pending = self.wished(pending, &recalled);
            let read = recalled.read.clone();
            self.tell(pending, &recalled, read.as_deref().map(|read| &read.transaction));
        }
        self.ask_for_texts();
    }

    /// Leaves out a notice that the sender does not want.
    fn wished(&self, mut pending: Pending, recalled: &Recalled) -> Pending {
        let notify = recalled.notify.unwrap_or(self.settings.notices.notify);
        pending.kind = pending.kind.filter(|kind| pending.known || wanted::wants(notify, *kind));
        pending
    }

    /// Keeps an outcome until what is to be told of it was read back, and behind those of the same mail
    /// that wait already.
    fn settle_later(&mut self, pending: Pending) {
        self.settlements.push(pending);
        self.ask_for_texts();
    }

    /// Writes what is to be told of an outcome, and lets it go.
    fn tell(&mut self, pending: Pending, recalled: &Recalled, transaction: Option<&Transaction>) {
        let Pending { attempt, mail, kind, mta, results, line, .. } = pending;
        let mta = mta.as_deref();
        let notice = kind.and_then(|kind| self.write_notice(kind, &attempt, &mail, mta, recalled));
        let mut told: Vec<Transaction> = notice.into_iter().collect();
        if results {
            let past = recalled.read.as_deref().map_or(&[][..], |read| past(read, mail.id));
            self.write_results(&mut told, &attempt, &mail, transaction, past);
        }
        let outcome = Outcome { told, attempt };
        self.settlements.turn_bytes += outcome.told_bytes();
        self.conclude(line, outcome);
    }

    /// A line for each mail of a transaction that a client brought and that is durable now.
    pub fn log_received(&mut self, transaction: &Transaction) {
        if !self.logbook.logs_received() {
            return;
        }
        for mail in &transaction.mails {
            if let Some(line) =
                self.logbook.received(transaction, mail, &self.settings.smtp.hostname)
            {
                self.write_line(line, None);
            }
        }
    }

    /// Gives the log what it had no room for, as far as it has now, and hands the outcomes over.
    pub fn resume_lines(&mut self) {
        while let Some(Unlogged { line, outcome }) = self.settlements.unlogged.pop_front() {
            match self.logbook.offer(line, self.index) {
                Ok(()) => {
                    if let Some(outcome) = outcome {
                        self.settlements.told_bytes -= outcome.told_bytes();
                        self.hand_over(outcome);
                    }
                }
                Err(line) => {
                    return self.settlements.unlogged.push_front(Unlogged { line, outcome });
                }
            }
        }
    }

    /// Whether mail may be given to connections, as far as the queue and outcomes are concerned.
    pub fn may_deliver(&self) -> bool {
        self.delivering && self.settlements.has_room()
    }

    /// The time of the stop is over. Lines are lost rather than outcomes, and outcomes that wait for a text
    /// are told of with what is known of them: what a far end took or refused is not tried again, and what
    /// an operator removed does not come back. Those alone are not recorded of which nobody knows whether
    /// their sender wants to hear (RFC 3461 4.1): they had no connection, so they fail, or age out, after
    /// the next start, and are told of then.
    pub fn drop_settlements(&mut self) {
        let lines = self.settlements.unlogged.len();
        if self.settlements.is_empty() {
            return;
        }
        let dropped = std::mem::take(&mut self.settlements);
        let Settlements { unlogged, pending, answered, asked, unwritten, .. } = dropped;
        // Their answers are still to come.
        (self.settlements.asked, self.settlements.unwritten) = (asked, unwritten);
        unlogged.into_iter().filter_map(|line| line.outcome).for_each(|one| self.hand_over(one));
        for mut answered in answered {
            while let Some((pending, recalled)) = answered.next() {
                let pending = self.wished(pending, &recalled);
                self.tell(Pending { line: None, ..pending }, &recalled, None);
            }
        }
        let (mut told, mut again) = (0, 0);
        for pending in pending.into_values().flatten() {
            if pending.may_go_untold() {
                again += 1;
                continue;
            }
            self.tell(Pending { line: None, ..pending }, &Recalled::default(), None);
            told += 1;
        }
        let text = format_args!(
            "the stop does not wait: {lines} lines of logs are lost, {told} outcomes are told of without \
             their text, {again} mails that failed come again"
        );
        self.log.critical("stop", text);
    }

    /// The outcome with its line, if it has one: both go on together.
    fn conclude(&mut self, line: Option<logbook::Entry>, outcome: Outcome) {
        match line {
            Some(line) => self.write_line(line, Some(outcome)),
            None => self.hand_over(outcome),
        }
    }

    fn write_line(&mut self, line: logbook::Entry, outcome: Option<Outcome>) {
        let line = if self.settlements.unlogged.is_empty() {
            match self.logbook.offer(line, self.index) {
                Ok(()) => return outcome.into_iter().for_each(|outcome| self.hand_over(outcome)),
                Err(line) => line,
            }
        } else {
            line
        };
        self.settlements.told_bytes += outcome.as_ref().map_or(0, Outcome::told_bytes);
        self.settlements.unlogged.push_back(Unlogged { line, outcome });
    }

    /// What tells of it first: all become durable as one.
    fn hand_over(&mut self, outcome: Outcome) {
        let told_bytes = outcome.told_bytes();
        let Outcome { told, attempt } = outcome;
        for told in told {
            let number = if told.shelf.is_some() { Number::Results } else { Number::Notices };
            self.count(number);
            self.publish(told);
        }
        self.record(attempt, told_bytes);
    }

    /// The record of an outcome, with so many octets in front of it that tell of it.
    fn record(&mut self, attempt: Attempt, told_bytes: usize) {
        self.settlements.unwritten.hand_over(told_bytes);
        self.batch.push(Entry::Settle(attempt));
    }

    fn line_of(
        &self,
        attempt: &Attempt,
        mail: &MailView,
        wishes: Option<&Wishes>,
    ) -> Option<logbook::Entry> {
        let addresses = (mail.addresses.envelope(), mail.addresses.recipient());
        self.logbook.sent(attempt, mail.attempts, addresses, wishes)
    }

    fn ask_for_texts(&mut self) {
        // What was read is bounded with what is being read.
        while self.settlements.asked + self.settlements.answered.len() < RECALLS_MAX
            && let Some((id, mails, text_bytes)) = self.settlements.ask()
        {
            let what = RecallFor { ret: self.settings.notices.ret, text_bytes };
            let job = Job::Recall(self.index, id, mails, what);
            if let Err(error) = self.jobs.try_send(job) {
                // The channel holds all that workers may ask for at a time.
                unreachable!("the helper takes every job: {error}");
            }
        }
    }

    fn notify_of(&self, mail: &Mail) -> Notify {
        wanted::notify_of(mail, self.settings.notices.notify)
    }

    fn kind_of(&self, attempt: &Attempt, mail: &MailView, hop_tells: bool) -> Option<Kind> {
        let occasion = Occasion {
            envelope: mail.addresses.envelope(),
            attempt,
            before: mail.recent.iter().rev().find(|before| !wanted::is_untried(before)),
            received_ms: mail.received_ms,
            delay_ms: self.settings.notices.delay.as_millis() as u64,
            hop_tells,
        };
        occasion.kind()
    }

    fn tell_outcome(&mut self, attempt: &Attempt) {
        let number = match attempt.next {
            Next::Delivered => Number::Delivered,
            Next::Failed => Number::Bounced,
            Next::Retry { .. } => Number::Retried,
            Next::Removed if attempt.is_age_out() => Number::Aged,
            // It failed, and is not kept because a named queue takes its result.
            Next::Removed => Number::Bounced,
        };
        self.count(number);
        if matches!(attempt.next, Next::Failed | Next::Removed) {
            let Attempt { mail, state, result, code, status, description, .. } = attempt;
            let (kind, what) = match attempt.is_age_out() {
                true => ("aged", "is removed"),
                false => ("failed", "failed for good"),
            };
            let text =
                format_args!("mail {mail} {what}: {state}:{result} {code} {status} {description}");
            self.log.limited(kind, Level::Warning, "smtp", text);
        }
    }

    /// Writes a notice; `None` for a sender that cannot be told.
    fn write_notice(
        &mut self,
        kind: Kind,
        attempt: &Attempt,
        mail: &MailView,
        mta: Option<&str>,
        recalled: &Recalled,
    ) -> Option<Transaction> {
        let Ok(sender) = Address::parse(mail.addresses.envelope()) else {
            // A plugin may have made anything of it.
            let text =
                format_args!("mail {}: its sender cannot be told, it is no address", mail.id);
            self.log.limited("notice-sender", Level::Warning, "smtp", text);
            return None;
        };
        let now_ms = Wall::now_ms();
        let id = self.ids.next_id(now_ms * 1000);
        let lifetime_ms = self.settings.delivery.lifetime.as_millis() as u64;
        let case = Case {
            kind,
            mail: mail.id,
            sender: &sender,
            recipient: mail.addresses.recipient(),
            orcpt: recalled.orcpt.as_deref(),
            envid: recalled.envid.as_deref(),
            smtputf8: recalled.smtputf8,
            received_ms: mail.received_ms,
            until_ms: until_ms(mail.received_ms, lifetime_ms, mail.wishes.as_deref()),
            attempts: mail.attempts,
            outcome: attempt,
            mta,
            before: mail.recent.last(),
        };
        let stationery = Stationery {
            hostname: &self.settings.smtp.hostname,
            id: &id.to_string(),
            now_ms,
            boundary: &mail_builder::mime::make_boundary("_"),
        };
        let notice = notice::write(&case, recalled.excerpt.as_ref(), &stationery, &mut self.wall);
        let mut text = notice.text;
        text.push(0);
        self.log.debug("smtp", format_args!("mail {}: notice {id} goes to its sender", mail.id));
        Some(Transaction {
            id,
            received_ms: now_ms,
            mails: vec![Mail {
                index: 0,
                envelope: Box::default(),
                recipient: sender.as_str().into(),
                body: 0,
                // RFC 3461 6.1: nobody wants to hear of a notice.
                dsn: Some(Box::new(MailDsn { notify: DsnNotify::NEVER, orcpt: None })),
                extras: None,
            }],
            bodies: vec![Body::try_from(text).expect("the zero was put there")],
            trace: Box::default(),
            origin: Origin::internal(&self.settings.smtp.hostname),
            eight_bit: notice.eight_bit,
            smtputf8: notice.smtputf8,
            wishes: None,
            shelf: None,
        })
    }
}

impl Pending {
    /// Whether it may be forgotten at a stop: nothing was sent, and it is told of after the next start.
    fn may_go_untold(&self) -> bool {
        !self.known
    }
}

impl Answered {
    fn next(&mut self) -> Option<(Pending, Recalled)> {
        let pending = self.waiting.pop_front()?;
        let recalled = self.recalled.get(&pending.attempt.mail.index).cloned();
        Some((pending, recalled.unwrap_or_default()))
    }
}

impl Outcome {
    fn told_bytes(&self) -> usize {
        let bytes: u64 = self.told.iter().map(Transaction::body_bytes).sum();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }
}

/// The attempts of a mail that were read back.
fn past(read: &queue::Recalled, id: MailId) -> &[(u32, Attempt)] {
    let place = read.transaction.mails.binary_search_by_key(&id.index, |mail| mail.index);
    place.ok().and_then(|place| read.attempts.get(place)).map_or(&[], |past| past)
}

/// Until when a mail is tried, unix time in milliseconds: what it asks for, else what the settings say.
fn until_ms(received_ms: u64, lifetime_ms: u64, wishes: Option<&Wishes>) -> u64 {
    let asked = wishes.and_then(|wishes| wishes.deliver_until_ms);
    asked.unwrap_or(received_ms.saturating_add(lifetime_ms))
}

#[cfg(test)]
#[path = "settlement_tests.rs"]
mod tests;
