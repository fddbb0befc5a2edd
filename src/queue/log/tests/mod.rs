//! Tests of the log against the storage that fails on request.
//!
//! Owns the rig: a journal driven with a manual clock, without the thread.
//!
//! Diagnostics: seeds are printed; `ROHRPOST_SEED` overrides them.

mod behaviour;
mod crash;
mod damage;
mod extras;
mod layout;
mod results;
mod scarcity;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use super::codec;
use super::journal::{Completions, Handed, Journal, Options};
use super::reader::LogReader;
use super::recovery::OpenError;
use super::start::{Reading, Start, start};
use crate::queue::engine::{Entry, Refusal, Status};
use crate::queue::extras::{Extras, MailNotes};
use crate::queue::mail::{Attempt, Body, Mail, MailId, Next, Origin, Transaction, TransactionId};
use crate::queue::memory::MemoryStorage;
use crate::queue::report::Recovered;
use crate::queue::wishes::{DsnNotify, MailDsn, Wishes};

/// A journal with its clock.
pub(super) struct Rig {
    pub(super) journal: Journal,
    pub(super) reader: LogReader,
    pub(super) now_ms: u64,
}

/// Small segments, so that a short test has many.
pub(super) fn options() -> Options {
    Options { segment_bytes: 2000, settle_sync_ms: 100, min_free_bytes: 0, reserve_bytes: 0 }
}

impl Rig {
    pub(super) fn open(storage: &MemoryStorage) -> Result<(Self, Recovered), OpenError> {
        Self::open_with(storage, options())
    }

    pub(super) fn open_with(
        storage: &MemoryStorage,
        options: Options,
    ) -> Result<(Self, Recovered), OpenError> {
        let start = start(Arc::new(storage.clone()), options, u64::MAX)?;
        let Start { mut journal, reader, reading: Reading::Done(replay), .. } = start else {
            panic!("no log is longer");
        };
        let recovered = journal.absorb(*replay);
        let mut rig = Self { journal, reader, now_ms: 0 };
        rig.commit([]);
        Ok((rig, recovered))
    }

    /// As far as has to be before mail is taken.
    pub(super) fn open_unread(storage: &MemoryStorage) -> Result<(Self, Reading), OpenError> {
        let start = start(Arc::new(storage.clone()), options(), 0)?;
        let Start { journal, reader, reading, .. } = start;
        let mut rig = Self { journal, reader, now_ms: 0 };
        rig.commit([]);
        Ok((rig, reading))
    }

    /// One batch.
    pub(super) fn commit(&mut self, entries: impl IntoIterator<Item = Handed>) -> Completions {
        let mut queue: VecDeque<Handed> = entries.into_iter().collect();
        let done = self.journal.commit(&mut queue, self.now_ms);
        assert!(queue.is_empty(), "a small batch is taken whole");
        done
    }

    pub(super) fn accept(&mut self, transaction: &Transaction) -> Result<(), Refusal> {
        let done = self.commit([(0, Entry::Accept(Arc::new(transaction.clone())))]);
        let [(id, answer)] = done[&0].accepted[..] else { panic!("one is answered") };
        assert_eq!(id, transaction.id);
        answer
    }

    pub(super) fn settle(&mut self, mail: MailId, next: Next) {
        self.commit([(0, Entry::Settle(attempt(mail, next)))]);
    }

    /// Lets time pass until nothing is left to be done.
    pub(super) fn rest(&mut self) {
        for _ in 0..10_000 {
            let Some(at_ms) = self.journal.next_wake(self.now_ms) else {
                return;
            };
            self.now_ms = self.now_ms.max(at_ms);
            self.commit([]);
        }
        panic!("the journal never comes to rest");
    }

    pub(super) fn status(&self) -> Status {
        self.journal.gauges.status()
    }
}

pub(super) fn id(number: u64) -> TransactionId {
    TransactionId::from_u64(number)
}

/// A transaction with `recipients` recipients and a text of `bytes` bytes.
pub(super) fn transaction(number: u64, recipients: u16, bytes: usize) -> Transaction {
    let mut text = format!("Subject: {number}\r\n\r\n").into_bytes();
    text.resize(bytes, b'a' + (number % 26) as u8);
    text.push(0);
    let mails = (0..recipients).map(|index| Mail {
        index,
        envelope: if number.is_multiple_of(5) { "".into() } else { "sender@example.com".into() },
        recipient: format!("r{index}@example.net").into(),
        body: 0,
        dsn: (number.is_multiple_of(4) && index != 1).then(|| Box::new(dsn(index))),
        extras: (number.is_multiple_of(4) && index == 1).then(|| Arc::new(extras(number))),
    });
    Transaction {
        id: id(number),
        received_ms: 1_000_000 + number,
        mails: mails.collect(),
        bodies: vec![Body::try_from(text).unwrap()],
        trace: (*b"Received: by test\r\n").into(),
        origin: Origin {
            remote: "192.0.2.1:1025".parse().unwrap(),
            local: "[2001:db8::1]:25".parse().unwrap(),
            helo: "client.example".into(),
            user: (number.is_multiple_of(3)).then(|| "user".into()),
            secure: number.is_multiple_of(2),
            authenticated: number.is_multiple_of(3),
        },
        eight_bit: number % 2 == 1,
        smtputf8: number.is_multiple_of(7),
        wishes: number.is_multiple_of(4).then(|| Box::new(wishes(number))),
        shelf: None,
    }
}

fn dsn(index: u16) -> MailDsn {
    let orcpt = (index == 2).then(|| "rfc822;first@example.net".into());
    MailDsn { notify: DsnNotify::SUCCESS.with(DsnNotify::DELAY), orcpt }
}

/// A mail's own wishes and notes.
pub(super) fn extras(number: u64) -> Extras {
    let properties = Some(format!(r#"{{"customer":{number}}}"#).into());
    let mut notes = MailNotes::default();
    assert!(notes.set("seen", b"\0\xff") && notes.set("empty", b""));
    Extras { wishes: Some(Box::new(Wishes { properties, ..wishes(number) })), notes }
}

fn wishes(number: u64) -> Wishes {
    let retries_s = Some([60, 300].into());
    Wishes { retries_s, tags: [number.to_string().into()].into(), ..Wishes::default() }
}

pub(super) fn attempt(mail: MailId, next: Next) -> Attempt {
    Attempt {
        mail,
        at_ms: 2_000_000,
        next,
        state: "message".into(),
        result: if next == Next::Delivered { "accepted" } else { "error" }.into(),
        code: 250,
        status: "2.0.0".into(),
        description: "a reply".into(),
        from: Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
        to: Some(SocketAddr::from(([192, 0, 2, 9], 25))),
        facts: None,
        extras: None,
    }
}

pub(super) const LATER: Next = Next::Retry { not_before_ms: 3_000_000 };

/// One record of each kind, as kind, metadata and body; three mails are left.
pub(in crate::queue) fn sample_segment() -> Vec<(u8, Vec<u8>, Vec<u8>)> {
    let mut records = Vec::new();
    let mut add = |kind: u8, body: &[u8], put: &dyn Fn(&mut Vec<u8>)| {
        let mut metadata = Vec::new();
        put(&mut metadata);
        records.push((kind, metadata, body.to_vec()));
    };
    let opening = codec::Opening { previous: 0, previous_bytes: 0, oldest: 0, id_max: None };
    add(1, b"", &|out| codec::put_opening(out, &opening));
    for number in 1..=4 {
        let transaction = transaction(number, 2, 40);
        let body = transaction.bodies[0].as_bytes_with_nul();
        add(2, body, &|out| codec::put_accept(out, &transaction, &[]).unwrap());
    }
    add(3, b"", &|out| codec::put_settle(out, &attempt(id(1).mail(0), LATER), 1));
    add(3, b"", &|out| codec::put_settle(out, &attempt(id(2).mail(0), Next::Delivered), 1));
    add(3, b"", &|out| codec::put_settle(out, &attempt(id(2).mail(1), Next::Removed), 1));
    add(4, b"", &|out| codec::put_void(out, &[id(3)]));
    add(5, b"", &|out| codec::put_release(out, 1));
    records
}
