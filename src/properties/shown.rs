//! Messages as plugins ask for them: made when one asks, of what was kept for that.
//!
//! Diagnostics: none.

use std::sync::Arc;

use rohrpost_abi::{JsonSource, Text};
use serde_json::{Map, Value};

use super::told::{Known, object};
use crate::queue::{MailDsn, Origin, Transaction, TransactionId, Wishes};

/// A message that a client has brought, and that is not in the queue yet.
#[derive(Debug)]
pub struct Taken {
    /// The name that it gets.
    pub id: TransactionId,
    /// When it came, unix time in milliseconds.
    pub received_ms: u64,
    /// Where it came from.
    pub origin: Origin,
    /// How this server was called.
    pub hostname: Box<str>,
    /// What it asks for.
    pub wishes: Option<Box<Wishes>>,
    /// What is asked of notices, of each mail of which something is.
    pub dsns: Box<[(u16, Box<MailDsn>)]>,
}

impl Taken {
    /// What plugins are shown of one mail.
    pub fn shown(&self, mail: u16) -> Map<String, Value> {
        let known = Known {
            id: self.id.mail(mail),
            received_ms: self.received_ms,
            origin: Some(&self.origin),
            hostname: &self.hostname,
            dsn: self.dsns.iter().find(|(index, _)| *index == mail).map(|(_, dsn)| &**dsn),
        };
        object(&known, self.wishes.as_deref())
    }
}

impl JsonSource for Taken {
    fn object(&self, mail: u16) -> String {
        Value::from(self.shown(mail)).to_string()
    }

    /// Plugins are shown the text of such a message, and may change it.
    fn mime(&self, _: u16) -> Option<Text> {
        None
    }
}

/// A message out of the queue.
#[derive(Debug)]
pub struct Stored {
    /// The message.
    pub transaction: Arc<Transaction>,
    /// How this server is called.
    pub hostname: Box<str>,
}

impl Stored {
    /// A message in the queue of the server called `hostname`.
    pub fn new(transaction: &Arc<Transaction>, hostname: &str) -> Self {
        Self { transaction: transaction.clone(), hostname: hostname.into() }
    }

    /// What plugins are shown of one mail; nothing of one that it does not have.
    pub fn shown(&self, mail: u16) -> Map<String, Value> {
        let found = self.transaction.mail(mail).map(|mail| {
            let known = Known::of(&self.transaction, mail, &self.hostname);
            object(&known, self.transaction.wishes_of(mail))
        });
        found.unwrap_or_default()
    }
}

impl JsonSource for Stored {
    fn object(&self, mail: u16) -> String {
        Value::from(self.shown(mail)).to_string()
    }

    /// As it is sent, with our Received field.
    fn mime(&self, mail: u16) -> Option<Text> {
        let body = self.transaction.body(self.transaction.mail(mail)?)?;
        Some(Text::from_vec([&*self.transaction.trace, body.as_bytes()].concat()))
    }
}
