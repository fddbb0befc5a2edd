//! An attempt between its end and its record: the notice and the results that it calls for are written
//! first, and all are handed over together, so that they become durable as one.
//!
//! Most attempts call for nothing and are handed over at once. One that calls for a notice or a result
//! needs the mail's header, and a result the attempts before: of a mail that was just tried for the first
//! time all is in memory; else the helper reads it back, and the
//! outcome waits so long, as one of [`SETTLEMENTS_MAX`] at most. While there is no room for another,
//! nothing new is delivered and nothing ages out.
//!
//! Must never: record an outcome before the notice of it, drop either, or wait in a worker.
//!
//! **Diagnostics**: a mail that ends without having arrived is logged, rate-limited, and whether its
//! sender hears of it.

use std::collections::{HashMap, VecDeque};

use crate::blocking::{Job, RECALLS_MAX};
use crate::clock::Wall;
use crate::delivery::{Ended, MailView};
use crate::log::Level;
use crate::metrics::Number;
use crate::notice::wanted::{self, Occasion};
use crate::notice::{self, Case, Excerpt, Kind, Stationery, TEXT_BYTES_NEEDED};
use crate::queue::{
    self, Attempt, Body, DsnNotify, Entry, Mail, MailDsn, MailId, Next, Origin, ReadError,
    Transaction,
};
use crate::results::{self, Original, text_bytes_needed};
use crate::smtp::Address;
use crate::smtp::dsn::{Notify, Ret};

use super::desk::Desk;

/// Outcomes of one worker that may wait for what they call for.
pub const SETTLEMENTS_MAX: usize = 1_000;

/// What is to be read back of a mail.
#[derive(Clone, Copy, Debug)]
pub struct RecallFor {
    /// The default of what comes back with a notice.
    ret: Ret,
    /// Whether there will be results.
    results: bool,
    /// Octets of the text.
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
    /// For results: what was read.
    read: Option<Box<queue::Recalled>>,
}

impl Recalled {
    /// Takes it from what was read.
    ///
    /// # Errors
    /// When the mail is not part of it any more.
    pub fn of(read: queue::Recalled, id: MailId, what: RecallFor) -> Result<Self, ReadError> {
        let recalled = Self::of_transaction(&read.transaction, id, what.ret)?;
        let read = what.results.then(|| Box::new(read));
        Ok(Self { read, ..recalled })
    }

    fn of_transaction(transaction: &Transaction, id: MailId, ret: Ret) -> Result<Self, ReadError> {
        let mail = transaction.mail(id.index).ok_or(ReadError::Unknown(id.transaction))?;
        let request = wanted::request(transaction, mail);
        Ok(Self {
            notify: request.notify,
            orcpt: request.orcpt.map(Box::from),
            envid: request.envid.map(Box::from),
            smtputf8: transaction.smtputf8,
            excerpt: Excerpt::of(transaction, mail, wanted::ret_of(transaction, ret)),
            read: None,
        })
    }
}

/// An outcome that waits for what is to be told of it.
#[derive(Debug)]
struct Pending {
    attempt: Attempt,
    mail: MailView,
    /// The notice of it, if the sender wants one.
    kind: Option<Kind>,
    results: bool,
}

/// Attempts that ended and are not handed over yet.
#[derive(Debug, Default)]
pub struct Settlements {
    /// Those that wait for a read, by their mail: more than one of a mail only if its removal came
    /// while its failure waited.
    pending: HashMap<MailId, VecDeque<Pending>>,
    /// Mails that have to be asked for.
    unasked: VecDeque<(MailId, RecallFor)>,
    /// Reads under way.
    asked: usize,
    count: usize,
}

impl Settlements {
    /// Whether another one may wait.
    pub fn has_room(&self) -> bool {
        self.count < SETTLEMENTS_MAX
    }

    /// How many more may wait.
    pub fn room(&self) -> usize {
        SETTLEMENTS_MAX.saturating_sub(self.count)
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, pending: Pending, what: RecallFor) {
        let id = pending.attempt.mail;
        self.count += 1;
        self.unasked.push_back((id, what));
        self.pending.entry(id).or_default().push_back(pending);
    }

    /// Whether an outcome of this mail waits: those behind it must not pass.
    fn waits(&self, id: MailId) -> bool {
        !self.pending.is_empty() && self.pending.contains_key(&id)
    }

    fn take(&mut self, id: MailId) -> Option<Pending> {
        let waiting = self.pending.get_mut(&id)?;
        let pending = waiting.pop_front();
        if waiting.is_empty() {
            self.pending.remove(&id);
        }
        self.count -= usize::from(pending.is_some());
        pending
    }
}

impl Desk {
    /// Records the outcome of an attempt, with what it calls for, and says so where a mail ends without
    /// having arrived.
    pub fn settle(&mut self, mut ended: Ended) {
        self.tell_outcome(&ended.attempt);
        let ends = matches!(ended.attempt.next, Next::Failed | Next::Removed);
        let results = self.wants_results(&ended);
        if !ends && !results && !self.settlements.waits(ended.attempt.mail) {
            // An attempt that had no text was none of which anybody wants a notice.
            self.batch.push(Entry::Settle(ended.attempt));
            return;
        }
        let mail = self.store.mail_of(&mut ended);
        let kind = mail.as_ref().filter(|_| ends);
        let kind = kind.and_then(|mail| self.kind_of(&ended.attempt, mail, true));
        self.settle_later(ended, mail, kind, results);
    }

    /// The same for a mail that an operator removed: results tell of it, a notice does not.
    pub fn settle_removed(&mut self, mut ended: Ended) {
        self.tell_outcome(&ended.attempt);
        let results = self.wants_results(&ended);
        let mail = self.store.mail_of(&mut ended);
        self.settle_later(ended, mail, None, results);
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
        if !noticed && !results && !self.settlements.waits(id) {
            self.batch.push(Entry::Settle(ended.attempt));
            return;
        }
        ended.attempt.facts =
            ended.facts.take().filter(|_| results).and_then(|f| results::facts(&f));
        let mail = self.store.mail_of(&mut ended);
        let kind = mail.as_ref().filter(|_| noticed);
        let kind = kind.and_then(|mail| self.kind_of(&ended.attempt, mail, hop_tells));
        // Attempts before this one are in the log, with all that was known of them.
        let first = mail.as_ref().is_some_and(|mail| mail.attempts <= 1);
        let recalled = Recalled::of_transaction(transaction, id, self.settings.notices.ret);
        match (mail, recalled) {
            (Some(mail), Ok(recalled)) if (first || !results) && !self.settlements.waits(id) => {
                let pending = Pending { attempt: ended.attempt, mail, kind, results };
                let original = results.then(|| self.original(transaction, id)).flatten();
                self.tell(pending, &recalled, original);
            }
            (mail, _) => self.settle_later(ended, mail, kind, results),
        }
    }

    /// What was asked for was read back. A mail that could not be read is told of without its text.
    pub fn on_recalled(&mut self, id: MailId, recalled: Result<Box<Recalled>, ReadError>) {
        self.settlements.asked -= 1;
        if let Some(mut pending) = self.settlements.take(id) {
            if let Err(error) = &recalled {
                let text = format_args!("what is told of mail {id} has no header: {error}");
                self.log.limited("notice-header", Level::Warning, "queue", text);
            }
            let recalled = recalled.unwrap_or_default();
            let notify = recalled.notify.unwrap_or(self.settings.notices.notify);
            pending.kind = pending.kind.filter(|kind| wanted::wants(notify, *kind));
            let read = recalled.read.as_deref();
            let original = read.and_then(|read| self.original(&read.transaction, id));
            self.tell(pending, &recalled, original);
        }
        self.ask_for_texts();
    }

    /// Hands over what is told of an outcome, and the outcome.
    fn tell(&mut self, pending: Pending, recalled: &Recalled, original: Option<Original>) {
        let Pending { attempt, mail, kind, results } = pending;
        if let Some(kind) = kind {
            self.publish_notice(kind, &attempt, &mail, recalled);
        }
        if results {
            let past = recalled.read.as_deref().and_then(|read| read.attempts.first());
            self.publish_results(&attempt, &mail, original, past.map_or(&[], |past| past));
        }
        self.batch.push(Entry::Settle(attempt));
    }

    /// Whether mail may be given to connections, as far as the queue and outcomes are concerned.
    pub fn may_deliver(&self) -> bool {
        self.delivering && self.settlements.has_room()
    }

    /// The stop is over. Outcomes that still wait are not recorded: what failed is tried, or ages out, after
    /// the next start, and is told of then. But what has arrived must not be tried again, so that is told
    /// of with what is known of it.
    pub fn drop_settlements(&mut self) {
        let waiting = std::mem::take(&mut self.settlements.pending);
        self.settlements.unasked.clear();
        self.settlements.count = 0;
        let mut count = 0;
        for pending in waiting.into_values().flatten() {
            if pending.attempt.next == Next::Delivered {
                self.tell(pending, &Recalled::default(), None);
            } else {
                count += 1;
            }
        }
        if count > 0 {
            let text = format_args!("{count} outcomes were not recorded: their mails come again");
            self.log.warning("stop", text);
        }
    }

    /// Keeps an outcome until what is to be told of it was read back, and behind those of the same mail
    /// that wait already.
    fn settle_later(
        &mut self,
        ended: Ended,
        mail: Option<MailView>,
        kind: Option<Kind>,
        results: bool,
    ) {
        let attempt = ended.attempt;
        match mail.filter(|_| kind.is_some() || results || self.settlements.waits(attempt.mail)) {
            Some(mail) => {
                let text_bytes = match results {
                    true => text_bytes_needed(mail.wishes.as_deref()).max(TEXT_BYTES_NEEDED),
                    false => TEXT_BYTES_NEEDED,
                };
                let what = RecallFor { ret: self.settings.notices.ret, results, text_bytes };
                self.settlements.push(Pending { attempt, mail, kind, results }, what);
                self.ask_for_texts();
            }
            None => self.batch.push(Entry::Settle(attempt)),
        }
    }

    fn ask_for_texts(&mut self) {
        while self.settlements.asked < RECALLS_MAX
            && let Some((id, what)) = self.settlements.unasked.pop_front()
        {
            let job = Job::Recall(self.index, id, what);
            if let Err(error) = self.jobs.try_send(job) {
                // The channel holds all that workers may ask for at a time.
                unreachable!("the helper takes every job: {error}");
            }
            self.settlements.asked += 1;
        }
    }

    fn notify_of(&self, mail: &Mail) -> Notify {
        wanted::notify_of(mail, self.settings.notices.notify)
    }

    fn kind_of(&self, attempt: &Attempt, mail: &MailView, hop_tells: bool) -> Option<Kind> {
        let occasion = Occasion {
            envelope: &mail.envelope,
            attempt,
            before: mail.recent.last(),
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
            Next::Removed => Number::Aged,
        };
        self.count(number);
        if matches!(attempt.next, Next::Failed | Next::Removed) {
            let Attempt { mail, state, result, code, status, description, .. } = attempt;
            let (kind, what) = match attempt.next {
                Next::Removed => ("aged", "is removed"),
                _ => ("failed", "failed for good"),
            };
            let text =
                format_args!("mail {mail} {what}: {state}:{result} {code} {status} {description}");
            self.log.limited(kind, Level::Warning, "smtp", text);
        }
    }

    /// Writes a notice and hands it over; the outcome must follow in the same turn.
    fn publish_notice(
        &mut self,
        kind: Kind,
        attempt: &Attempt,
        mail: &MailView,
        recalled: &Recalled,
    ) {
        let Ok(sender) = Address::parse(&mail.envelope) else {
            // A plugin may have made anything of it.
            let text =
                format_args!("mail {}: its sender cannot be told, it is no address", mail.id);
            self.log.limited("notice-sender", Level::Warning, "smtp", text);
            return;
        };
        let now_ms = Wall::now_ms();
        let id = self.ids.next_id(now_ms * 1000);
        let lifetime_ms = self.settings.delivery.lifetime.as_millis() as u64;
        let case = Case {
            kind,
            mail: mail.id,
            sender: &sender,
            recipient: &mail.recipient,
            orcpt: recalled.orcpt.as_deref(),
            envid: recalled.envid.as_deref(),
            smtputf8: recalled.smtputf8,
            received_ms: mail.received_ms,
            until_ms: mail.received_ms.saturating_add(lifetime_ms),
            attempts: mail.attempts,
            outcome: attempt,
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
        let transaction = Transaction {
            id,
            received_ms: now_ms,
            mails: vec![Mail {
                index: 0,
                envelope: Box::default(),
                recipient: sender.as_str().into(),
                body: 0,
                // RFC 3461 6.1: nobody wants to hear of a notice.
                dsn: Some(Box::new(MailDsn { notify: DsnNotify::NEVER, orcpt: None })),
            }],
            bodies: vec![Body::try_from(text).expect("the zero was put there")],
            trace: Box::default(),
            origin: Origin::internal(&self.settings.smtp.hostname),
            eight_bit: notice.eight_bit,
            smtputf8: notice.smtputf8,
            wishes: None,
            shelf: None,
        };
        self.count(Number::Notices);
        self.log.debug("smtp", format_args!("mail {}: notice {id} goes to its sender", mail.id));
        self.publish(transaction);
    }
}
