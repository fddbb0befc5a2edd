//! One mail as the client announces it, and what the far end can take.
//!
//! Owns the EHLO keywords that matter, the command lines of a transaction, and the rule that nothing is
//! written on the wire that did not pass the address grammar: an address is the one place where text of
//! strangers gets into a command.
//!
//! Diagnostics: [`StartError`] for mails that no far end may ever see; [`Obstacle`] for those that this
//! one cannot take.

use thiserror::Error;

use super::super::address::{Address, AddressError, Path};
use super::super::command::{BodyKind, number};
use super::super::dsn::Request;
use super::super::reply::Reply;
use super::login::Mechanisms;

/// What the far end offered in its EHLO reply.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Extensions {
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870); `Some(0)` offers it without naming a limit.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// ENHANCEDSTATUSCODES (RFC 2034).
    pub enhanced_status: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// AUTH (RFC 4954), with these mechanisms.
    pub auth: Mechanisms,
}

impl Extensions {
    /// Reads an EHLO reply; its first line is the greeting.
    pub(super) fn of(reply: &Reply) -> Self {
        let mut offered = Self::default();
        for line in reply.text().lines().skip(1) {
            offered.add(line);
        }
        offered
    }

    fn add(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let Some(keyword) = words.next() else {
            return;
        };
        match keyword.to_ascii_uppercase().as_str() {
            "PIPELINING" => self.pipelining = true,
            // A limit that cannot be read is no limit; the far end will say so itself.
            "SIZE" => {
                self.size = Some(words.next().and_then(|w| number(w.as_bytes())).unwrap_or(0));
            }
            "8BITMIME" => self.eight_bit = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "CHUNKING" => self.chunking = true,
            "ENHANCEDSTATUSCODES" => self.enhanced_status = true,
            "STARTTLS" => self.starttls = true,
            "DSN" => self.dsn = true,
            "AUTH" => self.auth.add(words),
            // As some servers wrote it before there was an RFC.
            word => {
                if let Some(first) = word.strip_prefix("AUTH=") {
                    self.auth.add(std::iter::once(first).chain(words));
                }
            }
        }
    }
}

/// A mail to one recipient.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// The sender without brackets; empty for the null sender.
    pub from: &'a str,
    /// The recipient without brackets.
    pub to: &'a str,
    /// Octets of text with our Received field, before dot-stuffing (RFC 1870 5).
    pub size: u64,
    /// What the text is made of. Without 8BITMIME it is sent as it is all the same: every server of
    /// today is 8-bit clean, and bouncing helps nobody.
    pub body: BodyKind,
    /// Whether the mail was received with SMTPUTF8. An address that is not ASCII needs it anyway.
    pub smtputf8: bool,
    /// What the sender asked for of notices; said where the far end offers DSN (RFC 3461 5.2.1).
    pub request: Request<'a>,
}

/// Why a mail was not started at all.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum StartError {
    /// The session is not idle.
    #[error("the session cannot start a mail now")]
    Busy,
    /// The sender could not be sent without harm.
    #[error("the sender cannot be sent")]
    Sender(#[source] AddressError),
    /// The recipient could not be sent without harm.
    #[error("the recipient cannot be sent")]
    Recipient(#[source] AddressError),
}

/// What the far end lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    SmtpUtf8,
    Size,
}

impl Obstacle {
    /// The reply that stands for it, as if the far end had said it.
    pub(super) fn reply(self) -> Reply {
        let (code, detail, text) = match self {
            Self::SmtpUtf8 => (553, (6, 7), "The next hop does not take SMTPUTF8 addresses"),
            Self::Size => (552, (3, 4), "The mail is larger than the next hop takes"),
        };
        let status = super::super::reply::EnhancedStatus::new(5, detail.0, detail.1);
        Reply::new(code, status, text).expect("both replies are permanent, and so is their status")
    }
}

/// An envelope whose addresses may go on the wire.
#[derive(Debug)]
pub(super) struct Checked {
    from: Address,
    to: Address,
    size: u64,
    body: BodyKind,
    smtputf8: bool,
    /// The parameters of RFC 3461, each with a blank before it.
    mail_request: Vec<u8>,
    rcpt_request: Vec<u8>,
}

impl Checked {
    pub(super) fn of(envelope: &Envelope<'_>) -> Result<Self, StartError> {
        let from = Address::parse_for(Path::Reverse, envelope.from).map_err(StartError::Sender)?;
        let to = Address::parse_for(Path::Forward, envelope.to).map_err(StartError::Recipient)?;
        let &Envelope { size, body, smtputf8, .. } = envelope;
        let (mut mail_request, mut rcpt_request) = (Vec::new(), Vec::new());
        envelope.request.write_mail(&mut mail_request);
        envelope.request.write_rcpt(&mut rcpt_request);
        Ok(Self { from, to, size, body, smtputf8, mail_request, rcpt_request })
    }

    /// Whether this far end can take it.
    pub(super) fn obstacle(&self, offered: &Extensions) -> Option<Obstacle> {
        let ascii = self.from.is_ascii() && self.to.is_ascii();
        if !ascii && !offered.smtputf8 {
            // RFC 6531 3.5: such an address has no other form.
            return Some(Obstacle::SmtpUtf8);
        }
        let limit = offered.size.filter(|limit| *limit > 0);
        // RFC 1870 6.1: the far end would refuse it anyway.
        limit.is_some_and(|limit| self.size > limit).then_some(Obstacle::Size)
    }

    /// `MAIL` with the parameters that were offered.
    pub(super) fn write_mail(&self, offered: &Extensions, out: &mut Vec<u8>) {
        // Every mail has them, and a formatter costs as much as all the rest of a step.
        for part in ["MAIL FROM:<", self.from.as_str(), ">"] {
            out.extend_from_slice(part.as_bytes());
        }
        if offered.size.is_some() {
            out.extend_from_slice(b" SIZE=");
            out.extend_from_slice(itoa::Buffer::new().format(self.size).as_bytes());
        }
        if self.body == BodyKind::EightBit && offered.eight_bit {
            out.extend_from_slice(b" BODY=8BITMIME");
        }
        let international = self.smtputf8 || !self.from.is_ascii() || !self.to.is_ascii();
        if international && offered.smtputf8 {
            out.extend_from_slice(b" SMTPUTF8");
        }
        if offered.dsn {
            out.extend_from_slice(&self.mail_request);
        }
        out.extend_from_slice(b"\r\n");
    }

    pub(super) fn write_rcpt(&self, offered: &Extensions, out: &mut Vec<u8>) {
        for part in ["RCPT TO:<", self.to.as_str(), ">"] {
            out.extend_from_slice(part.as_bytes());
        }
        if offered.dsn {
            out.extend_from_slice(&self.rcpt_request);
        }
        out.extend_from_slice(b"\r\n");
    }
}
