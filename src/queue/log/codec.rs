//! The metadata of each kind of record, to bytes and back.
//!
//! Owns their layout and every check that makes a decoded value safe to use. Must not allocate
//! more than a small multiple of the bytes it was given.
//!
//! Diagnostics: [`Unfit`] for a transaction that no record can hold (a fault of the caller); bytes
//! that do not parse are `None`, reported as damage by whoever read them.
//!
//! Integers are little endian. A text is its length in 4 bytes, then UTF-8. A socket address is its
//! family (0 none, 4, 6), the address, the port, and for 6 flow and scope; an address has no port.
//!
//! | kind | fields |
//! |---|---|
//! | opening | number of the previous segment (8; 0 none), its length (8), the oldest that counts (8), the largest transaction id so far (8; 0 none) |
//! | accept | id (8), received (8), flags (1), remote, local, helo, user if flagged, wishes (JSON) if flagged, shelf if flagged, trace, number of bodies (2), the length of each (4), number of mails (4), each mail: index (2), body or 65535 for none (2), envelope, recipient, if flagged notify (1; 128 none) and orcpt, attempts so far (4), none is kept (0), the last (1) and that attempt, or some (2), how many (1), of each its number (4) and the attempt; with 128 extras follow |
//! | settle | id (8), index (2), number of the attempt (4), the attempt |
//! | outcome | how many companions go with it (1), as a settle |
//! | companion | as an accept |
//! | void | ids (8 each) |
//! | release | the oldest segment that counts (8) |
//! | an attempt | at (8), next (1; with 128 facts follow, with 64 behind those extras), not before (8), code (2), state, result, status, description, from, to, facts if flagged, extras if flagged |
//! | extras | wishes (JSON; empty for none), number of notes (2), each note: name, octets |
//!
//! What the flags from 32 on name came later, and the extras after that: a log without them reads as
//! before.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use super::extras::{put_extras, take_extras};
use super::history::History;
use super::record::{BODY_BYTES_MAX, METADATA_BYTES_MAX};
use crate::queue::extras::Extras;
use crate::queue::mail::{Attempt, MailId, NO_BODY, Next, Transaction, TransactionId};
use crate::queue::wishes::{DsnNotify, MailDsn, QueueWish, Wishes};

pub(super) const EIGHT_BIT: u8 = 1;
pub(super) const SMTPUTF8: u8 = 2;
pub(super) const SECURE: u8 = 4;
pub(super) const AUTHENTICATED: u8 = 8;
pub(super) const USER: u8 = 16;
const WISHES: u8 = 32;
const SHELF: u8 = 64;
/// Each mail says whether it has wishes for notices.
const DSN: u8 = 128;
/// In place of [`DsnNotify::bits`]: this mail has none.
const NO_DSN: u8 = 128;
/// Added to the number of what comes next.
const FACTS: u8 = 128;
/// The same.
const ATTEMPT_EXTRAS: u8 = 64;
/// Added to what says how much of a mail's attempts is kept.
const MAIL_EXTRAS: u8 = 128;

/// Why a transaction has no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// It breaks what [`Transaction`] promises.
    #[error("transaction {0} has no mails, unordered mails, or a mail without a body")]
    Malformed(TransactionId),
    /// It exceeds [`METADATA_BYTES_MAX`] or [`BODY_BYTES_MAX`].
    #[error("transaction {0} is larger than a record can be")]
    TooLarge(TransactionId),
    /// The disk has no room for its record.
    #[error("transaction {0} would leave too little of the disk free")]
    NoRoom(TransactionId),
}

/// The opening of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The segment that was written before; 0 for none.
    pub(super) previous: u64,
    /// How many of its bytes count; what follows them was never promised to anyone.
    pub(super) previous_bytes: u64,
    /// As in a release.
    pub(super) oldest: u64,
    /// The largest id of any transaction so far: its records may be gone, and an id is not to be
    /// given twice.
    pub(super) id_max: Option<TransactionId>,
}

/// An accept record's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Accept {
    /// The transaction; its bodies are absent.
    pub(super) transaction: Transaction,
    /// For each of its mails.
    pub(super) histories: Vec<History>,
    /// The stored length of each body with its zero; 0 for one that is no longer kept.
    pub(super) body_bytes: Vec<u32>,
}

/// A settle record's metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settle {
    /// The outcome.
    pub(super) attempt: Attempt,
    /// Which attempt of its mail it was, from 1.
    pub(super) number: u32,
}

pub(super) fn put_opening(out: &mut Vec<u8>, opening: &Opening) {
    put_u64(out, opening.previous);
    put_u64(out, opening.previous_bytes);
    put_u64(out, opening.oldest);
    put_u64(out, opening.id_max.map_or(0, TransactionId::as_u64));
}

pub(super) fn take_opening(bytes: &[u8]) -> Option<Opening> {
    let mut fields = Fields(bytes);
    let opening = Opening {
        previous: fields.u64()?,
        previous_bytes: fields.u64()?,
        oldest: fields.u64()?,
        id_max: Some(fields.u64()?).filter(|&id| id != 0).map(TransactionId::from_u64),
    };
    fields.end(opening)
}

pub(super) fn put_release(out: &mut Vec<u8>, oldest: u64) {
    put_u64(out, oldest);
}

pub(super) fn take_release(bytes: &[u8]) -> Option<u64> {
    let mut fields = Fields(bytes);
    let oldest = fields.u64()?;
    fields.end(oldest)
}

pub(super) fn put_void(out: &mut Vec<u8>, ids: &[TransactionId]) {
    for id in ids {
        put_u64(out, id.as_u64());
    }
}

pub(super) fn take_void(bytes: &[u8]) -> Option<Vec<TransactionId>> {
    let mut fields = Fields(bytes);
    let mut ids = Vec::with_capacity(bytes.len() / 8);
    while !fields.0.is_empty() {
        ids.push(TransactionId::from_u64(fields.u64()?));
    }
    Some(ids)
}

pub(super) fn put_settle(out: &mut Vec<u8>, attempt: &Attempt, number: u32) {
    put_u64(out, attempt.mail.transaction.as_u64());
    put_u16(out, attempt.mail.index);
    put_u32(out, number);
    put_attempt(out, attempt);
}

pub(super) fn take_outcome(bytes: &[u8]) -> Option<(u8, Settle)> {
    let (companions, settle) = bytes.split_first()?;
    Some((*companions, take_settle(settle)?))
}

pub(super) fn take_settle(bytes: &[u8]) -> Option<Settle> {
    let mut fields = Fields(bytes);
    let id = TransactionId::from_u64(fields.u64()?);
    let mail = id.mail(fields.u16()?);
    let number = fields.u32()?;
    let attempt = fields.attempt(mail)?;
    fields.end(Settle { attempt, number })
}

/// Appends the metadata of `transaction`. `histories` is empty for a new one, else has one for each
/// mail. Bodies that no mail uses are not kept. One that fits when it is new fits later without attempts,
/// as long as its extras stay within [`Extras::BYTES_MAX`]. On an error `out` is as it was.
pub(super) fn put_accept(
    out: &mut Vec<u8>,
    transaction: &Transaction,
    histories: &[History],
) -> Result<(), Unfit> {
    check(transaction)?;
    let start = out.len();
    put_u64(out, transaction.id.as_u64());
    put_u64(out, transaction.received_ms);
    put_origin(out, transaction);
    let wishes_fit = put_wishes(out, transaction);
    put_bytes(out, &transaction.trace);
    put_u16(out, transaction.bodies.len() as u16);
    let used = UsedBodies::of(transaction);
    for (at, body) in transaction.bodies.iter().enumerate() {
        put_u32(out, if used.has(at) { body.as_bytes_with_nul().len() as u32 } else { 0 });
    }
    put_u32(out, transaction.mails.len() as u32);
    let (mut extras_fit, mut extras_bytes) = (true, 0);
    for (at, mail) in transaction.mails.iter().enumerate() {
        put_u16(out, mail.index);
        put_u16(out, mail.body);
        put_bytes(out, mail.envelope.as_bytes());
        put_bytes(out, mail.recipient.as_bytes());
        if has_dsn(transaction) {
            put_dsn(out, mail.dsn.as_deref());
        }
        let marker = out.len() + 4;
        put_history(out, histories.get(at));
        if let Some(extras) = &mail.extras {
            out[marker] |= MAIL_EXTRAS;
            let extras_at = out.len();
            extras_fit &= put_extras(out, extras);
            extras_bytes += out.len() - extras_at;
        }
    }
    // A new one leaves room for what plugins may make of it later.
    let reserve = match histories {
        [] => Extras::BYTES_MAX.saturating_sub(extras_bytes),
        _ => 0,
    };
    if out.len() - start + reserve > METADATA_BYTES_MAX || !wishes_fit || !extras_fit {
        out.truncate(start);
        return Err(Unfit::TooLarge(transaction.id));
    }
    Ok(())
}

/// Which bodies have a mail.
pub(super) struct UsedBodies {
    first: bool,
    /// Empty for nearly all transactions: only plugins make more than one text of a message.
    others: Vec<bool>,
}

impl UsedBodies {
    pub(super) fn of(transaction: &Transaction) -> Self {
        let others = vec![false; transaction.bodies.len().saturating_sub(1)];
        let mut used = Self { first: false, others };
        for mail in transaction.mails.iter().filter(|mail| mail.body != NO_BODY) {
            match usize::from(mail.body).checked_sub(1) {
                None => used.first = true,
                Some(at) => used.others[at] = true,
            }
        }
        used
    }

    pub(super) fn has(&self, body: usize) -> bool {
        body.checked_sub(1).map_or(self.first, |at| self.others[at])
    }
}

/// Whether a mail can have this body where there are `bodies`.
pub(super) fn is_placed(body: u16, bodies: usize) -> bool {
    body == NO_BODY || usize::from(body) < bodies
}

fn check(transaction: &Transaction) -> Result<(), Unfit> {
    let named = transaction.shelf.as_deref().is_none_or(QueueWish::is_name);
    let is_long =
        |dsn: &MailDsn| dsn.orcpt.as_deref().unwrap_or_default().len() > MailDsn::ORCPT_BYTES_MAX;
    let mut dsns = transaction.mails.iter().filter_map(|mail| mail.dsn.as_deref());
    if !named || dsns.any(is_long) {
        return Err(Unfit::Malformed(transaction.id));
    }
    let bodies = transaction.bodies.len();
    let ordered = transaction.mails.is_sorted_by(|a, b| a.index < b.index);
    let placed = transaction.mails.iter().all(|mail| is_placed(mail.body, bodies));
    if transaction.mails.is_empty() || !ordered || !placed || bodies > usize::from(u16::MAX) {
        return Err(Unfit::Malformed(transaction.id));
    }
    let total: usize = transaction.bodies.iter().map(|body| body.as_bytes_with_nul().len()).sum();
    match total <= BODY_BYTES_MAX {
        true => Ok(()),
        false => Err(Unfit::TooLarge(transaction.id)),
    }
}

fn put_origin(out: &mut Vec<u8>, transaction: &Transaction) {
    let origin = &transaction.origin;
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    out.push(
        flag(transaction.eight_bit, EIGHT_BIT)
            | flag(transaction.smtputf8, SMTPUTF8)
            | flag(origin.secure, SECURE)
            | flag(origin.authenticated, AUTHENTICATED)
            | flag(origin.user.is_some(), USER)
            | flag(transaction.wishes.is_some(), WISHES)
            | flag(transaction.shelf.is_some(), SHELF)
            | flag(has_dsn(transaction), DSN),
    );
    put_socket(out, Some(origin.remote));
    put_socket(out, Some(origin.local));
    put_bytes(out, origin.helo.as_bytes());
    if let Some(user) = &origin.user {
        put_bytes(out, user.as_bytes());
    }
}

/// Whether they keep their bound; beyond it they would not read back.
#[must_use]
fn put_wishes(out: &mut Vec<u8>, transaction: &Transaction) -> bool {
    let mut fit = true;
    if let Some(wishes) = &transaction.wishes {
        let json = wishes.to_json();
        fit = json.len() <= Wishes::BYTES_MAX;
        put_bytes(out, &json);
    }
    if let Some(shelf) = &transaction.shelf {
        put_bytes(out, shelf.as_bytes());
    }
    fit
}

fn has_dsn(transaction: &Transaction) -> bool {
    transaction.mails.iter().any(|mail| mail.dsn.is_some())
}

fn put_dsn(out: &mut Vec<u8>, dsn: Option<&MailDsn>) {
    let Some(dsn) = dsn else {
        return out.push(NO_DSN);
    };
    out.push(dsn.notify.bits());
    put_bytes(out, dsn.orcpt.as_deref().unwrap_or_default().as_bytes());
}

fn put_history(out: &mut Vec<u8>, history: Option<&History>) {
    put_u32(out, history.map_or(0, |history| history.attempts));
    let attempts = history.map_or(0, |history| history.attempts);
    match history.map(|history| &history.kept[..]).unwrap_or_default() {
        [] => out.push(0),
        [(number, attempt)] if *number == attempts => {
            out.push(1);
            put_attempt(out, attempt);
        }
        kept => {
            let kept = &kept[kept.len().saturating_sub(usize::from(u8::MAX))..];
            out.extend([2, kept.len() as u8]);
            for (number, attempt) in kept {
                put_u32(out, *number);
                put_attempt(out, attempt);
            }
        }
    }
}

fn put_attempt(out: &mut Vec<u8>, attempt: &Attempt) {
    put_u64(out, attempt.at_ms);
    let (next, not_before_ms) = match attempt.next {
        Next::Delivered => (0, 0),
        Next::Failed => (1, 0),
        Next::Retry { not_before_ms } => (2, not_before_ms),
        Next::Removed => (3, 0),
    };
    let facts = attempt.facts.as_deref().filter(|facts| facts.len() <= Attempt::FACTS_BYTES_MAX);
    let next_at = out.len();
    let extras = attempt.extras.as_deref();
    let flagged = |there: bool, flag: u8| if there { flag } else { 0 };
    out.push(next | flagged(facts.is_some(), FACTS) | flagged(extras.is_some(), ATTEMPT_EXTRAS));
    put_u64(out, not_before_ms);
    put_u16(out, attempt.code);
    for text in [&attempt.state, &attempt.result, &attempt.status, &attempt.description] {
        put_bytes(out, &text.as_bytes()[..text.floor_char_boundary(Attempt::TEXT_BYTES_MAX)]);
    }
    put_address(out, attempt.from);
    put_socket(out, attempt.to);
    if let Some(facts) = facts {
        put_bytes(out, facts.as_bytes());
    }
    if let Some(extras) = extras {
        // Whoever changes them keeps their bounds; beyond those the outcome itself must be kept.
        let (marker, start) = (next_at, out.len());
        if !put_extras(out, extras) {
            out.truncate(start);
            out[marker] &= !ATTEMPT_EXTRAS;
        }
    }
}

pub(super) fn put_u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// A text that is longer than metadata may be is cut to what makes the record too large anyway.
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let kept = &bytes[..bytes.len().min(METADATA_BYTES_MAX + 1)];
    put_u32(out, kept.len() as u32);
    out.extend_from_slice(kept);
}

fn put_address(out: &mut Vec<u8>, address: Option<IpAddr>) {
    match address {
        None => out.push(0),
        Some(IpAddr::V4(address)) => {
            out.push(4);
            out.extend_from_slice(&address.octets());
        }
        Some(IpAddr::V6(address)) => {
            out.push(6);
            out.extend_from_slice(&address.octets());
        }
    }
}

fn put_socket(out: &mut Vec<u8>, socket: Option<SocketAddr>) {
    put_address(out, socket.map(|socket| socket.ip()));
    if let Some(socket) = socket {
        put_u16(out, socket.port());
    }
    if let Some(SocketAddr::V6(socket)) = socket {
        put_u32(out, socket.flowinfo());
        put_u32(out, socket.scope_id());
    }
}

/// What is left to read.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_le_bytes)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()?;
        self.take(length as usize)
    }

    pub(super) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    pub(super) fn text(&mut self) -> Option<Box<str>> {
        self.str().map(Box::from)
    }

    /// `value`, if nothing is left.
    pub(super) fn end<T>(&self, value: T) -> Option<T> {
        self.0.is_empty().then_some(value)
    }

    fn address(&mut self) -> Option<Option<IpAddr>> {
        match self.u8()? {
            0 => Some(None),
            4 => Some(Some(Ipv4Addr::from(self.array()?).into())),
            6 => Some(Some(Ipv6Addr::from(self.array::<16>()?).into())),
            _ => None,
        }
    }

    pub(super) fn socket(&mut self) -> Option<Option<SocketAddr>> {
        match self.address()? {
            None => Some(None),
            Some(IpAddr::V4(address)) => Some(Some(SocketAddrV4::new(address, self.u16()?).into())),
            Some(IpAddr::V6(address)) => {
                let (port, flow, scope) = (self.u16()?, self.u32()?, self.u32()?);
                Some(Some(SocketAddrV6::new(address, port, flow, scope).into()))
            }
        }
    }

    /// The wishes, if there are any; `None` alone is damage.
    pub(super) fn wishes(&mut self, flags: u8) -> Option<Option<Box<Wishes>>> {
        Some(match flags & WISHES {
            0 => None,
            _ => Some(Box::new(Wishes::from_json(self.bytes()?)?)),
        })
    }

    pub(super) fn shelf(&mut self, flags: u8) -> Option<Option<&'a str>> {
        Some(match flags & SHELF {
            0 => None,
            _ => Some(self.str().filter(|name| QueueWish::is_name(name))?),
        })
    }

    pub(super) fn dsn(&mut self, flags: u8) -> Option<Option<Box<MailDsn>>> {
        if flags & DSN == 0 {
            return Some(None);
        }
        let notify = match self.u8()? {
            NO_DSN => return Some(None),
            bits => DsnNotify::from_bits(bits)?,
        };
        let orcpt = self.text().filter(|text| text.len() <= MailDsn::ORCPT_BYTES_MAX)?;
        Some(Some(Box::new(MailDsn { notify, orcpt: Some(orcpt).filter(|text| !text.is_empty()) })))
    }

    /// Of one mail, with the extras behind it.
    pub(super) fn history(&mut self, mail: MailId) -> Option<(History, Option<Arc<Extras>>)> {
        let attempts = self.u32()?;
        let mut history = History { attempts, kept: Vec::new() };
        let marker = self.u8()?;
        match marker & !MAIL_EXTRAS {
            0 => {}
            1 => history.add(attempts, self.attempt(mail)?),
            2 => {
                for _ in 0..self.u8()? {
                    let number = self.u32()?;
                    history.add(number, self.attempt(mail)?);
                }
            }
            _ => return None,
        }
        let extras = match marker & MAIL_EXTRAS {
            0 => None,
            _ => Some(take_extras(self)?),
        };
        Some((history, extras))
    }

    fn attempt(&mut self, mail: MailId) -> Option<Attempt> {
        let at_ms = self.u64()?;
        let flags = self.u8()?;
        let facts = flags & FACTS != 0;
        let not_before_ms = self.u64()?;
        let next = match flags & !(FACTS | ATTEMPT_EXTRAS) {
            0 => Next::Delivered,
            1 => Next::Failed,
            2 => Next::Retry { not_before_ms },
            3 => Next::Removed,
            _ => return None,
        };
        Some(Attempt {
            mail,
            at_ms,
            next,
            code: self.u16()?,
            state: self.text()?,
            result: self.text()?,
            status: self.text()?,
            description: self.text()?,
            from: self.address()?,
            to: self.socket()?,
            facts: match facts {
                false => None,
                true => Some(self.text().filter(|f| f.len() <= Attempt::FACTS_BYTES_MAX)?),
            },
            extras: match flags & ATTEMPT_EXTRAS {
                0 => None,
                _ => Some(take_extras(self)?),
            },
        })
    }
}
