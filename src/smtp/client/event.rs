//! What a client session tells its driver.
//!
//! Owns the vocabulary alone.
//!
//! Diagnostics: none.

use thiserror::Error;

use super::super::reply::Reply;
use super::envelope::Extensions;
use super::login::Exchange;

/// What the session waits for, and so which deadline runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// The far end's banner, or behind it the driver.
    Banner,
    /// The reply to EHLO, or to HELO after it.
    Ehlo,
    /// The reply to STARTTLS.
    StartTls,
    /// The driver, which shakes hands over TLS.
    Handshake,
    /// The reply to a step of AUTH.
    Auth(Exchange),
    /// A mail to be started, or QUIT.
    Idle,
    /// The reply to RSET.
    Reset,
    /// The reply to MAIL.
    Mail,
    /// The reply to RCPT.
    Rcpt,
    /// The 354 to DATA.
    Data,
    /// The driver, between 354 and the first octet of text (D-80): the far end's patience runs too.
    Held,
    /// The driver, which writes the text. Where it goes ahead of all replies, those to what stands before
    /// it are awaited as well.
    Body,
    /// The reply to the final dot, or to the last chunk.
    FinalDot,
    /// The reply to QUIT.
    Quit,
    /// Nothing: the connection is over.
    Closed,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The far end's banner is a welcome. EHLO waits until the driver lets the session
    /// [proceed](super::Session::proceed); only where [`Options`](super::Options) ask for that.
    Banner,
    /// The far end greeted; mails may be started.
    Ready {
        /// What it offered.
        extensions: Extensions,
    },
    /// The far end waits for a handshake: nothing more is sent or read in clear.
    StartTls,
    /// The far end waits for the text. The session is held.
    Data354,
    /// The fate of the current mail; or, before [`Event::Ready`], of the connection, which says QUIT by
    /// itself then.
    Done(Outcome),
    /// The connection cannot be used any more. With a mail under way, it is unknown to be accepted and
    /// is to be tried again.
    Lost {
        /// Where it happened.
        stage: Stage,
        /// What happened.
        problem: Problem,
    },
    /// The connection is over in good order: QUIT was answered, or the far end said 421.
    Goodbye,
}

/// The fate of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The far end has it; it is never sent again.
    Accepted(Reply),
    /// It was refused: for now with a 4yz reply, for good with a 5yz one.
    Refused {
        /// The command that was refused; the first, where several were.
        stage: Stage,
        /// Why.
        reply: Reply,
        /// Who said so.
        origin: Origin,
    },
}

/// Who refused a mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The far end.
    Remote,
    /// This session, without asking: the far end lacks what the mail, or our own rule, needs.
    Local,
}

/// Why a connection became useless.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// More lines, or a longer one, than a reply may have.
    #[error("the reply is longer than the limit")]
    ReplyTooLong,
    /// Not a reply of SMTP.
    #[error("the reply cannot be read")]
    BadReply,
    /// A reply that makes no sense here, or that nothing asked for.
    #[error("the reply does not fit the command")]
    UnexpectedReply,
    /// Something came in clear behind the reply to STARTTLS: whoever sent it, it is not to be trusted
    /// (RFC 3207 6).
    #[error("there was more behind the reply to STARTTLS")]
    EarlyInput,
    /// The far end closed, or the network failed.
    #[error("the connection was closed")]
    Closed,
    /// A deadline passed.
    #[error("the far end did not answer in time")]
    TimedOut,
}
