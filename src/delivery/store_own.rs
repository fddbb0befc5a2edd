//! What single mails of a transaction ask for by themselves, and notes on them: a plugin said so.
//!
//! Such a mail has a time of its own; that of the others stays as it is. Costs a mail without any of
//! that one pointer.

use super::*;
use crate::queue::{Mail, WaitingMail};

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

    /// The transaction as its mails are now: what was read back is as it came in.
    pub(super) fn with_changes(
        &self,
        id: TransactionId,
        mut transaction: Arc<Transaction>,
    ) -> Arc<Transaction> {
        for mail in &self.mails {
            if let Some(own) = &mail.own {
                put(&mut transaction, id.mail(mail.index), own.extras.clone());
            }
        }
        transaction
    }
}

/// Puts extras in place of those that a mail has. Texts are shared by the copy that this may make.
fn put(transaction: &mut Arc<Transaction>, id: MailId, extras: Arc<Extras>) {
    let is_it = |mail: &Mail| mail.index == id.index;
    let Some(place) = transaction.mails.iter().position(is_it) else { return };
    if transaction.mails[place].extras.as_ref() != Some(&extras) {
        Arc::make_mut(transaction).mails[place].extras = Some(extras);
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
    /// of this attempt on, which makes it durable. Returns the transaction as it is now.
    pub fn change(
        &mut self,
        id: MailId,
        extras: Arc<Extras>,
        mut transaction: Arc<Transaction>,
        now: Now,
    ) -> Arc<Transaction> {
        let received_ms = transaction.received_ms;
        put(&mut transaction, id, extras.clone());
        let own = self.own_of(Some(&extras), received_ms, id.transaction, now);
        let Some((held, place)) = find(&mut self.held, id) else { return transaction };
        held.mails[place].own = own.map(|own| Box::new(Own { changed: true, ..*own }));
        if matches!(held.content, Content::Memory(_)) {
            held.content = Content::Memory(transaction.clone());
        }
        transaction
    }
}
