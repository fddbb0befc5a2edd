//! What single mails of a transaction ask for by themselves, and notes on them: a plugin said so.
//!
//! Such a mail has a time of its own; that of the others stays as it is. Costs a mail without any of
//! that one pointer.

use super::*;
use crate::queue::{Body, Mail, NO_BODY, WaitingMail};

/// What plugins have made of one mail.
#[derive(Debug)]
pub(in crate::delivery) struct Own {
    extras: Arc<Extras>,
    /// They were changed on the way out: each outcome carries them from then on, so that the latest one
    /// suffices, however few outcomes of very many the queue keeps. Where a start found outcomes, they may
    /// have been.
    changed: bool,
    /// When its time is over, on the monotonic clock, if it has wishes of its own.
    pub(super) expiry_ms: Option<u64>,
    /// What it waits for at first, in that case.
    pub(super) first: Option<Place>,
}

impl Own {
    pub(in crate::delivery) fn wishes(&self) -> Option<&Wishes> {
        self.extras.wishes.as_deref()
    }

    /// What an outcome has to carry.
    pub(super) fn changed(&self) -> Option<Arc<Extras>> {
        self.changed.then(|| self.extras.clone())
    }
}

impl Held {
    /// What the mail at `place` asks for.
    pub(in crate::delivery) fn wishes_of(&self, place: usize) -> Option<&Wishes> {
        let own = self.mails[place].own.as_deref().and_then(Own::wishes);
        own.or(self.wishes.as_deref())
    }

    /// When the time of the mail at `place` is over, on the monotonic clock.
    pub(super) fn expiry_ms_of(&self, place: usize) -> u64 {
        let own = self.mails[place].own.as_deref().and_then(|own| own.expiry_ms);
        own.unwrap_or(self.expiry_ms)
    }

    /// When the time of any of its mails is over.
    pub(super) fn expiries(&self) -> impl Iterator<Item = u64> {
        let own = |mail: &MailState| mail.own.as_deref().and_then(|own| own.expiry_ms);
        self.mails.iter().filter_map(own).chain([self.expiry_ms])
    }

    /// What the attempt on the mail at `place` gets: `transaction` as it came in, unless plugins have changed
    /// what they made of this mail since.
    pub(super) fn text_for(
        &self,
        id: MailId,
        place: usize,
        transaction: &Arc<Transaction>,
    ) -> Arc<Transaction> {
        let extras = self.mails[place].own.as_deref().map(|own| &own.extras);
        match (extras, transaction.mail(id.index)) {
            (Some(extras), Some(mail)) if !is_of(mail, extras) => {
                Arc::new(alone(transaction, mail, extras.clone()))
            }
            _ => transaction.clone(),
        }
    }
}

/// Whether a mail has these extras, or none where they are none.
fn is_of(mail: &Mail, extras: &Arc<Extras>) -> bool {
    mail.extras
        .as_ref()
        .map_or_else(|| extras.is_empty(), |own| Arc::ptr_eq(own, extras) || own == extras)
}

/// One mail of a transaction with other extras than it came with. The others stay out of it: a copy of
/// them for each recipient whose extras change would cost their number squared.
fn alone(transaction: &Transaction, mail: &Mail, extras: Arc<Extras>) -> Transaction {
    let bodies: Vec<Body> = transaction.body(mail).cloned().into_iter().collect();
    let body = if bodies.is_empty() { NO_BODY } else { 0 };
    Transaction {
        id: transaction.id,
        received_ms: transaction.received_ms,
        mails: vec![Mail { body, extras: Some(extras), ..mail.clone() }],
        bodies,
        trace: transaction.trace.clone(),
        origin: transaction.origin.clone(),
        eight_bit: transaction.eight_bit,
        smtputf8: transaction.smtputf8,
        wishes: transaction.wishes.clone(),
        shelf: transaction.shelf.clone(),
    }
}

impl Store {
    /// What is kept of `extras`; the time of a mail that has its own is looked at from now on.
    pub(super) fn own_of(
        &mut self,
        extras: Option<&Arc<Extras>>,
        received_ms: u64,
        id: TransactionId,
        now: Now,
    ) -> Option<Box<Own>> {
        let extras = extras?.clone();
        let (mut expiry_ms, mut first) = (None, None);
        if let Some(wishes) = extras.wishes.as_deref() {
            let patience = Patience::of(&self.limits, Some(wishes));
            let over_ms = patience.expiry_ms(received_ms, now);
            self.ages.insert(over_ms, id);
            (expiry_ms, first) = (Some(over_ms), Some(patience.first(over_ms, now)));
        }
        Some(Box::new(Own { extras, changed: false, expiry_ms, first }))
    }

    /// The same of a mail that the start found.
    pub(super) fn own_found(
        &mut self,
        mail: &WaitingMail,
        received_ms: u64,
        id: TransactionId,
        now: Now,
    ) -> Option<Box<Own>> {
        let own = self.own_of(mail.extras.as_ref(), received_ms, id, now)?;
        Some(Box::new(Own { changed: mail.last.is_some(), ..*own }))
    }

    /// Plugins changed what they have made of a mail while it was on its way out: it counts from the end
    /// of this attempt on, which makes it durable. It stands beside the text, which is that of all. Returns
    /// what this attempt goes on with.
    pub fn change(
        &mut self,
        id: MailId,
        extras: Arc<Extras>,
        transaction: &Arc<Transaction>,
        now: Now,
    ) -> Arc<Transaction> {
        let received_ms = transaction.received_ms;
        let own = self.own_of(Some(&extras), received_ms, id.transaction, now);
        let Some((held, place)) = find(&mut self.held, id) else { return transaction.clone() };
        held.mails[place].own = own.map(|own| Box::new(Own { changed: true, ..*own }));
        held.text_for(id, place, transaction)
    }
}
