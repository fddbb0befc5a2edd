//! A mail as busy servers have it, of one recipient, with a text of any length.
//!
//! Diagnostics: none.

use std::sync::Arc;

use rohrpost::queue::{Attempt, Body, Entry, Mail, Next, Origin, Transaction, TransactionId};

/// A text of so many octets.
pub(crate) fn body(octets: usize) -> Body {
    let mut text = vec![b'x'; octets];
    text.push(0);
    Body::try_from(text).expect("it ends in a zero")
}

/// Takes responsibility for a mail with that text.
pub(crate) fn accept(id: TransactionId, body: &Body) -> Entry {
    Entry::Accept(Arc::new(Transaction {
        id,
        received_ms: 1_700_000_000_000,
        mails: vec![Mail {
            index: 0,
            envelope: "bounces-4711@sender.example.com".into(),
            recipient: "somebody@recipient.example.net".into(),
            body: 0,
            dsn: None,
            extras: None,
        }],
        bodies: vec![body.clone()],
        trace: [b't'; 160].into(),
        origin: Origin {
            remote: ([192, 0, 2, 1], 1025).into(),
            local: ([192, 0, 2, 2], 25).into(),
            helo: "client.example.org".into(),
            user: None,
            secure: true,
            authenticated: false,
        },
        eight_bit: false,
        smtputf8: false,
        wishes: None,
        shelf: None,
    }))
}

/// Records that it was delivered.
pub(crate) fn settle(id: TransactionId) -> Entry {
    Entry::Settle(Attempt {
        mail: id.mail(0),
        at_ms: 1_700_000_001_000,
        next: Next::Delivered,
        state: "message".into(),
        result: "accepted".into(),
        code: 250,
        status: "2.0.0".into(),
        description: "2.0.0 Ok: queued as 4711".into(),
        from: Some([192, 0, 2, 2].into()),
        to: Some(([198, 51, 100, 1], 25).into()),
        facts: None,
        extras: None,
    })
}
