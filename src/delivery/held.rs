//! What a store keeps of one transaction, and of each of its mails.
//!
//! Owns the form: there may be a million of them, nearly all of one mail that asks for nothing by itself,
//! whose text is on disk, and that was not tried yet. Such a one takes one entry of the table and one
//! allocation for its addresses.
//!
//! Must never: hold anything for a mail that it does not have.
//!
//! **Diagnostics**: none.

use std::sync::Arc;

use crate::queue::{Addresses, Attempt, Few, Transaction, Wishes};

use super::destinations::DestinationId;
use super::store::{Own, Place};

/// Attempts of a mail that are kept in memory to be shown; the number of all is exact.
pub(super) const ATTEMPTS_SHOWN: usize = 8;

/// A transaction.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) received_ms: u64,
    /// When its time is over, on the monotonic clock: a step of the wall clock removes no mail. A mail
    /// may have a time of its own.
    pub(super) expiry_ms: u64,
    text: Option<Arc<Transaction>>,
    /// Octets of all its texts: no record has more than fit in.
    body_bytes: u32,
    /// Octets of the memory budget that its text has.
    reserved: u32,
    /// Its text is being read back.
    loading: bool,
    /// Where its time is looked at.
    pub(super) watched: Watched,
    form: Form,
}

/// Where the time of a transaction is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Watched {
    /// Among those that came in, one after the other.
    Admitted,
    /// Among those that the start found.
    Restored,
    /// By itself.
    Alone,
}

#[derive(Debug)]
enum Form {
    /// One mail without wishes of its transaction.
    Plain(MailState),
    Rich(Box<Rich>),
}

#[derive(Debug)]
struct Rich {
    /// What it asks for itself.
    wishes: Option<Box<Wishes>>,
    /// Mails that need the text now or soon: ready, loading or active. Counted, so that a
    /// transaction of many recipients costs no walk over all of them for each.
    needing: usize,
    /// Mails that are not freed.
    unfreed: usize,
    /// Bytes of what plugins have made of those of its mails that are not freed.
    extras_bytes: usize,
    mails: Box<[MailState]>,
}

/// Where a transaction's text is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Content<'a> {
    /// In memory.
    Memory(&'a Arc<Transaction>),
    /// On disk only.
    Disk,
    /// On its way back into memory.
    Loading,
}

/// One of its mails.
#[derive(Debug)]
pub(super) struct MailState {
    pub(super) addresses: Addresses,
    /// Of [`Place::Waiting`].
    due_ms: u64,
    more: Option<Box<More>>,
    /// Where it goes; of use while it is ready, loading or active.
    pub(super) destination: DestinationId,
    pub(super) attempts: u32,
    pub(super) index: u16,
    state: State,
    /// How often this attempt was led to another host.
    pub(super) rerouted: u8,
}

/// A [`Place`] without its time, which would take 8 octets more.
#[derive(Clone, Copy, Debug)]
enum State {
    Ready,
    Loading,
    Active,
    Waiting,
    Failed,
    Freed,
}

/// What few mails have.
#[derive(Debug, Default)]
struct More {
    /// What plugins have made of it, if anything.
    own: Option<Box<Own>>,
    recent: Vec<Attempt>,
}

impl Held {
    /// Its time is over at `expiry_ms`; its text is on disk.
    pub(super) fn new(
        received_ms: u64,
        expiry_ms: u64,
        body_bytes: u64,
        wishes: Option<Box<Wishes>>,
        mails: Few<MailState>,
    ) -> Self {
        let form = match (wishes, mails) {
            (None, Few::One(mail)) => Form::Plain(mail),
            (wishes, mails) => Form::Rich(Box::new(Rich::new(wishes, mails.into_iter().collect()))),
        };
        Self {
            received_ms,
            expiry_ms,
            text: None,
            body_bytes: body_bytes.try_into().unwrap_or(u32::MAX),
            reserved: 0,
            loading: false,
            watched: Watched::Alone,
            form,
        }
    }

    pub(super) fn mails(&self) -> &[MailState] {
        match &self.form {
            Form::Plain(mail) => std::slice::from_ref(mail),
            Form::Rich(rich) => &rich.mails,
        }
    }

    /// The mail at `place`; where it is changes by [`Held::move_to`] alone.
    pub(super) fn mail_mut(&mut self, place: usize) -> &mut MailState {
        match &mut self.form {
            Form::Plain(mail) => &mut std::slice::from_mut(mail)[place],
            Form::Rich(rich) => &mut rich.mails[place],
        }
    }

    /// Where among its mails the one with this index is.
    pub(super) fn find(&self, index: u16) -> Option<usize> {
        self.mails().binary_search_by_key(&index, |mail| mail.index).ok()
    }

    /// What all of its mails ask for.
    pub(super) fn wishes(&self) -> Option<&Wishes> {
        match &self.form {
            Form::Plain(_) => None,
            Form::Rich(rich) => rich.wishes.as_deref(),
        }
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes.into()
    }

    /// Moves a mail; returns where it was.
    pub(super) fn move_to(&mut self, at: usize, place: Place) -> Place {
        let before = self.mail_mut(at).put(place);
        if let Form::Rich(rich) = &mut self.form {
            rich.needing += usize::from(needs_text(place));
            rich.needing -= usize::from(needs_text(before));
            rich.unfreed += usize::from(place != Place::Freed);
            rich.unfreed -= usize::from(before != Place::Freed);
        }
        before
    }

    /// Whether a mail needs the text now or soon.
    pub(super) fn is_needed(&self) -> bool {
        match &self.form {
            Form::Plain(mail) => needs_text(mail.place()),
            Form::Rich(rich) => rich.needing > 0,
        }
    }

    /// Whether none of its mails is left.
    pub(super) fn is_freed(&self) -> bool {
        match &self.form {
            Form::Plain(mail) => mail.place() == Place::Freed,
            Form::Rich(rich) => rich.unfreed == 0,
        }
    }

    pub(super) fn content(&self) -> Content<'_> {
        match &self.text {
            Some(text) => Content::Memory(text),
            None if self.loading => Content::Loading,
            None => Content::Disk,
        }
    }

    /// Its text is in memory.
    pub(super) fn put_text(&mut self, text: Arc<Transaction>) {
        self.text = Some(text);
        self.loading = false;
    }

    /// Its text is on its way back into memory.
    pub(super) fn begin_loading(&mut self) {
        self.loading = true;
    }

    /// Its text has so many octets of the budget; a text of one message is far below what fits in.
    pub(super) fn reserve(&mut self, bytes: usize) {
        self.reserved = u32::try_from(bytes).expect("a record has no text of 4 GiB");
    }

    /// From now on its text is on disk alone; how many octets of the budget that frees.
    pub(super) fn let_text_go(&mut self) -> usize {
        self.text = None;
        self.loading = false;
        std::mem::take(&mut self.reserved) as usize
    }

    /// Bytes of what plugins have made of those of its mails that are not freed.
    pub(super) fn extras_bytes(&self) -> usize {
        match &self.form {
            Form::Plain(mail) => mail.extras_bytes(),
            Form::Rich(rich) => rich.extras_bytes,
        }
    }

    /// What plugins have made of the mail at `place` is `own` from now on.
    pub(super) fn put_own(&mut self, place: usize, own: Own) {
        let bytes = own.bytes();
        let mail = self.mail_mut(place);
        let bytes_before = mail.extras_bytes();
        mail.more.get_or_insert_default().own = Some(Box::new(own));
        if let Form::Rich(rich) = &mut self.form {
            rich.extras_bytes = rich.extras_bytes - bytes_before + bytes;
        }
    }

    /// What plugins made of the mail at `place` is part of no record any more.
    pub(super) fn forget_extras(&mut self, place: usize) {
        let bytes = self.mails()[place].extras_bytes();
        if let Form::Rich(rich) = &mut self.form {
            rich.extras_bytes -= bytes;
        }
    }
}

impl Rich {
    fn new(wishes: Option<Box<Wishes>>, mails: Box<[MailState]>) -> Self {
        Self {
            wishes,
            needing: mails.iter().filter(|mail| needs_text(mail.place())).count(),
            unfreed: mails.len(),
            extras_bytes: mails.iter().map(MailState::extras_bytes).sum(),
            mails,
        }
    }
}

impl MailState {
    /// A mail that was tried so often.
    pub(super) fn new(
        index: u16,
        addresses: Addresses,
        (place, destination): (Place, DestinationId),
        attempts: u32,
        own: Option<Box<Own>>,
        last: Option<Box<Attempt>>,
    ) -> Self {
        let recent = last.map(|last| vec![*last]).unwrap_or_default();
        let has_more = own.is_some() || !recent.is_empty();
        let mut mail = Self {
            addresses,
            due_ms: 0,
            more: has_more.then(|| Box::new(More { own, recent })),
            destination,
            attempts,
            index,
            state: State::Ready,
            rerouted: 0,
        };
        mail.put(place);
        mail
    }

    pub(super) fn place(&self) -> Place {
        match self.state {
            State::Ready => Place::Ready,
            State::Loading => Place::Loading,
            State::Active => Place::Active,
            State::Waiting => Place::Waiting(self.due_ms),
            State::Failed => Place::Failed,
            State::Freed => Place::Freed,
        }
    }

    fn put(&mut self, place: Place) -> Place {
        let before = self.place();
        self.state = match place {
            Place::Ready => State::Ready,
            Place::Loading => State::Loading,
            Place::Active => State::Active,
            Place::Waiting(due_ms) => {
                self.due_ms = due_ms;
                State::Waiting
            }
            Place::Failed => State::Failed,
            Place::Freed => State::Freed,
        };
        before
    }

    /// What plugins have made of it, if anything.
    pub(super) fn own(&self) -> Option<&Own> {
        self.more.as_deref().and_then(|more| more.own.as_deref())
    }

    fn extras_bytes(&self) -> usize {
        self.own().map_or(0, Own::bytes)
    }

    /// Its latest attempts, oldest first.
    pub(super) fn recent(&self) -> &[Attempt] {
        self.more.as_deref().map(|more| &*more.recent).unwrap_or_default()
    }

    /// The same, moved out.
    pub(super) fn take_recent(&mut self) -> Vec<Attempt> {
        self.more.as_deref_mut().map(|more| std::mem::take(&mut more.recent)).unwrap_or_default()
    }

    /// Keeps an attempt to be shown. Most mails have one at most, and room for more is never used.
    pub(super) fn note(&mut self, attempt: Attempt) {
        let recent = &mut self.more.get_or_insert_default().recent;
        if recent.len() == ATTEMPTS_SHOWN {
            recent.remove(0);
        }
        recent.reserve_exact(1);
        recent.push(attempt);
    }
}

pub(super) fn needs_text(place: Place) -> bool {
    matches!(place, Place::Ready | Place::Loading | Place::Active)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// There are as many of them as transactions, or as mails, in the queue.
    #[test]
    fn a_transaction_of_one_mail_takes_96_octets_beside_its_addresses() {
        assert_eq!(size_of::<Option<Held>>(), 96);
        assert_eq!(size_of::<MailState>(), 56);
    }
}
