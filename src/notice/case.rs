//! What a notice tells of: one mail, and how it stands with it.
//!
//! Owns the reading of an outcome: which status stands for it, and whose words it brings. It knows
//! nothing of messages.
//!
//! Diagnostics: none.

use std::net::SocketAddr;

use crate::queue::{Attempt, MailId};
use crate::smtp::{Address, EnhancedStatus};

/// What is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It will not arrive.
    Failed,
    /// It takes longer than usual.
    Delayed {
        /// When it is tried next, unix time in milliseconds.
        next_ms: u64,
    },
    /// It went to a server that tells nobody of what becomes of it (RFC 3461 5.2.2).
    Relayed,
}

/// One mail, and what is to be told of it.
#[derive(Clone, Debug)]
pub struct Case<'a> {
    /// What.
    pub kind: Kind,
    /// The mail that it is about.
    pub mail: MailId,
    /// The sender, whom the notice goes to: not the null sender.
    pub sender: &'a Address,
    /// The recipient. A plugin may have made it anything.
    pub recipient: &'a str,
    /// The recipient as the sender named it, `type;address`.
    pub orcpt: Option<&'a str>,
    /// The sender's own name of the message.
    pub envid: Option<&'a str>,
    /// Whether the mail came with SMTPUTF8, so that its sender can read UTF-8 in a notice.
    pub smtputf8: bool,
    /// When it was received, unix time in milliseconds.
    pub received_ms: u64,
    /// Until when it is tried, unix time in milliseconds.
    pub until_ms: u64,
    /// How many attempts there were.
    pub attempts: u32,
    /// How it ended.
    pub outcome: &'a Attempt,
    /// How the server at the other end called itself then: anything.
    pub mta: Option<&'a str>,
    /// The attempt before that.
    pub before: Option<&'a Attempt>,
}

impl<'a> Case<'a> {
    /// The attempt whose words explain the outcome: of a mail that aged out the one before, because its
    /// end says nothing but that the time is over.
    pub(super) fn words(&self) -> &'a Attempt {
        match (self.outcome.is_age_out(), self.before) {
            (true, Some(before)) => before,
            _ => self.outcome,
        }
    }

    /// Who said the words: the server at the other end, if it was one.
    pub(super) fn speaker(&self) -> Option<SocketAddr> {
        let words = self.words();
        words.to.filter(|_| words.code != 0 && !self.is_ours())
    }

    /// Whether a plugin of ours said the words, whatever code it gave them.
    pub(super) fn is_ours(&self) -> bool {
        &*self.words().result == "plugin"
    }

    /// The name of the server at the other end, if it gave one that is a name.
    pub(super) fn mta(&self) -> Option<&'a str> {
        let is_domain = |name: &&str| Address::parse(&format!("a@{name}")).is_ok();
        // What is known is of the outcome, and not of the attempt before.
        let known = self.mta.filter(|_| self.words() == self.outcome && !self.is_ours());
        known.filter(|name| name.is_ascii()).filter(is_domain)
    }

    /// Whether it was given up rather than refused.
    pub(super) fn is_given_up(&self) -> bool {
        let outcome = self.outcome;
        let temporary = matches!(outcome.code, 400..=499) || outcome.status.starts_with('4');
        let unheard = outcome.code == 0 && !outcome.status.starts_with('5');
        let silence = matches!(&*outcome.result, "timeout" | "lost" | "plugin");
        outcome.is_age_out() || temporary || (unheard && (silence || self.attempts > 1))
    }

    /// The status for programs (RFC 3463), of the class that the kind asks for (RFC 3464 2.3.4).
    pub(super) fn status(&self) -> EnhancedStatus {
        let said = EnhancedStatus::split(&self.outcome.status).map(|(status, _)| status);
        let of = |class, subject, detail| {
            EnhancedStatus::new(class, subject, detail).expect("classes 2, 4 and 5 exist")
        };
        match self.kind {
            Kind::Relayed => said.filter(|said| said.class() == 2).unwrap_or(of(2, 0, 0)),
            Kind::Delayed { .. } => {
                said.filter(|said| said.class() == 4).unwrap_or_else(|| match self.outcome.code {
                    400..=499 => of(4, 0, 0),
                    // RFC 3463 3.5: nobody answered.
                    _ => of(4, 4, 1),
                })
            }
            // RFC 3463 3.5: delivery time expired.
            Kind::Failed if self.is_given_up() => of(5, 4, 7),
            Kind::Failed => said.filter(|said| said.class() == 5).unwrap_or_else(|| {
                match (self.outcome.code, &*self.outcome.state) {
                    (0, "storage") => of(5, 3, 0),
                    (0, "connect" | "dns") => of(5, 4, 4),
                    (0, "process") => of(5, 1, 0),
                    _ => of(5, 0, 0),
                }
            }),
        }
    }
}
