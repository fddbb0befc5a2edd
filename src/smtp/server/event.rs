//! What a server session tells its driver, and what it is told.
//!
//! Owns the vocabulary alone.
//!
//! Diagnostics: none.

use std::sync::Arc;

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
    /// A client introduces itself: decide, if [`Asks`](super::Asks) wants that. Refused, everything stays
    /// as it was (RFC 5321 4.1.4).
    Hello(Hello),
    /// A client starts over, or introduces itself within a transaction: decide, if
    /// [`Asks`](super::Asks) wants that. It cannot be refused (RFC 5321 4.1.1.5); only the session can be
    /// closed.
    Rset,
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

/// What a message came over: the `with` word of a Received field (RFC 3848, RFC 6531 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protocol {
    /// What was spoken.
    pub dialect: Dialect,
    /// Whether the transaction had the SMTPUTF8 parameter.
    pub smtputf8: bool,
    /// Whether the connection was encrypted.
    pub secure: bool,
    /// Whether AUTH was successful.
    pub authenticated: bool,
}

impl Protocol {
    /// The registered keyword. There is none for TLS or a login after HELO, which has neither.
    pub const fn keyword(self) -> &'static str {
        match (self.dialect, self.smtputf8, self.secure, self.authenticated) {
            // AUTH and STARTTLS are extensions: HELO has none.
            (Dialect::Smtp, _, _, _) => "SMTP",
            (Dialect::Esmtp, false, false, false) => "ESMTP",
            (Dialect::Esmtp, false, true, false) => "ESMTPS",
            (Dialect::Esmtp, false, false, true) => "ESMTPA",
            (Dialect::Esmtp, false, true, true) => "ESMTPSA",
            (Dialect::Esmtp, true, false, false) => "UTF8SMTP",
            (Dialect::Esmtp, true, true, false) => "UTF8SMTPS",
            (Dialect::Esmtp, true, false, true) => "UTF8SMTPA",
            (Dialect::Esmtp, true, true, true) => "UTF8SMTPSA",
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
    pub name: Arc<str>,
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

/// The answer to [`Event::Mail`], [`Event::Rcpt`], [`Event::StartTls`], [`Event::Message`],
/// [`Event::Authenticate`], [`Event::Hello`] or [`Event::Rset`].
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
    /// Refuse with this reply, and count it as an error of the client even if it is for now (4yz).
    RefuseAsError(Reply),
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
