//! What the queue holds and where it is written.
//!
//! Owns the map from transaction to record, and of each mail that is not freed how often it was
//! tried and where its last outcome is written. Holds no addresses and no text: about 100 bytes a
//! transaction with one recipient. Owned by the commit thread, shared with readers only.
//!
//! Diagnostics: none; what it does not hold is `None`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::history;
use super::record::Place;
use super::segment::{Location, SegmentName};
use super::shelves::Shelves;
use crate::queue::mail::{Attempt, MailId, TransactionId};

/// Everything that is held.
#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) held: HashMap<TransactionId, Held>,
    /// Of these, the entries of named queues.
    pub(super) shelves: Shelves,
    /// The salts of the segments, by number.
    salts: BTreeMap<u64, u64>,
}

/// A transaction that is held.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) location: Location,
    /// By increasing index, never empty.
    pub(super) mails: Vec<HeldMail>,
    /// The named queue that it is an entry of.
    pub(super) shelf: Option<Arc<String>>,
}

/// A mail that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldMail {
    pub(super) index: u16,
    /// How many attempts were recorded.
    pub(super) attempts: u32,
    /// Where those are that are not part of the transaction's own record, in their order; of very many
    /// some.
    pub(super) outcomes: Vec<Place>,
}

/// What a settle did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Settled {
    /// Which attempt of its mail it is, from 1; 0 for a mail that is not held.
    pub(super) number: u32,
    /// The record of the transaction, if this was its last mail.
    pub(super) freed: Option<Location>,
}

impl Index {
    pub(super) fn add_segment(&mut self, name: SegmentName) {
        self.salts.insert(name.number, name.salt);
    }

    pub(super) fn remove_segment(&mut self, name: SegmentName) {
        self.salts.remove(&name.number);
    }

    pub(super) fn segment(&self, number: u64) -> Option<SegmentName> {
        self.salts.get(&number).map(|&salt| SegmentName { number, salt })
    }

    /// What was held at the start is before all that has come in since.
    pub(super) fn go_on_from(&mut self, before: Index) {
        let since = std::mem::replace(self, before);
        self.salts.extend(since.salts);
        for (id, held) in since.held {
            self.hold(id, held);
        }
    }

    /// From now on `id` is held. Returns what was held under that id before.
    pub(super) fn hold(&mut self, id: TransactionId, held: Held) -> Option<Held> {
        let before = self.forget(id);
        if let Some(name) = &held.shelf {
            self.shelves.add(name, id, held.location.bytes);
        }
        self.held.insert(id, held);
        before
    }

    /// From now on `id` is not held.
    pub(super) fn forget(&mut self, id: TransactionId) -> Option<Held> {
        let held = self.held.remove(&id)?;
        if let Some(name) = &held.shelf {
            self.shelves.remove(name, id);
        }
        Some(held)
    }

    /// Counts an attempt and frees its mail if it says so.
    pub(super) fn settle(&mut self, attempt: &Attempt) -> Settled {
        let nothing = Settled { number: 0, freed: None };
        let Some(held) = self.held.get_mut(&attempt.mail.transaction) else {
            return nothing;
        };
        let Some(at) = held.find(attempt.mail.index) else {
            return nothing;
        };
        let number = held.mails[at].attempts.saturating_add(1);
        held.mails[at].attempts = number;
        if !attempt.next.frees() {
            return Settled { number, freed: None };
        }
        let location = held.location;
        if held.mails.len() == 1 {
            self.forget(attempt.mail.transaction);
            return Settled { number, freed: Some(location) };
        }
        held.mails.remove(at);
        Settled { number, freed: None }
    }

    /// The last outcome of `mail` is now at `place`.
    pub(super) fn on_settle_placed(&mut self, mail: MailId, place: Place) {
        if let Some(held) = self.held.get_mut(&mail.transaction)
            && let Some(at) = held.find(mail.index)
        {
            history::note(&mut held.mails[at].outcomes, place);
        }
    }
}

impl Held {
    pub(super) fn find(&self, index: u16) -> Option<usize> {
        self.mails.binary_search_by_key(&index, |mail| mail.index).ok()
    }
}
