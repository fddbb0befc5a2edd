//! Reading the metadata of a transaction's record: all of it, or what is kept in memory.
//!
//! Owns the two forms, which accept the same bytes. The layout is documented at [`codec`](super::codec).
//!
//! Diagnostics: none; bytes that do not parse are `None`.

use std::net::SocketAddr;
use std::sync::Arc;

use super::codec::{AUTHENTICATED, Accept, EIGHT_BIT, Fields, SECURE, SMTPUTF8, USER, is_placed};
use super::history::History;
use crate::queue::extras::Extras;
use crate::queue::mail::{Addresses, Mail, MailId, Origin, Transaction, TransactionId};
use crate::queue::report::{Waiting, WaitingMail};
use crate::queue::wishes::{MailDsn, Wishes};

/// What is kept in memory of an accept record.
#[derive(Debug)]
pub(super) struct Accepted {
    /// Its mails.
    pub(super) waiting: Waiting,
    /// The named queue that it is an entry of.
    pub(super) shelf: Option<Box<str>>,
}

/// Reads an accept record's metadata, whose bodies together have `body_bytes`.
pub(super) fn take_accept(bytes: &[u8], body_bytes: u32) -> Option<Accept> {
    let mut fields = Fields(bytes);
    let head = fields.head()?;
    let mut lengths = Vec::with_capacity(1);
    fields.body_lengths(body_bytes, |length| lengths.push(length))?;
    let (mut mails, mut histories) = (Vec::new(), Vec::new());
    let bodies = lengths.len();
    fields.mails(
        &head,
        bodies,
        |MailFields { mail, body, envelope, recipient, dsn }, history| {
            let (history, extras) = history;
            let (envelope, recipient) = (envelope.into(), recipient.into());
            mails.push(Mail { index: mail.index, body, envelope, recipient, dsn, extras });
            histories.push(history);
        },
    )?;
    let transaction = Transaction {
        id: head.id,
        received_ms: head.received_ms,
        mails,
        bodies: Vec::new(),
        trace: head.trace.into(),
        origin: Origin {
            remote: head.remote,
            local: head.local,
            helo: head.helo.into(),
            user: head.user.map(Into::into),
            secure: head.flags & SECURE != 0,
            authenticated: head.flags & AUTHENTICATED != 0,
        },
        eight_bit: head.flags & EIGHT_BIT != 0,
        smtputf8: head.flags & SMTPUTF8 != 0,
        wishes: head.wishes,
        shelf: head.shelf.map(Box::from),
    };
    fields.end(Accept { transaction, histories, body_bytes: lengths })
}

/// The same, but nothing of it that is not kept in memory while its mails wait.
pub(super) fn take_waiting(bytes: &[u8], body_bytes: u32) -> Option<Accepted> {
    let mut fields = Fields(bytes);
    let head = fields.head()?;
    let (mut bodies, mut total) = (0, 0);
    fields.body_lengths(body_bytes, |length| {
        bodies += 1;
        total += u64::from(length.max(1)) - 1;
    })?;
    let (mut first, mut others) = (None, Vec::new());
    fields.mails(&head, bodies, |MailFields { mail, envelope, recipient, .. }, history| {
        let (History { attempts, kept }, extras) = history;
        let mail = WaitingMail {
            index: mail.index,
            addresses: Addresses::new(envelope, recipient),
            attempts,
            last: kept.into_iter().next_back().map(|(_, last)| Box::new(last)),
            extras,
        };
        match &first {
            None => first = Some(mail),
            Some(_) => others.push(mail),
        }
    })?;
    let waiting = Waiting {
        id: head.id,
        received_ms: head.received_ms,
        body_bytes: total,
        wishes: head.wishes,
        mails: first.into_iter().chain(others).collect(),
    };
    fields.end(Accepted { waiting, shelf: head.shelf.map(Box::from) })
}

/// What a transaction's record begins with.
struct HeadFields<'a> {
    id: TransactionId,
    received_ms: u64,
    flags: u8,
    remote: SocketAddr,
    local: SocketAddr,
    helo: &'a str,
    user: Option<&'a str>,
    wishes: Option<Box<Wishes>>,
    shelf: Option<&'a str>,
    trace: &'a [u8],
}

/// What it has of each mail, but for its attempts and extras.
struct MailFields<'a> {
    mail: MailId,
    body: u16,
    envelope: &'a str,
    recipient: &'a str,
    dsn: Option<Box<MailDsn>>,
}

impl<'a> Fields<'a> {
    fn head(&mut self) -> Option<HeadFields<'a>> {
        let id = TransactionId::from_u64(self.u64()?);
        let received_ms = self.u64()?;
        let flags = self.u8()?;
        Some(HeadFields {
            id,
            received_ms,
            flags,
            remote: self.socket()??,
            local: self.socket()??,
            helo: self.str()?,
            user: if flags & USER != 0 { Some(self.str()?) } else { None },
            wishes: self.wishes(flags)?,
            shelf: self.shelf(flags)?,
            trace: self.bytes()?,
        })
    }

    fn body_lengths(&mut self, total: u32, mut keep: impl FnMut(u32)) -> Option<()> {
        let mut left = total;
        for _ in 0..self.u16()? {
            let length = self.u32()?;
            left = left.checked_sub(length)?;
            keep(length);
        }
        (left == 0).then_some(())
    }

    /// Each with its attempts and extras; `None` also where there is none, or where they are out of order or
    /// have a body that is not among `bodies`.
    fn mails(
        &mut self,
        head: &HeadFields<'a>,
        bodies: usize,
        mut keep: impl FnMut(MailFields<'a>, (History, Option<Arc<Extras>>)),
    ) -> Option<()> {
        let count = self.u32()?;
        let mut last = None;
        for _ in 0..count {
            let mail = head.id.mail(self.u16()?);
            let fields = MailFields {
                mail,
                body: self.u16()?,
                envelope: self.str()?,
                recipient: self.str()?,
                dsn: self.dsn(head.flags)?,
            };
            if last >= Some(mail) || !is_placed(fields.body, bodies) {
                return None;
            }
            last = Some(mail);
            keep(fields, self.history(mail)?);
        }
        (count > 0).then_some(())
    }
}
