//! What single mails of a transaction ask for by themselves, and notes on them: a plugin said so.
//!
//! Such a mail has a time of its own; that of the others stays as it is. Costs a mail without any of
//! that one pointer.

use super::*;
use crate::delivery::ages::Age;
use crate::queue::{Body, Mail, NO_BODY};

/// What plugins have made of one mail.
#[derive(Debug)]
pub(in crate::delivery) struct Own {
    extras: Arc<Extras>,
    /// How many they have ([`Extras::bytes`]).
    bytes: usize,
    /// They were changed on the way out: each outcome carries them from then on, so that the latest one
    /// suffices, however few outcomes of very many the queue keeps. Where a start found outcomes, they may
    /// have been.
    changed: bool,
    /// When its time is over, on the monotonic clock, if not with that of the others.
    pub(super) expiry_ms: Option<u64>,
    /// What it waits for at first, if it has wishes of its own.
    pub(super) first: Option<Place>,
}

impl Own {
    pub(in crate::delivery) fn wishes(&self) -> Option<&Wishes> {
        self.extras.wishes.as_deref()
    }

    /// See [`Extras::bytes`].
    pub(in crate::delivery) fn bytes(&self) -> usize {
        self.bytes
    }

    /// What an outcome has to carry.
    pub(super) fn changed(&self) -> Option<Arc<Extras>> {
        self.changed.then(|| self.extras.clone())
    }
}

/// Plugins made more of the mails of one transaction than is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "plugins made more of the recipients of one message than the {} octets that are kept",
    Extras::BYTES_MAX
)]
pub struct TooManyExtras;

impl Held {
    /// What the mail at `place` asks for.
    pub(in crate::delivery) fn wishes_of(&self, place: usize) -> Option<&Wishes> {
        let own = self.mails()[place].own().and_then(Own::wishes);
        own.or(self.wishes())
    }

    /// When the time of the mail at `place` is over, on the monotonic clock.
    pub(super) fn expiry_ms_of(&self, place: usize) -> u64 {
        let own = self.mails()[place].own().and_then(|own| own.expiry_ms);
        own.unwrap_or(self.expiry_ms)
    }

    /// The mails that an age is about.
    pub(super) fn places_of(&self, age: Age) -> std::ops::Range<usize> {
        match age.mail().map(|index| self.find(index)) {
            None => 0..self.mails().len(),
            Some(Some(place)) => place..place + 1,
            Some(None) => 0..0,
        }
    }

    /// All times that are looked at alone for its sake.
    pub(super) fn ages(&self, id: TransactionId) -> impl Iterator<Item = (u64, Age)> {
        let own = move |mail: &MailState| {
            let expiry_ms = mail.own().and_then(|own| own.expiry_ms)?;
            Some((expiry_ms, Age::of_mail(id.mail(mail.index))))
        };
        let all = (self.watched == Watched::Alone).then(|| (self.expiry_ms, Age::of_all(id)));
        self.mails().iter().filter_map(own).chain(all)
    }

    /// What the attempt on the mail at `place` gets: `transaction` as it came in, unless plugins have changed
    /// what they made of this mail since.
    pub(super) fn text_for(
        &self,
        id: MailId,
        place: usize,
        transaction: &Arc<Transaction>,
    ) -> Arc<Transaction> {
        let extras = self.mails()[place].own().map(|own| &own.extras);
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
    /// What is kept of `extras`; the time of all of its mails is over at `all_expiry_ms`.
    pub(super) fn own_of(
        &self,
        extras: Option<&Arc<Extras>>,
        received_ms: u64,
        all_expiry_ms: u64,
        now: Now,
    ) -> Option<Box<Own>> {
        let extras = extras?.clone();
        let (mut expiry_ms, mut first) = (None, None);
        if let Some(wishes) = extras.wishes.as_deref() {
            let patience = Patience::of(&self.limits, Some(wishes));
            let over_ms = patience.expiry_ms(received_ms, now);
            expiry_ms = Some(over_ms).filter(|&over_ms| over_ms != all_expiry_ms);
            first = Some(patience.first(over_ms, now));
        }
        Some(Box::new(Own { bytes: extras.bytes(), extras, changed: false, expiry_ms, first }))
    }

    /// The same of a mail that the start found.
    pub(super) fn own_found(
        &self,
        mail: &WaitingMail,
        received_ms: u64,
        all_expiry_ms: u64,
        now: Now,
    ) -> Option<Box<Own>> {
        let own = self.own_of(mail.extras.as_ref(), received_ms, all_expiry_ms, now)?;
        Some(Box::new(Own { changed: mail.last.is_some(), ..*own }))
    }

    /// The time of a mail that has its own is looked at from now on.
    pub(super) fn watch_age(&mut self, own: Option<&Own>, id: MailId) {
        if let Some(expiry_ms) = own.and_then(|own| own.expiry_ms) {
            self.ages.watch_alone(Age::of_mail(id), expiry_ms);
        }
    }

    /// The mails of a transaction whose time is over, with the records that free them; those under
    /// way follow when their attempt has ended. `None` if no time is over.
    pub fn pop_aged(&mut self, now: Now) -> Option<Vec<Ended>> {
        let Some(age) = self.ages.pop_due(&mut self.held, now.mono_ms)? else {
            return Some(Vec::new());
        };
        let id = age.id();
        let Some(held) = self.held.get(id) else { return Some(Vec::new()) };
        let is_over = |at: &usize| now.mono_ms >= held.expiry_ms_of(*at);
        let over = held.places_of(age).filter(is_over).map(|at| &held.mails()[at]);
        if over.clone().any(|mail| matches!(mail.place(), Place::Loading | Place::Active)) {
            self.ages.watch_alone(age, now.mono_ms + AGED_PAUSE_MS);
        }
        let ages_now = |place| matches!(place, Place::Ready | Place::Waiting(_) | Place::Failed);
        let aged: Vec<MailId> =
            over.filter(|mail| ages_now(mail.place())).map(|mail| id.mail(mail.index)).collect();
        Some(aged.into_iter().filter_map(|mail| self.age_out(mail, now)).collect())
    }

    /// Plugins changed what they have made of a mail while it was on its way out: it counts from the end
    /// of this attempt on, which makes it durable. It stands beside the text, which is that of all. Returns
    /// what this attempt goes on with.
    ///
    /// # Errors
    /// With this the extras of all mails of the transaction would exceed [`Extras::BYTES_MAX`]; nothing
    /// changes. One that becomes smaller is always taken.
    pub fn change(
        &mut self,
        id: MailId,
        extras: Arc<Extras>,
        transaction: &Arc<Transaction>,
        now: Now,
    ) -> Result<Arc<Transaction>, TooManyExtras> {
        let Some(held) = self.held.get(id.transaction) else { return Ok(transaction.clone()) };
        let own = self.own_of(Some(&extras), held.received_ms, held.expiry_ms, now);
        let Some((held, place)) = find(&mut self.held, id) else { return Ok(transaction.clone()) };
        let Some(mut own) = own else { return Ok(transaction.clone()) };
        let bytes_before = held.mails()[place].own().map_or(0, Own::bytes);
        let bytes = held.extras_bytes() - bytes_before + own.bytes;
        if bytes > Extras::BYTES_MAX && own.bytes > bytes_before {
            return Err(TooManyExtras);
        }
        let until_ms = |wishes: Option<&Wishes>| wishes.and_then(|wishes| wishes.deliver_until_ms);
        let before = held.mails()[place].own().and_then(|own| own.expiry_ms);
        let wishes = own.wishes().or(held.wishes());
        if until_ms(wishes) == until_ms(held.wishes_of(place)) {
            // Counted anew, it would move with each step of the wall clock.
            own.expiry_ms = before;
        }
        if own.expiry_ms != before {
            if let Some(before_ms) = before {
                self.ages.forget_alone(Age::of_mail(id), before_ms);
            }
            if let Some(expiry_ms) = own.expiry_ms {
                self.ages.watch_alone(Age::of_mail(id), expiry_ms);
            }
        }
        held.put_own(place, Own { changed: true, ..*own });
        Ok(held.text_for(id, place, transaction))
    }
}
