//! Results on their way into named queues.
//!
//! A result is a transaction of this server's own: its text is the result's JSON, and it is published
//! before the outcome that it tells of is settled.
//!
//! Must never: make anything for mail whose results nobody takes.
//!
//! **Diagnostics**: none; a mail that cannot be read any more is told of with what is known of it.

use crate::clock::Wall;
use crate::delivery::{Ended, MailView};
use crate::queue::{Attempt, Body, Mail, Next, Origin, Transaction};
use crate::results::{Ending, Original};

use super::desk::Desk;

impl Desk {
    /// Whether somebody may want to know more of the connection that this transaction goes over than its
    /// outcome.
    pub fn wants_facts(&self, transaction: &Transaction) -> bool {
        self.store.queues().takes_any(transaction.wishes.as_deref())
    }

    /// Whether any named queue takes a result of this attempt.
    pub(super) fn wants_results(&self, ended: &Ended) -> bool {
        let Some(ending) = ending(&ended.attempt) else {
            return false;
        };
        let wishes = match &ended.freed {
            Some(mail) => mail.wishes.as_deref(),
            None => self.store.wishes(ended.attempt.mail.transaction),
        };
        self.store.queues().names(wishes, ending).next().is_some()
    }

    /// Writes a result of `mail` for each queue that takes it; `transaction` is its message and `past` its
    /// attempts before, as far as they could be read.
    pub(super) fn write_results(
        &mut self,
        told: &mut Vec<Transaction>,
        attempt: &Attempt,
        mail: &MailView,
        transaction: Option<&Transaction>,
        past: &[(u32, Attempt)],
    ) {
        let Some(ending) = ending(attempt) else { return };
        let hostname = &self.settings.smtp.hostname;
        let original = transaction.and_then(|transaction| {
            Some(Original::of(transaction, transaction.mail(mail.id.index)?, hostname))
        });
        let original = original.unwrap_or_else(|| {
            Original::lost(mail.id, &mail.envelope, &mail.recipient, mail.received_ms)
        });
        let body = body(original.with_attempts(attempts(attempt, mail, past), mail.attempts));
        let now_ms = Wall::now_ms();
        for name in self.store.queues().names(mail.wishes.as_deref(), ending) {
            told.push(Transaction {
                id: self.ids.next_id(now_ms * 1000),
                received_ms: now_ms,
                mails: vec![Mail {
                    index: 0,
                    envelope: Box::default(),
                    recipient: Box::default(),
                    body: 0,
                    dsn: None,
                }],
                bodies: vec![body.clone()],
                trace: Box::default(),
                origin: Origin::internal(hostname),
                eight_bit: false,
                smtputf8: false,
                wishes: None,
                shelf: Some(name.into()),
            });
        }
    }
}

fn body(mut text: Vec<u8>) -> Body {
    text.push(0);
    Body::try_from(text).expect("the zero was put there")
}

/// How an attempt left its mail; none where nothing was tried.
fn ending(attempt: &Attempt) -> Option<Ending> {
    match attempt.next {
        Next::Delivered => Some(Ending::Success),
        Next::Failed | Next::Removed => Some(Ending::Failure),
        Next::Retry { .. } => (&*attempt.state != "storage").then_some(Ending::Retry),
    }
}

/// All attempts that are known: those that were read back, what came since, and the last.
fn attempts<'a>(
    last: &'a Attempt,
    mail: &'a MailView,
    past: &'a [(u32, Attempt)],
) -> impl Iterator<Item = &'a Attempt> {
    let read_ms = past.last().map_or(0, |(_, attempt)| attempt.at_ms);
    let since = mail.recent.iter().filter(move |attempt| attempt.at_ms > read_ms);
    // What is removed when it had failed before says nothing new.
    let said = mail.recent.last().is_some_and(|before| before.next == Next::Failed);
    let past = past.iter().map(|(_, attempt)| attempt);
    past.chain(since).chain(Some(last).filter(|_| !said))
}
