//! What the queue holds and where it is written.
//!
//! Owns the map from transaction to record, and of each mail that is not freed how often it was
//! tried and where its last outcome is written. Holds no addresses and no text: 32 bytes a
//! transaction with one recipient. Owned by the commit thread, shared with readers only.
//!
//! Diagnostics: none; what it does not hold is `None`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::history;
use super::record::Place;
use super::segment::{Location, SegmentName};
use super::shelves::Shelves;
use crate::queue::ledger::Ledger;
use crate::queue::mail::{Attempt, MailId, TransactionId};

/// Everything that is held.
#[derive(Debug, Default)]
pub(super) struct Index {
    held: Ledger<Held>,
    /// Of these, the entries of named queues.
    pub(super) shelves: Shelves,
    /// The salts of the segments, by number.
    salts: BTreeMap<u64, u64>,
}

/// A transaction that is held.
///
/// There may be a million of them, of one mail each that was tried once or not at all: such a one
/// needs no memory beside its place in the table.
#[derive(Debug)]
pub(super) struct Held(Form);

#[derive(Debug)]
enum Form {
    Small(Small),
    Large(Box<Large>),
}

/// One mail, and numbers that are as small as nearly all are.
#[derive(Clone, Copy, Debug)]
struct Small {
    segment: u32,
    offset: u32,
    bytes: u32,
    /// Where its only outcome is that is not part of its record, if there is one.
    outcome_segment: u32,
    outcome_offset: u32,
    index: u16,
    attempts: u8,
    has_outcome: bool,
}

#[derive(Debug)]
struct Large {
    location: Location,
    /// By increasing index, never empty.
    mails: Vec<HeldMail>,
    shelf: Option<Arc<String>>,
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

    /// How many transactions are held.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    pub(super) fn get(&self, id: TransactionId) -> Option<&Held> {
        self.held.get(id)
    }

    /// What was held at the start is before all that has come in since.
    pub(super) fn go_on_from(&mut self, before: Index) {
        self.salts.extend(before.salts);
        self.shelves.go_on_from(before.shelves);
        self.held.merge_older(before.held);
    }

    /// From now on `id` is held. Returns what was held under that id before.
    pub(super) fn hold(&mut self, id: TransactionId, held: Held) -> Option<Held> {
        if let Some(name) = held.shelf() {
            self.shelves.add(name, id, held.location().bytes);
        }
        let before = self.held.insert(id, held)?;
        if let Some(name) = before.shelf() {
            let same = self.get(id).and_then(Held::shelf).is_some_and(|now| now == name);
            if !same {
                self.shelves.remove(name, id);
            }
        }
        Some(before)
    }

    /// From now on `id` is not held.
    pub(super) fn forget(&mut self, id: TransactionId) -> Option<Held> {
        let held = self.held.remove(id)?;
        if let Some(name) = held.shelf() {
            self.shelves.remove(name, id);
        }
        Some(held)
    }

    /// The record of a transaction was written anew: returns where it was; `None` for one that is not held.
    pub(super) fn on_moved(&mut self, id: TransactionId, to: Location) -> Option<Location> {
        self.held.get_mut(id).map(|held| held.move_to(to))
    }

    /// The transactions whose record is in a segment below `oldest`.
    pub(super) fn before(&self, oldest: u64) -> Vec<TransactionId> {
        let before = |held: &Held| held.location().place.segment < oldest;
        self.held.iter().filter(|(_, held)| before(held)).map(|(id, _)| id).collect()
    }

    /// A start found an outcome at `place`: it was attempt `number` of its mail, which is held on.
    pub(super) fn on_outcome_found(&mut self, mail: MailId, number: u32, place: Place) {
        if let Some(held) = self.held.get_mut(mail.transaction)
            && held.has(mail.index)
        {
            held.put_attempts(mail.index, number);
            held.note(mail.index, place);
        }
    }

    /// A mail is not held any more. Returns where the record is, if it was the last one.
    pub(super) fn free(&mut self, mail: MailId) -> Option<Location> {
        let held = self.held.get_mut(mail.transaction).filter(|held| held.has(mail.index))?;
        match held.free(mail.index) {
            true => None,
            false => self.forget(mail.transaction).map(|held| held.location()),
        }
    }

    /// Counts an attempt and frees its mail if it says so.
    pub(super) fn settle(&mut self, attempt: &Attempt) -> Settled {
        let nothing = Settled { number: 0, freed: None };
        let Some(held) = self.held.get_mut(attempt.mail.transaction) else {
            return nothing;
        };
        let Some(number) = held.count_attempt(attempt.mail.index) else {
            return nothing;
        };
        let freed = if attempt.next.frees() { self.free(attempt.mail) } else { None };
        Settled { number, freed }
    }

    /// The last outcome of `mail` is now at `place`.
    pub(super) fn on_settle_placed(&mut self, mail: MailId, place: Place) {
        if let Some(held) = self.held.get_mut(mail.transaction) {
            held.note(mail.index, place);
        }
    }
}

impl Held {
    /// `mails` by increasing index, at least one; `shelf` is the named queue that it is an entry of.
    pub(super) fn new(
        location: Location,
        mails: impl ExactSizeIterator<Item = HeldMail>,
        shelf: Option<Arc<String>>,
    ) -> Self {
        let mut mails = mails;
        if shelf.is_none()
            && mails.len() == 1
            && let Some(mail) = mails.next()
        {
            return match Small::of(location, &mail) {
                Some(small) => Self(Form::Small(small)),
                None => Self(Form::Large(Box::new(Large { location, mails: vec![mail], shelf }))),
            };
        }
        Self(Form::Large(Box::new(Large { location, mails: mails.collect(), shelf })))
    }

    /// Where its record is.
    pub(super) fn location(&self) -> Location {
        match &self.0 {
            Form::Small(small) => small.location(),
            Form::Large(large) => large.location,
        }
    }

    /// The named queue that it is an entry of.
    pub(super) fn shelf(&self) -> Option<&Arc<String>> {
        match &self.0 {
            Form::Small(_) => None,
            Form::Large(large) => large.shelf.as_ref(),
        }
    }

    /// Whether the mail is one of those that are not freed.
    pub(super) fn has(&self, index: u16) -> bool {
        match &self.0 {
            Form::Small(small) => small.index == index,
            Form::Large(large) => large.find(index).is_some(),
        }
    }

    /// Its mails, by increasing index.
    pub(super) fn mails(&self) -> Vec<HeldMail> {
        match &self.0 {
            Form::Small(small) => vec![small.mail()],
            Form::Large(large) => large.mails.clone(),
        }
    }

    /// Where outcomes of a mail are; `None` for one that is freed.
    pub(super) fn outcomes(&self, index: u16) -> Option<Vec<Place>> {
        match &self.0 {
            Form::Small(small) => (small.index == index).then(|| small.mail().outcomes),
            Form::Large(large) => Some(large.mails[large.find(index)?].outcomes.clone()),
        }
    }

    /// One attempt more. Returns which; `None` for a mail that is not held.
    fn count_attempt(&mut self, index: u16) -> Option<u32> {
        if let Form::Small(small) = &mut self.0 {
            if small.index != index {
                return None;
            }
            if let Some(attempts) = small.attempts.checked_add(1) {
                small.attempts = attempts;
                return Some(attempts.into());
            }
        }
        let large = self.enlarge();
        let at = large.find(index)?;
        large.mails[at].attempts = large.mails[at].attempts.saturating_add(1);
        Some(large.mails[at].attempts)
    }

    /// There were so many attempts.
    fn put_attempts(&mut self, index: u16, attempts: u32) {
        if let (Form::Small(small), Ok(attempts)) = (&mut self.0, u8::try_from(attempts)) {
            small.attempts = attempts;
            return;
        }
        let large = self.enlarge();
        if let Some(at) = large.find(index) {
            large.mails[at].attempts = attempts;
        }
    }

    /// A mail is not held any more; whether there is another one.
    fn free(&mut self, index: u16) -> bool {
        match &mut self.0 {
            Form::Small(_) => false,
            Form::Large(large) => {
                large.mails.retain(|mail| mail.index != index);
                !large.mails.is_empty()
            }
        }
    }

    /// Another outcome is at `place`.
    fn note(&mut self, index: u16, place: Place) {
        if let Form::Small(small) = &mut self.0 {
            if small.index != index {
                return;
            }
            if !small.has_outcome && small.put_outcome(place) {
                return;
            }
        }
        let large = self.enlarge();
        if let Some(at) = large.find(index) {
            history::note(&mut large.mails[at].outcomes, place);
        }
    }

    /// The record is at `to` from now on, and older outcomes are part of it. Returns where it was.
    fn move_to(&mut self, to: Location) -> Location {
        let from = self.location();
        let shelf = self.shelf().cloned();
        let mut mails = self.mails();
        for mail in &mut mails {
            mail.outcomes.retain(|&outcome| outcome > to.place);
            mail.outcomes.shrink_to_fit();
        }
        *self = Self::new(to, mails.into_iter(), shelf);
        from
    }

    fn enlarge(&mut self) -> &mut Large {
        if let Form::Small(small) = &self.0 {
            let (location, mails) = (small.location(), vec![small.mail()]);
            self.0 = Form::Large(Box::new(Large { location, mails, shelf: None }));
        }
        match &mut self.0 {
            Form::Large(large) => large,
            Form::Small(_) => unreachable!("it was made large just now"),
        }
    }
}

impl Small {
    /// `None` if something of it does not fit.
    fn of(location: Location, mail: &HeldMail) -> Option<Self> {
        let mut small = Self {
            segment: location.place.segment.try_into().ok()?,
            offset: location.place.offset,
            bytes: location.bytes,
            outcome_segment: 0,
            outcome_offset: 0,
            index: mail.index,
            attempts: mail.attempts.try_into().ok()?,
            has_outcome: false,
        };
        match mail.outcomes[..] {
            [] => Some(small),
            [place] => small.put_outcome(place).then_some(small),
            [..] => None,
        }
    }

    /// Whether it fits.
    #[must_use]
    fn put_outcome(&mut self, place: Place) -> bool {
        let segment = u32::try_from(place.segment);
        if let Ok(segment) = segment {
            (self.outcome_segment, self.outcome_offset) = (segment, place.offset);
            self.has_outcome = true;
        }
        segment.is_ok()
    }

    fn location(&self) -> Location {
        let place = Place { segment: self.segment.into(), offset: self.offset };
        Location { place, bytes: self.bytes }
    }

    fn mail(&self) -> HeldMail {
        let outcome =
            || Place { segment: self.outcome_segment.into(), offset: self.outcome_offset };
        HeldMail {
            index: self.index,
            attempts: self.attempts.into(),
            outcomes: self.has_outcome.then(outcome).into_iter().collect(),
        }
    }
}

impl Large {
    fn find(&self, index: u16) -> Option<usize> {
        self.mails.binary_search_by_key(&index, |mail| mail.index).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::dice::Dice;

    /// There are as many of them as mails in the queue.
    #[test]
    fn an_entry_takes_32_bytes_with_its_id() {
        assert_eq!(size_of::<Option<Held>>() + size_of::<TransactionId>(), 32);
    }

    fn place(segment: u64, offset: u32) -> Place {
        Place { segment, offset }
    }

    /// An entry that is small as long as it can be says the same as one that never is.
    #[test]
    fn small_entries_say_what_large_ones_do() {
        let mut dice = Dice::from_environment();
        for _ in 0..300 {
            let segment = [1, 7, u64::from(u32::MAX), 1 << 32][dice.below(4) as usize];
            let location = Location { place: place(segment, 9), bytes: 100 };
            let mail = HeldMail { index: 3, attempts: dice.below(300) as u32, outcomes: vec![] };
            let mut held = Held::new(location, [mail.clone()].into_iter(), None);
            let mut large = Large { location, mails: vec![mail], shelf: None };
            for step in 0..dice.below(9) as u32 {
                match dice.below(4) {
                    0 => {
                        large.mails[0].attempts += 1;
                        let number = large.mails[0].attempts;
                        assert_eq!(held.count_attempt(3), Some(number));
                        assert_eq!(held.count_attempt(4), None);
                        if dice.below(2) == 0 {
                            large.mails[0].attempts = number + 2;
                            held.put_attempts(3, number + 2);
                        }
                    }
                    1 | 2 => {
                        let outcome = place(segment + dice.below(2), 1_000 + step);
                        history::note(&mut large.mails[0].outcomes, outcome);
                        held.note(3, outcome);
                        held.note(4, outcome);
                    }
                    _ => {
                        let to = Location { place: place(segment, 1_000 + step), bytes: 90 };
                        large.mails[0].outcomes.retain(|&outcome| outcome > to.place);
                        assert_eq!(held.move_to(to), large.location);
                        large.location = to;
                    }
                }
                assert_eq!((held.location(), held.mails()), (large.location, large.mails.clone()));
                assert_eq!(held.outcomes(3), Some(large.mails[0].outcomes.clone()));
                assert_eq!((held.outcomes(4), held.has(3), held.has(4)), (None, true, false));
            }
            assert!(!held.free(3), "it was the only one");
        }
    }
}
