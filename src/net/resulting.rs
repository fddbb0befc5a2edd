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
use crate::queue::{Attempt, Body, Mail, MailId, Next, Origin, Transaction};
use crate::results::{Ending, Original};

use super::desk::Desk;

impl Desk {
    /// Whether somebody may want to know more of the connection that this mail goes over than its outcome.
    pub fn wants_facts(&self, transaction: &Transaction, mail: MailId) -> bool {
        self.logbook.logs_facts() || self.store.queues().takes_any_of(transaction, mail)
    }

    /// Whether any named queue takes a result of this attempt.
    pub(super) fn wants_results(&self, ended: &Ended) -> bool {
        let Some(ending) = ending(&ended.attempt) else {
            return false;
        };
        let wishes = match &ended.freed {
            Some(mail) => mail.wishes.as_deref(),
            None => self.store.wishes(ended.attempt.mail),
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
            let read = transaction.mail(mail.id.index)?;
            Some(Original::of(transaction, read, mail.wishes.as_deref(), hostname))
        });
        let original = original.unwrap_or_else(|| {
            Original::lost(
                mail.id,
                mail.addresses.envelope(),
                mail.addresses.recipient(),
                mail.received_ms,
            )
        });
        let body =
            body(original.with_attempts(attempts(attempt, &mail.recent, past), mail.attempts));
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
                    extras: None,
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
    recent: &'a [Attempt],
    past: &'a [(u32, Attempt)],
) -> impl Iterator<Item = &'a Attempt> {
    // Clocks jump, and more than one may end in a millisecond; and the log numbers attempts that were put
    // off, which do not count as tries. The last that was read is among the recent ones, or older than all.
    let is_last_read = |attempt: &Attempt| {
        past.last().is_some_and(|(_, read)| {
            (read.at_ms, &read.next, &read.state, read.code)
                == (attempt.at_ms, &attempt.next, &attempt.state, attempt.code)
        })
    };
    let since = recent.iter().rposition(is_last_read).map_or(0, |place| place + 1);
    let since = &recent[since..];
    // What is removed when it had failed before says nothing new.
    let said = recent.last().is_some_and(|before| before.next == Next::Failed);
    let past = past.iter().map(|(_, attempt)| attempt);
    past.chain(since).chain(Some(last).filter(|_| !said))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::TransactionId;

    fn attempt(at_ms: u64, code: u16) -> Attempt {
        Attempt {
            mail: TransactionId::from_u64(1).mail(0),
            at_ms,
            next: Next::Retry { not_before_ms: at_ms + 1 },
            state: "message".into(),
            result: "error".into(),
            code,
            status: "".into(),
            description: "".into(),
            from: None,
            to: None,
            facts: None,
            extras: None,
        }
    }

    /// The codes of the attempts that a result tells of.
    fn told(past: &[(u64, u16)], recent: &[(u64, u16)]) -> Vec<u16> {
        let recent: Vec<Attempt> =
            recent.iter().map(|&(at_ms, code)| attempt(at_ms, code)).collect();
        let past: Vec<(u32, Attempt)> =
            (1..).zip(past.iter().map(|&(at_ms, code)| attempt(at_ms, code))).collect();
        attempts(&attempt(5, 999), &recent, &past).map(|attempt| attempt.code).collect()
    }

    #[test]
    fn attempts_of_one_millisecond_and_of_a_clock_set_back_are_all_told() {
        assert_eq!(told(&[(7, 1)], &[(7, 1), (7, 2)]), [1, 2, 999], "one millisecond");
        assert_eq!(told(&[(7, 1)], &[(7, 1), (3, 2)]), [1, 2, 999], "set back");
        assert_eq!(told(&[(7, 1), (8, 2)], &[(8, 2)]), [1, 2, 999], "none twice");
        assert_eq!(told(&[(7, 1)], &[(9, 3), (10, 4)]), [1, 3, 4, 999], "read long ago");
        assert_eq!(told(&[], &[(9, 3)]), [3, 999], "nothing could be read");
    }
}
