//! The outcome of one attempt, in MailerQ's words for states and results.
//!
//! Must never: decide when the next attempt is; that is the retry rule's.
//!
//! **Diagnostics**: the words end in the queue's records and in what `rohrpost queue show` prints.

use std::net::{IpAddr, SocketAddr};

use crate::smtp::Reply;

/// What an attempt means for the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The next hop took it: its final 250 was received.
    Delivered,
    /// It will never work: a 5xx, or something that no retry mends.
    Permanent,
    /// It may work later: a 4xx, a lost connection, a deadline.
    Temporary,
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
    /// The reply's text, or what went wrong.
    pub description: String,
    /// Our end of the connection.
    pub from: Option<IpAddr>,
    /// The next hop.
    pub to: Option<SocketAddr>,
}

impl Finish {
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
            status: reply
                .status()
                .map(|status| status.to_string())
                .unwrap_or_default(),
            description: reply.text().to_owned(),
            from: None,
            to: None,
        }
    }

    /// An attempt that ended without a reply.
    pub fn without_reply(
        fate: Fate,
        state: &'static str,
        result: &'static str,
        description: impl Into<String>,
    ) -> Finish {
        Finish {
            fate,
            state,
            result,
            code: 0,
            status: String::new(),
            description: description.into(),
            from: None,
            to: None,
        }
    }

    /// Adds the two ends of the connection.
    pub fn between(mut self, from: Option<IpAddr>, to: Option<SocketAddr>) -> Finish {
        self.from = from;
        self.to = to;
        self
    }
}
