//! Who wants to hear what of a mail (RFC 3461 4.1, 5.2), and the way of such wishes from a session into
//! the queue and out of it again.
//!
//! Owns the rules of when a notice is due. Must never: ask for one to the null sender, so that no
//! notice can cause another (RFC 3461 6.1, RFC 3834 2).
//!
//! Diagnostics: none.

use crate::queue::{Attempt, DsnNotify, Mail, MailDsn, Next, Transaction, Wishes};
use crate::smtp::command::{MailFrom, RcptTo};
use crate::smtp::dsn::{Notify, Request, Ret};

use super::Kind;

/// What RCPT asked for, to be kept with the mail.
pub fn of_recipient(rcpt: &mut RcptTo) -> Option<Box<MailDsn>> {
    if !rcpt.asks_for_notices() {
        return None;
    }
    let notify = rcpt.notify.map_or(DsnNotify::UNSAID, kept);
    Some(Box::new(MailDsn { notify, orcpt: rcpt.orcpt.take() }))
}

/// Adds what MAIL asked for to the wishes of a transaction. A wish that is there already was made
/// later, and holds.
pub fn add_to(wishes: &mut Option<Box<Wishes>>, from: &mut MailFrom) {
    if !from.asks_for_notices() {
        return;
    }
    let wishes = wishes.get_or_insert_default();
    let ret = from.ret.map(|ret| match ret {
        Ret::Full => crate::queue::Ret::Full,
        Ret::Headers => crate::queue::Ret::Headers,
    });
    wishes.dsn_ret = wishes.dsn_ret.or(ret);
    wishes.dsn_envid = wishes.dsn_envid.take().or(from.envid.take());
}

/// What a mail passes on to its next hop.
pub fn request<'a>(transaction: &'a Transaction, mail: &'a Mail) -> Request<'a> {
    let wishes = transaction.wishes_of(mail);
    let dsn = mail.dsn.as_deref();
    Request {
        ret: wishes.and_then(|wishes| wishes.dsn_ret).map(ret),
        envid: wishes.and_then(|wishes| wishes.dsn_envid.as_deref()),
        notify: dsn.and_then(said),
        orcpt: dsn.and_then(|dsn| dsn.orcpt.as_deref()),
    }
}

/// How much of its text comes back with a notice.
pub fn ret_of(transaction: &Transaction, mail: &Mail, default: Ret) -> Ret {
    let wish = transaction.wishes_of(mail).and_then(|wishes| wishes.dsn_ret);
    wish.map_or(default, ret)
}

/// What the sender wants to hear about a recipient.
pub fn notify_of(mail: &Mail, default: Notify) -> Notify {
    mail.dsn.as_deref().and_then(said).unwrap_or(default)
}

/// What a settled attempt may call for, before anybody asked what the sender wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occasion<'a> {
    /// The sender; empty is the null sender.
    pub envelope: &'a str,
    /// The attempt.
    pub attempt: &'a Attempt,
    /// The one before that was [one](is_untried), if there was any.
    pub before: Option<&'a Attempt>,
    /// When the mail was received, unix time in milliseconds.
    pub received_ms: u64,
    /// The age at which a delay is told, in milliseconds.
    pub delay_ms: u64,
    /// Whether the hop that took the mail offers DSN, and so does the telling.
    pub hop_tells: bool,
}

impl Occasion<'_> {
    /// The notice that there would be, for a sender who wants everything.
    pub fn kind(&self) -> Option<Kind> {
        if self.envelope.is_empty() {
            return None;
        }
        let age_ms = |at_ms: u64| at_ms.saturating_sub(self.received_ms);
        match self.attempt.next {
            // Said when it failed; this is its removal.
            Next::Removed if self.before.is_some_and(|before| before.next == Next::Failed) => None,
            Next::Failed | Next::Removed => Some(Kind::Failed),
            // RFC 3461 5.2.2: nobody behind this hop will tell.
            Next::Delivered => (!self.hop_tells).then_some(Kind::Relayed),
            // Once: with the first attempt that ends beyond the age.
            Next::Retry { not_before_ms } => {
                let told = self.before.is_some_and(|before| age_ms(before.at_ms) >= self.delay_ms);
                let late = age_ms(self.attempt.at_ms) >= self.delay_ms;
                (late && !told).then_some(Kind::Delayed { next_ms: not_before_ms })
            }
        }
    }
}

/// Whether an attempt was none: its text could not be read, and it is read again soon. Nobody hears of it.
pub fn is_untried(attempt: &Attempt) -> bool {
    matches!(attempt.next, Next::Retry { .. }) && &*attempt.state == "storage"
}

/// Whether the sender wants this one.
pub fn wants(notify: Notify, kind: Kind) -> bool {
    match kind {
        Kind::Failed => notify.failure,
        Kind::Delayed { .. } => notify.delay,
        Kind::Relayed => notify.success,
    }
}

fn said(dsn: &MailDsn) -> Option<Notify> {
    let has = |one| dsn.notify.has(one);
    (dsn.notify != DsnNotify::UNSAID).then(|| Notify {
        success: has(DsnNotify::SUCCESS),
        failure: has(DsnNotify::FAILURE),
        delay: has(DsnNotify::DELAY),
    })
}

fn kept(notify: Notify) -> DsnNotify {
    let wanted = [
        (notify.success, DsnNotify::SUCCESS),
        (notify.failure, DsnNotify::FAILURE),
        (notify.delay, DsnNotify::DELAY),
    ];
    let wanted = wanted.into_iter().filter(|(wanted, _)| *wanted);
    wanted.map(|(_, one)| one).reduce(DsnNotify::with).unwrap_or(DsnNotify::NEVER)
}

fn ret(ret: crate::queue::Ret) -> Ret {
    match ret {
        crate::queue::Ret::Full => Ret::Full,
        crate::queue::Ret::Headers => Ret::Headers,
    }
}
