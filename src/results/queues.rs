//! Which named queues the result of a mail goes to.
//!
//! Must never: know what a result says.
//!
//! Diagnostics: none.

use crate::queue::{MailId, QueueWish, QueueWishes, Transaction, Wishes};

/// How an attempt left its mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It arrived.
    Success,
    /// It failed for good.
    Failure,
    /// It is tried again.
    Retry,
}

/// The named queues of the settings; none of them unless it is named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResultQueues {
    /// All final results.
    pub results: Option<Box<str>>,
    /// Final results of mail that arrived.
    pub success: Option<Box<str>>,
    /// Final results of mail that did not.
    pub failure: Option<Box<str>>,
    /// Attempts that another one follows.
    pub retry: Option<Box<str>>,
}

impl ResultQueues {
    /// The queues that a mail's result goes to: none, one or two different ones.
    pub fn names<'a>(
        &'a self,
        wishes: Option<&'a Wishes>,
        ending: Ending,
    ) -> impl Iterator<Item = &'a str> {
        let wishes = wishes.map(|wishes| &wishes.queues);
        let name = |wish: fn(&QueueWishes) -> &QueueWish, setting: &'a Option<Box<str>>| {
            let setting = setting.as_deref();
            wishes.map_or(setting, |wishes| wish(wishes).or(setting))
        };
        let own = match ending {
            Ending::Success => name(|wishes| &wishes.success, &self.success),
            Ending::Failure => name(|wishes| &wishes.failure, &self.failure),
            Ending::Retry => name(|wishes| &wishes.retry, &self.retry),
        };
        let all = match ending {
            Ending::Success | Ending::Failure => name(|wishes| &wishes.results, &self.results),
            Ending::Retry => None,
        };
        all.into_iter().chain(own.filter(|own| all != Some(*own)))
    }

    /// Whether somebody takes the result of a mail that failed, so that the mail itself need not be kept
    /// to be looked at.
    pub fn takes_failures(&self, wishes: Option<&Wishes>) -> bool {
        self.names(wishes, Ending::Failure).next().is_some()
    }

    /// Whether any result of a mail may be asked for.
    pub fn takes_any(&self, wishes: Option<&Wishes>) -> bool {
        [Ending::Success, Ending::Failure, Ending::Retry]
            .into_iter()
            .any(|ending| self.names(wishes, ending).next().is_some())
    }

    /// Whether any result of one mail of a transaction is taken. The others are not looked at: this is asked
    /// at the end of each of their attempts.
    pub fn takes_any_of(&self, transaction: &Transaction, mail: MailId) -> bool {
        let own = transaction.mail(mail.index).and_then(|mail| transaction.wishes_of(mail));
        self.takes_any(own.or(transaction.wishes.as_deref()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::queue::{Extras, Mail, Origin, TransactionId};

    #[test]
    fn results_are_successes_and_failures_and_retries_are_extra() {
        let set = ResultQueues {
            results: Some("all".into()),
            success: Some("good".into()),
            failure: Some("all".into()),
            retry: Some("again".into()),
        };
        let names = |wishes, ending| set.names(wishes, ending).collect::<Vec<_>>();
        assert_eq!(names(None, Ending::Success), ["all", "good"]);
        assert_eq!(names(None, Ending::Failure), ["all"], "not twice into one queue");
        assert_eq!(names(None, Ending::Retry), ["again"]);
        let wishes = Wishes {
            queues: QueueWishes {
                results: QueueWish::Off,
                failure: QueueWish::Named("mine".into()),
                ..QueueWishes::default()
            },
            ..Wishes::default()
        };
        assert_eq!(names(Some(&wishes), Ending::Success), ["good"]);
        assert_eq!(names(Some(&wishes), Ending::Failure), ["mine"]);
        let none = ResultQueues::default();
        assert!(!none.takes_any(None) && none.takes_failures(Some(&wishes)));
    }

    #[test]
    fn a_mail_whose_results_somebody_takes_makes_no_other_recipient_tell_more() {
        let queues =
            QueueWishes { results: QueueWish::Named("mine".into()), ..QueueWishes::default() };
        let wishes = Some(Box::new(Wishes { queues, ..Wishes::default() }));
        let mail = |index| Mail {
            index,
            envelope: "a@example.org".into(),
            recipient: "b@example.net".into(),
            body: 0,
            dsn: None,
            extras: (index == 1)
                .then(|| Arc::new(Extras { wishes: wishes.clone(), ..Extras::default() })),
        };
        let id = TransactionId::from_u64(1);
        let mut transaction = Transaction {
            id,
            received_ms: 0,
            mails: vec![mail(0), mail(1)],
            bodies: Vec::new(),
            trace: Box::default(),
            origin: Origin::internal("mx.example"),
            eight_bit: false,
            smtputf8: false,
            wishes: None,
            shelf: None,
        };
        let none = ResultQueues::default();
        let taken = |of: &Transaction| [0, 1, 2].map(|index| none.takes_any_of(of, id.mail(index)));
        assert_eq!(taken(&transaction), [false, true, false]);
        transaction.wishes = wishes;
        assert_eq!(taken(&transaction), [true; 3]);
    }
}
