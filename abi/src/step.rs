//! Steps and verdicts: what a plugin is asked, and what it answers.
//!
//! Owns the vocabulary between the worker and the hooks. Must never hold state. Diagnostics: none.

use std::fmt;

use crate::hook::Hook;
use crate::id::MessageId;
use crate::text::Terminated;

/// One hook event on one connection, with its arguments.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A client has connected.
    Connect,
    /// The TLS handshake is done.
    Secure,
    /// The client sent credentials. Both are copies that the caller wipes after the chain (D-38).
    Authenticate {
        /// The user name.
        login: Terminated<'a>,
        /// The password.
        password: Terminated<'a>,
    },
    /// MAIL FROM: the bare address, empty for the null sender (D-3B).
    MailFrom(Terminated<'a>),
    /// RCPT TO: the bare address.
    RcptTo(Terminated<'a>),
    /// A whole message, unstuffed (D-41).
    Data(Terminated<'a>),
    /// One recipient's message, before it is stored.
    Message(MessageId),
    /// The connection is gone.
    Close,
    /// An outgoing message, after a positive answer to DATA (D-80).
    OutData(MessageId),
    /// An outgoing message of which everything was written, before the remote's answer. G2 and later.
    OutSent(MessageId),
    /// EHLO or HELO, with the name that the client gave.
    Helo(Terminated<'a>),
    /// The client dropped its transaction.
    Reset,
    /// An outgoing connection is there, and greeted us; nothing was said yet.
    OutConnect,
    /// The TLS handshake of an outgoing connection is done.
    OutSecure,
    /// An outgoing message, before its MAIL FROM.
    OutMessage(MessageId),
    /// What became of an outgoing message, before that is settled.
    OutResult {
        /// The message.
        message: MessageId,
        /// The remote's reply code, 0 if it gave none.
        code: u16,
        /// The remote's words, or ours.
        text: Terminated<'a>,
    },
    /// An outgoing connection is gone (D-84).
    OutClose,
}

impl Step<'_> {
    /// The hook that this step calls.
    pub const fn hook(&self) -> Hook {
        match self {
            Step::Connect => Hook::Connect,
            Step::Secure => Hook::Secure,
            Step::Authenticate { .. } => Hook::Authenticate,
            Step::MailFrom(_) => Hook::MailFrom,
            Step::RcptTo(_) => Hook::RcptTo,
            Step::Data(_) => Hook::Data,
            Step::Message(_) => Hook::Message,
            Step::Close => Hook::Close,
            Step::OutData(_) => Hook::OutData,
            Step::OutSent(_) => Hook::OutSent,
            Step::Helo(_) => Hook::Helo,
            Step::Reset => Hook::Reset,
            Step::OutConnect => Hook::OutConnect,
            Step::OutSecure => Hook::OutSecure,
            Step::OutMessage(_) => Hook::OutMessage,
            Step::OutResult { .. } => Hook::OutResult,
            Step::OutClose => Hook::OutClose,
        }
    }

    /// The message that this step shows.
    #[inline]
    pub const fn message(&self) -> Option<MessageId> {
        match self {
            Step::Message(message)
            | Step::OutData(message)
            | Step::OutSent(message)
            | Step::OutMessage(message)
            | Step::OutResult { message, .. } => Some(*message),
            Step::Connect
            | Step::Secure
            | Step::Authenticate { .. }
            | Step::MailFrom(_)
            | Step::RcptTo(_)
            | Step::Data(_)
            | Step::Close
            | Step::Helo(_)
            | Step::Reset
            | Step::OutConnect
            | Step::OutSecure
            | Step::OutClose => None,
        }
    }

    /// The last step of a connection, where plugins free their data: no plugin is passed over in it.
    pub const fn is_last(&self) -> bool {
        matches!(self, Step::Close | Step::OutClose)
    }
}

/// One hook event on a worker's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContextStep {
    /// The worker starts (D-14).
    Initialize,
    /// The worker is about to end (D-16).
    Cleanup,
}

impl ContextStep {
    /// The hook that this step calls.
    pub const fn hook(self) -> Hook {
        match self {
            ContextStep::Initialize => Hook::ContextInitialize,
            ContextStep::Cleanup => Hook::ContextCleanup,
        }
    }
}

/// How a plugin hands control back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Ask the next plugin.
    Continue,
    /// Skip the other plugins in this step.
    Complete,
    /// Start the step again at the first plugin.
    Retry,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Continue => "Continue",
            Verdict::Complete => "Complete",
            Verdict::Retry => "Retry",
        })
    }
}

/// What one call of a hook came to.
///
/// | `took_control` | `verdict` | the worker goes on |
/// |---|---|---|
/// | false | `None` | with the next plugin |
/// | true | `None` | when a [`Resume`](crate::Command::Resume) comes; the plugin holds the step |
/// | any | `Some` | now, as the verdict says (D-20, D-21) |
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// The hook returned true.
    pub took_control: bool,
    /// The plugin handed back before it returned.
    pub verdict: Option<Verdict>,
    /// The plugin has answered the step, which is over unless it is held: see
    /// [`take_answer`](crate::Worker::take_answer).
    pub answered: bool,
}

/// What asking plugins in a row came to ([`Worker::ask`](crate::Worker::ask)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Walked {
    /// How many were not interested, before the one that was or of all.
    // Small, so that it all is returned in a register.
    pub declined: u16,
    /// What the next one came to; `None` if all declined.
    pub returned: Option<Returned>,
}
