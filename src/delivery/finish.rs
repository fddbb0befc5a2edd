//! The outcome of one attempt, in MailerQ's words for states and results.
//!
//! Must never: decide when the next attempt is; that is the retry rule's. What is known of the
//! connection beside the outcome is [`Facts`].
//!
//! **Diagnostics**: the words end in the queue's records and in what `rohrpost queue show` prints.

use std::net::{IpAddr, SocketAddr};

use crate::queue::Attempt;
use crate::smtp::Reply;
use crate::smtp::client::{Exchange, Outcome, Stage};

use super::explain::MailView;
use super::facts::Facts;

/// What an attempt means for the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The next hop took it: its final 250 was received.
    Delivered,
    /// It will never work: a 5xx, or something that no retry mends.
    Permanent,
    /// It may work later: a 4xx, a lost connection, a deadline.
    Temporary,
    /// Nothing was tried: its text could not be read. It rests, and this is no attempt.
    Untried,
}

/// One attempt, as it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// What it means for the mail.
    pub fate: Fate,
    /// How far it came: `connect`, `intro`, `ehlo`, `mailfrom`, `rcptto`, `data`, `message`.
    pub state: &'static str,
    /// How it ended: `accepted`, `timeout`, `lost`, `invalid`, `error`.
    pub result: &'static str,
    /// The reply code; 0 without a reply.
    pub code: u16,
    /// The enhanced status (RFC 3463); empty without one.
    pub status: String,
    /// The reply's text, or what went wrong: one line, of as many bytes as are recorded.
    pub description: String,
    /// Our end of the connection.
    pub from: Option<IpAddr>,
    /// The next hop.
    pub to: Option<SocketAddr>,
    /// What else is known of the connection; `None` where nobody asked, or without a connection.
    pub facts: Option<Box<Facts>>,
    /// When it is tried again, unix time in milliseconds, where somebody else decides that than the retry
    /// rule; of those that are temporary or untried.
    pub put_off_ms: Option<u64>,
}

/// The end of an attempt: what has to be settled, and what is known of its mail.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// The outcome, as it is recorded.
    pub attempt: Attempt,
    /// The mail, where this freed it, with the attempts before this one; see [`Store::mail_of`].
    ///
    /// [`Store::mail_of`]: super::Store::mail_of
    pub freed: Option<MailView>,
    /// What is known of the connection, where somebody asked.
    pub facts: Option<Box<Facts>>,
}

impl Finish {
    /// The fate that the session reports of a mail.
    pub fn of_outcome(outcome: &Outcome) -> Finish {
        match outcome {
            Outcome::Accepted(reply) => Finish::of_reply("message", reply),
            Outcome::Refused { stage, reply, .. } => Finish::of_reply(state_of(*stage), reply),
        }
    }

    /// D-6A: there is nothing that could be sent.
    pub fn no_text() -> Finish {
        Finish::without_reply(Fate::Permanent, "data", "error", "the mail has no text")
    }

    /// An attempt that ended with a reply of the next hop: 2yz delivered, 5yz permanent, all else
    /// temporary (RFC 5321 4.2.1).
    pub fn of_reply(state: &'static str, reply: &Reply) -> Finish {
        let (fate, result) = match reply.code() {
            200..=299 => (Fate::Delivered, "accepted"),
            500..=599 => (Fate::Permanent, "error"),
            _ => (Fate::Temporary, "error"),
        };
        Finish {
            fate,
            state,
            result,
            code: reply.code(),
            status: reply.status().map(|status| status.to_text()).unwrap_or_default(),
            description: recorded(reply.text()),
            from: None,
            to: None,
            facts: None,
            put_off_ms: None,
        }
    }

    /// An attempt that ended without a reply.
    pub fn without_reply(
        fate: Fate,
        state: &'static str,
        result: &'static str,
        description: impl AsRef<str>,
    ) -> Finish {
        Finish {
            fate,
            state,
            result,
            code: 0,
            status: String::new(),
            description: recorded(description.as_ref()),
            from: None,
            to: None,
            facts: None,
            put_off_ms: None,
        }
    }

    /// Whether the far end may have taken it all the same: its text was out, and no reply to that was read.
    pub fn may_have_arrived(&self) -> bool {
        self.code == 0 && self.state == state_of(Stage::FinalDot)
    }

    /// What went wrong in one line: where, at what step, and what was said.
    pub fn trouble(&self) -> String {
        let Finish { state, code, status, description, to, .. } = self;
        let mut line = to.map(|to| format!("{to}: ")).unwrap_or_default();
        // What went wrong on the way to a step says so itself.
        if !description.starts_with(state) {
            line.push_str(&format!("{state}: "));
        }
        if *code > 0 {
            line.push_str(&format!("{code} "));
        }
        if !status.is_empty() {
            line.push_str(&format!("{status} "));
        }
        line + description
    }

    /// Adds the two ends of the connection.
    pub fn between(mut self, from: Option<IpAddr>, to: Option<SocketAddr>) -> Finish {
        self.from = from;
        self.to = to;
        self
    }
}

/// A text as it is recorded: in one line, so that no far end writes a second one into a log, and cut as
/// the queue cuts it, so that mails which wait hold no more in memory than on disk.
fn recorded(text: &str) -> String {
    const MAX: usize = Attempt::TEXT_BYTES_MAX;
    let mut recorded = String::with_capacity(text.len().min(MAX));
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        for piece in [if recorded.is_empty() { "" } else { " / " }, line] {
            recorded.push_str(&piece[..piece.floor_char_boundary(MAX - recorded.len())]);
        }
    }
    recorded
}

/// MailerQ's word for a stage.
pub fn state_of(stage: Stage) -> &'static str {
    match stage {
        Stage::Banner => "intro",
        Stage::Ehlo => "ehlo",
        Stage::StartTls | Stage::Handshake => "starttls",
        Stage::Auth(Exchange::Plain | Exchange::PlainResponse) => "authplain",
        Stage::Auth(Exchange::Login) => "authlogin",
        Stage::Auth(Exchange::LoginUsername) => "authusername",
        Stage::Auth(Exchange::LoginPassword) => "authpassword",
        Stage::Idle | Stage::Reset | Stage::Quit | Stage::Closed => "idle",
        Stage::Mail => "mailfrom",
        Stage::Rcpt => "rcptto",
        Stage::Data | Stage::Held | Stage::Body => "data",
        Stage::FinalDot => "message",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(text: &str) -> String {
        let reply = Reply::new(550, None, text).unwrap();
        let finish = Finish::of_reply("rcptto", &reply);
        let own = Finish::without_reply(Fate::Permanent, "rcptto", "error", text);
        assert_eq!(finish.description, own.description);
        assert!(!finish.trouble().contains('\n'));
        finish.description
    }

    #[test]
    fn a_reply_of_many_lines_is_recorded_as_one() {
        let rows = [
            ("no such user", "no such user"),
            ("no\nforged", "no / forged"),
            (" a\n\n\r\n b \n", "a / b"),
            ("", ""),
        ];
        for (text, expected) in rows {
            assert_eq!(described(text), expected);
        }
    }

    /// As many mails as wait may keep what a far end said.
    #[test]
    fn a_long_reply_takes_no_more_memory_than_its_record() {
        for text in
            ["\u{e4}".repeat(32 << 10), "x".repeat(Attempt::TEXT_BYTES_MAX), "y\n".repeat(9_000)]
        {
            let described = described(&text);
            assert!((1_023..=Attempt::TEXT_BYTES_MAX).contains(&described.len()), "{described}");
            assert!(described.capacity() <= Attempt::TEXT_BYTES_MAX);
        }
    }
}
