//! Whether a connection that has been used before may be trusted with a mail again.
//!
//! A far end may end a connection that rests, and do so at the very moment when a mail is given to it; or a
//! firewall may forget it, and then nobody says anything ever. In both cases nothing is known of the mail,
//! and it is given to another connection at once, without an attempt; unless its text went ahead of the
//! replies, which the driver knows.
//!
//! Must never: let a mail be given back for ever: a connection that is new has no excuse.
//!
//! **Diagnostics**: none.

use std::time::Duration;

use crate::smtp::client::{Problem, Stage};

/// Pause after which a connection is looked at before it gets a mail: a far end that takes so many mails and
/// no more has told so by then. Busy connections are to cost nothing.
const LOOK_MS: u64 = 5;

/// Rest after which the far end may have lost its patience, or a firewall its memory. Nobody does within a
/// second, and under load connections rest for milliseconds all the time.
const RESTED_MS: u64 = 1_000;

/// How long the first reply after a rest may take. If a firewall has forgotten the connection it never
/// comes; a far end that is only slow loses nothing, as the mail comes over a new connection.
const FIRST_REPLY: Duration = Duration::from_secs(30);

/// What is known of a connection's rests.
#[derive(Debug, Default)]
pub(super) struct Reuse {
    idle_ms: u64,
    /// It has rested, and got no mail since.
    woken: bool,
    /// It had rested when it got the mail under way.
    rested: bool,
    /// Mails that it was given, this one included.
    mails: u64,
}

impl Reuse {
    /// It has no mail.
    pub(super) fn on_idle(&mut self, now_ms: u64) {
        self.idle_ms = now_ms;
    }

    /// There is mail for it again. Whether it is to be looked at before.
    pub(super) fn on_woken(&mut self, now_ms: u64) -> bool {
        self.woken = now_ms >= self.idle_ms + RESTED_MS;
        now_ms >= self.idle_ms + LOOK_MS
    }

    /// A mail is begun.
    pub(super) fn on_start(&mut self) {
        self.rested = std::mem::take(&mut self.woken);
        self.mails += 1;
    }

    /// Whether it had rested before the mail under way: nothing is sent ahead of the first reply then.
    pub(super) fn is_rested(&self) -> bool {
        self.rested
    }

    /// How long the first reply to a mail may take, where others may take `patience`.
    pub(super) fn patience(&self, patience: Duration) -> Duration {
        if self.rested { patience.min(FIRST_REPLY) } else { patience }
    }

    /// Whether a connection that ended so says nothing about the mail under way: the far end had enough of
    /// it, and answered nothing of this mail. RSET is about the mail before, whatever is said to it; a new
    /// connection needs none.
    pub(super) fn is_outworn(&self, stage: Stage, problem: Problem) -> bool {
        match (stage, problem) {
            // Given to it, and nothing said of it yet.
            (Stage::Idle, _) => self.mails > 0,
            (Stage::Reset, _) => self.mails > 1,
            (Stage::Mail, Problem::Closed) => self.rested || self.mails > 1,
            (Stage::Mail, Problem::TimedOut) => self.rested,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_never_rested_has_no_excuse_for_its_first_mail() {
        let mut reuse = Reuse::default();
        reuse.on_start();
        assert!(!reuse.is_outworn(Stage::Mail, Problem::Closed));
        assert!(!reuse.is_outworn(Stage::Reset, Problem::Closed), "there was none before");
        reuse.on_start();
        assert!(reuse.is_outworn(Stage::Mail, Problem::Closed));
        assert!(!reuse.is_outworn(Stage::Mail, Problem::TimedOut), "it is slow, not gone");
        assert!(!reuse.is_outworn(Stage::Rcpt, Problem::Closed), "it answered MAIL");
        assert!(!reuse.is_outworn(Stage::Mail, Problem::BadReply));
        for problem in [Problem::Closed, Problem::TimedOut, Problem::UnexpectedReply] {
            assert!(reuse.is_outworn(Stage::Reset, problem), "that was the mail before");
        }
    }

    #[test]
    fn silence_after_a_rest_is_no_word_about_the_mail() {
        let mut reuse = Reuse::default();
        reuse.on_idle(100);
        assert!(!reuse.on_woken(104), "busy connections cost nothing");
        reuse.on_idle(100);
        assert!(reuse.on_woken(105));
        reuse.on_start();
        assert!(!reuse.is_rested(), "a pause is no rest");
        reuse.on_idle(100);
        assert!(reuse.on_woken(1_100));
        reuse.on_start();
        assert!(reuse.is_rested());
        assert_eq!(reuse.patience(Duration::from_secs(300)), FIRST_REPLY);
        assert_eq!(reuse.patience(Duration::from_secs(1)), Duration::from_secs(1));
        for problem in [Problem::Closed, Problem::TimedOut] {
            assert!(reuse.is_outworn(Stage::Mail, problem));
        }
        reuse.on_start();
        assert!(!reuse.is_rested(), "the next mail follows at once");
    }
}
