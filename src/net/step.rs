//! The hook events of an incoming connection, with what the host needs when their chain is done.
//!
//! **Diagnostics**: none.

use rohrpost_abi::{ConnectionId, Hook, MessageId, Terminated};

use crate::plugin::chain::Chain;
use crate::plugin::view::{Audience, Plugins, Walk};
use crate::smtp::sasl::Credentials;

use super::message::Message;

/// The hook events of an incoming connection, with what the host needs when the chain is done.
#[derive(Debug)]
pub(super) enum Step {
    Connect,
    Secure,
    /// The address with its zero; nothing where no plugin looks.
    MailFrom(Vec<u8>),
    /// Wiped when the step is dropped (D-38).
    Authenticate(Box<Credentials>),
    /// So, and who is asked: about a recipient that the client may not send to, first those who can say
    /// otherwise; if they do, the others, each in their order. MQ_retry starts over with those who are asked.
    RcptTo(Vec<u8>, Audience),
    /// The name with its zero.
    Helo(Vec<u8>),
    Reset,
    Data(Box<Message>),
    Message(Box<Message>, MessageId),
    Close,
}

impl Step {
    /// The hook that is called.
    pub(super) fn hook(&self) -> Hook {
        match self {
            Step::Connect => Hook::Connect,
            Step::Authenticate(_) => Hook::Authenticate,
            Step::Secure => Hook::Secure,
            Step::MailFrom(_) => Hook::MailFrom,
            Step::RcptTo(..) => Hook::RcptTo,
            Step::Helo(_) => Hook::Helo,
            Step::Reset => Hook::Reset,
            Step::Data(_) => Hook::Data,
            Step::Message(..) => Hook::Message,
            Step::Close => Hook::Close,
        }
    }

    /// Which of the plugins that export the hook are asked.
    pub(super) fn audience(&self) -> Audience {
        match self {
            Step::RcptTo(_, audience) => *audience,
            _ => Audience::All,
        }
    }

    /// Walks the chain as far as it goes now.
    pub(super) fn walk(
        &self,
        plugins: &mut Plugins,
        chain: &mut Chain,
        connection: ConnectionId,
    ) -> Walk {
        let step = match self {
            Step::Connect => rohrpost_abi::Step::Connect,
            Step::Authenticate(credentials) => rohrpost_abi::Step::Authenticate {
                login: zeroed(credentials.login.as_bytes_with_nul()),
                password: zeroed(credentials.password.as_bytes_with_nul()),
            },
            Step::Secure => rohrpost_abi::Step::Secure,
            Step::MailFrom(text) => rohrpost_abi::Step::MailFrom(zeroed(text)),
            Step::RcptTo(text, _) => rohrpost_abi::Step::RcptTo(zeroed(text)),
            Step::Helo(text) => rohrpost_abi::Step::Helo(zeroed(text)),
            Step::Reset => rohrpost_abi::Step::Reset,
            Step::Data(message) => rohrpost_abi::Step::Data(zeroed(message.text_with_nul())),
            Step::Message(_, id) => rohrpost_abi::Step::Message(*id),
            Step::Close => rohrpost_abi::Step::Close,
        };
        plugins.walk_among(chain, connection, &step, self.audience())
    }
}

/// An address as a C string.
pub(super) fn terminated(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes
}

fn zeroed(bytes: &[u8]) -> Terminated<'_> {
    if bytes.is_empty() {
        // Nobody looks.
        return Terminated::EMPTY;
    }
    Terminated::new(bytes).expect("it was made with its zero")
}
