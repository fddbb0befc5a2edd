//! What a server session tells its driver, and what it is told.
//!
//! Owns the vocabulary alone.
//!
//! Diagnostics: none.

use super::super::body::Body;
use super::super::command::{Dialect, MailFrom, RcptTo};
use super::super::reply::Reply;
use super::super::sasl::Credentials;

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A sender is proposed: decide. Size, syntax and sequence are checked.
    Mail(MailFrom),
    /// A recipient is proposed: decide.
    Rcpt(RcptTo),
    /// The client wants TLS: decide. Accepted, it hears 220, everything that it has sent so far is
    /// forgotten, and the session waits for [`Session::on_secure`](super::Session::on_secure).
    StartTls,
    /// A message is complete: decide once it is durable. The transaction ends with the answer.
    Message(Received),
    /// A client says who it is: decide. Outside of a transaction, and where it was offered.
    Authenticate(Credentials),
    /// The transaction was dropped by RSET, a new EHLO, or a fault in the text: the driver drops what
    /// it kept of sender and recipients. Nothing is to be decided.
    Reset,
    /// The session is over: write the output that is left, then close. Ends a transaction too.
    Close(CloseReason),
}

/// A complete message, and the memory that is held for it.
#[derive(Debug, PartialEq, Eq)]
pub struct Received {
    /// The text, unstuffed; never with a bare CR or LF. Sent in chunks it may lack a final CRLF, which
    /// delivery adds.
    pub body: Body,
    /// The command that brought it.
    pub via: Via,
    /// Received fields in its header; a loop is suspected above 50 (RFC 5321 6.3).
    pub received_fields: usize,
    /// The word for our own Received field.
    pub protocol: Protocol,
    /// Bytes of [`Memory`](crate::smtp::Memory) that the driver releases when the body is gone.
    pub reserved: usize,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// DATA.
    Data,
    /// BDAT.
    Bdat,
}

/// How a message was spoken, as a Received field says it (RFC 3848, RFC 6531 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// What it is an extension of.
    pub base: Base,
    /// Whether TLS was active.
    pub secure: bool,
    /// Whether the client had logged in.
    pub authenticated: bool,
}

/// The protocol without what RFC 3848 adds to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// After HELO.
    Smtp,
    /// After EHLO.
    Esmtp,
    /// With the SMTPUTF8 parameter.
    Utf8Smtp,
}

impl Protocol {
    /// The registered keyword. There is none for TLS or a login after HELO, which has neither.
    pub const fn keyword(self) -> &'static str {
        match (self.base, self.secure, self.authenticated) {
            (Base::Smtp, _, _) => "SMTP",
            (Base::Esmtp, false, false) => "ESMTP",
            (Base::Esmtp, true, false) => "ESMTPS",
            (Base::Esmtp, false, true) => "ESMTPA",
            (Base::Esmtp, true, true) => "ESMTPSA",
            (Base::Utf8Smtp, false, false) => "UTF8SMTP",
            (Base::Utf8Smtp, true, false) => "UTF8SMTPS",
            (Base::Utf8Smtp, false, true) => "UTF8SMTPA",
            (Base::Utf8Smtp, true, true) => "UTF8SMTPSA",
        }
    }
}

/// Whether a client may say who it is (RFC 4954).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoginOffer {
    /// There is nobody to ask.
    #[default]
    No,
    /// It may, once the connection is encrypted; until then it is not told so (D-37).
    AfterTls,
    /// It may.
    Yes,
}

/// How the client introduced itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The name it gave: printable ASCII, at most 255 octets, otherwise unchecked.
    pub name: Box<str>,
    /// HELO or EHLO.
    pub dialect: Dialect,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client said QUIT.
    Quit,
    /// The greeting or a decision refused the client for good.
    Refused,
    /// More errors than are forgiven.
    TooManyErrors,
    /// A chunk without a readable size: where the next command begins is unknown.
    Desynchronised,
    /// A deadline passed in this phase.
    TimedOut(Phase),
    /// The server stops.
    Shutdown,
}

/// The answer of the connect chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Greeting {
    /// Send the banner.
    Accept,
    /// Send this instead (554 or 421, RFC 5321 3.1), and close.
    Refuse(Reply),
}

/// The answer to [`Event::Mail`], [`Event::Rcpt`], [`Event::StartTls`], [`Event::Message`] or
/// [`Event::Authenticate`].
///
/// A refusal whose code is not 4yz or 5yz goes out as `451 4.3.0`, and an acceptance whose code is not
/// 2yz as the ordinary one: what the client hears is always what was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Accept with the ordinary reply.
    Accept,
    /// Accept with this reply (2yz).
    AcceptWith(Reply),
    /// Refuse with this reply (4yz or 5yz).
    Refuse(Reply),
    /// Refuse with this reply, usually 421, and end the session.
    RefuseAndClose(Reply),
}

/// What the session waits for, and so which deadline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// The driver's connect chain.
    Greeting,
    /// A command of the client (RFC 5321 4.5.3.2.7).
    Command,
    /// The driver's TLS handshake.
    Handshake,
    /// Text or chunks of the client (RFC 5321 4.5.3.2.5).
    Data,
    /// A decision of the driver: the client is not at fault (D-48).
    Parked,
    /// Nothing more; the output drains.
    Closing,
}
