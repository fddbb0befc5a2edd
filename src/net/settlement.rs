//! An attempt between its end and its record: the notice that it calls for is written first, and both
//! are handed over together, so that they become durable as one.
//!
//! Most attempts call for nothing and are handed over at once. One that calls for a notice needs the
//! mail's header: of a mail that was just tried it is in memory; else the helper reads it back, and the
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
use crate::notice::{self, Case, Excerpt, Kind, Stationery};
use crate::queue::{
    Attempt, Body, DsnNotify, Entry, Mail, MailDsn, MailId, Next, Origin, ReadError, Transaction,
};
use crate::smtp::Address;
use crate::smtp::dsn::{Notify, Ret};

use super::desk::Desk;

/// Outcomes of one worker that may wait for what they call for.
pub const SETTLEMENTS_MAX: usize = 1_000;

/// What a notice needs of a mail beside its outcome.
#[derive(Clone, Debug, Default)]
pub struct Recalled {
    /// What the sender asked for.
    notify: Option<Notify>,
    orcpt: Option<Box<str>>,
    envid: Option<Box<str>>,
    smtputf8: bool,
    excerpt: Option<Excerpt>,
}

impl Recalled {
    /// Takes it from a transaction; `ret` is the default of what comes back.
    ///
    /// # Errors
    /// When the mail is not part of it any more.
    pub fn of(transaction: &Transaction, id: MailId, ret: Ret) -> Result<Self, ReadError> {
        let mail = transaction.mail(id.index).ok_or(ReadError::Unknown(id.transaction))?;
        let request = wanted::request(transaction, mail);
        Ok(Self {
            notify: request.notify,
            orcpt: request.orcpt.map(Box::from),
            envid: request.envid.map(Box::from),
            smtputf8: transaction.smtputf8,
            excerpt: Excerpt::of(transaction, mail, wanted::ret_of(transaction, ret)),
        })
    }
}

/// An outcome that waits for what a notice of it needs.
#[derive(Debug)]
struct Pending {
    attempt: Attempt,
    mail: MailView,
    kind: Kind,
}

/// Attempts that ended and are not handed over yet.
#[derive(Debug, Default)]
pub struct Settlements {
    /// Those that wait for a read, by their mail: more than one of a mail only if its removal came
    /// while its failure waited.
    pending: HashMap<MailId, VecDeque<Pending>>,
    /// Mails that have to be asked for.
    unasked: VecDeque<MailId>,
    /// Reads under way.
    asked: usize,
    count: usize,
}

impl Settlements {
    /// Whether another one may wait.
    pub fn has_room(&self) -> bool {
        self.count < SETTLEMENTS_MAX
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn push(&mut self, pending: Pending) {
        let id = pending.attempt.mail;
        self.count += 1;
        self.unasked.push_back(id);
        self.pending.entry(id).or_default().push_back(pending);
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
    /// Records the outcome of an attempt, with the notice that it calls for, and says so where a mail
    /// ends without having arrived.
    pub fn settle(&mut self, ended: Ended) {
        self.tell_outcome(&ended.attempt);
        if matches!(ended.attempt.next, Next::Failed | Next::Removed) {
            self.settle_unread(ended);
        } else {
            // An attempt that had no text was none of which anybody wants to hear.
            self.batch.push(Entry::Settle(ended.attempt));
        }
    }

    /// The same for a mail that was tried, whose text is at hand; `hop_tells` says whether the far end
    /// offers DSN.
    pub fn settle_with(&mut self, mut ended: Ended, transaction: &Transaction, hop_tells: bool) {
        self.tell_outcome(&ended.attempt);
        let id = ended.attempt.mail;
        let notify = transaction.mail(id.index).map(|mail| self.notify_of(mail));
        let wanted = notify.is_some_and(|notify| match ended.attempt.next {
            Next::Delivered => notify.success && !hop_tells,
            Next::Retry { .. } => notify.delay,
            Next::Failed | Next::Removed => notify.failure,
        });
        if wanted
            && let Some(mail) = self.store.mail_of(&mut ended)
            && let Some(kind) = self.kind_of(&ended.attempt, &mail, hop_tells)
            && let Ok(recalled) = Recalled::of(transaction, id, self.settings.notices.ret)
        {
            self.publish_notice(kind, &ended.attempt, &mail, &recalled);
        }
        self.batch.push(Entry::Settle(ended.attempt));
    }

    /// What a notice needs was read back. One that could not be read is told of without its header.
    pub fn on_recalled(&mut self, id: MailId, recalled: Result<Recalled, ReadError>) {
        self.settlements.asked -= 1;
        if let Some(pending) = self.settlements.take(id) {
            let Pending { attempt, mail, kind } = pending;
            if let Err(error) = &recalled {
                let text = format_args!("the notice of mail {id} has no header: {error}");
                self.log.limited("notice-header", Level::Warning, "queue", text);
            }
            let recalled = recalled.unwrap_or_default();
            let notify = recalled.notify.unwrap_or(self.settings.notices.notify);
            if wanted::wants(notify, kind) {
                self.publish_notice(kind, &attempt, &mail, &recalled);
            }
            self.batch.push(Entry::Settle(attempt));
        }
        self.ask_for_texts();
    }

    /// Whether mail may be given to connections, as far as the queue and outcomes are concerned.
    pub fn may_deliver(&self) -> bool {
        self.delivering && self.settlements.has_room()
    }

    /// The stop is over: outcomes that still wait are not recorded. What failed is tried, or ages out,
    /// after the next start, and its sender hears of it then.
    pub fn drop_settlements(&mut self) {
        if !self.settlements.is_empty() {
            let count = self.settlements.len();
            let text = format_args!("{count} outcomes were not recorded: their mails come again");
            self.log.warning("stop", text);
            self.settlements.pending.clear();
            self.settlements.unasked.clear();
            self.settlements.count = 0;
        }
    }

    fn settle_unread(&mut self, mut ended: Ended) {
        let pending = self.store.mail_of(&mut ended).and_then(|mail| {
            let kind = self.kind_of(&ended.attempt, &mail, true)?;
            Some((mail, kind))
        });
        match pending {
            Some((mail, kind)) => {
                self.settlements.push(Pending { attempt: ended.attempt, mail, kind });
                self.ask_for_texts();
            }
            None => self.batch.push(Entry::Settle(ended.attempt)),
        }
    }

    fn ask_for_texts(&mut self) {
        while self.settlements.asked < RECALLS_MAX
            && let Some(id) = self.settlements.unasked.pop_front()
        {
            let job = Job::Recall(self.index, id, self.settings.notices.ret);
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
