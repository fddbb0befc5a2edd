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
        }
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

impl Verdict {
    /// The function that says so.
    pub const fn function(self) -> &'static str {
        match self {
            Verdict::Continue => "MQ_Continue",
            Verdict::Complete => "MQ_Complete",
            Verdict::Retry => "MQ_Retry",
        }
    }
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
