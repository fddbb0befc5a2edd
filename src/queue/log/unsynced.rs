//! What the next sync is to cover.
//!
//! Owns the outcomes that were handed over and are not durable with what tells of them, whom to tell
//! when they are, and the names of refused transactions whose record may have been written. Bounded by
//! the mail held, however long the disk is away.
//!
//! Diagnostics: none; the counts are in [`Status`](crate::queue::Status).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::segment::Location;
use crate::queue::mail::{Attempt, Transaction, TransactionId};

/// Outcomes held in memory, while the disk is away, above which deliveries should stop.
pub(super) const SETTLES_HELD_MAX: usize = 1 << 16;
/// The same for the texts of what tells of outcomes.
pub(super) const COMPANION_BYTES_HELD_MAX: u64 = 64 << 20;
/// Groups that wait for room above which deliveries should stop: a crash repeats as many.
const DEFERRED_MAX: usize = 1024;
/// The same for their texts.
const DEFERRED_BYTES_MAX: u64 = 8 << 20;

/// What becomes durable as one: transactions that this server wrote itself, and the outcome that they
/// tell of.
#[derive(Debug)]
pub(super) struct Group {
    /// The worker that handed it over.
    pub(super) worker: usize,
    /// Mostly none.
    pub(super) companions: Vec<Companion>,
    /// With its number; none where a transaction stands alone.
    pub(super) settle: Option<(Attempt, u32)>,
    /// The record that the outcome frees, until it is written: a segment does not go before.
    pub(super) freed: Option<Location>,
}

impl Group {
    /// The bytes of its texts.
    pub(super) fn companion_bytes(&self) -> u64 {
        self.companions.iter().map(|companion| companion.transaction.body_bytes()).sum()
    }

    /// The message whose outcome it has.
    pub(super) fn of(&self) -> Option<TransactionId> {
        self.settle.as_ref().map(|(attempt, _)| attempt.mail.transaction)
    }
}

/// A transaction that this server wrote itself.
#[derive(Debug)]
pub(super) struct Companion {
    pub(super) transaction: Arc<Transaction>,
    /// Where it is written, as far as that counts.
    pub(super) location: Option<Location>,
}

pub(super) struct Unsynced {
    /// Since when something has waited.
    pub(super) since_ms: Option<u64>,
    groups: Vec<Group>,
    /// What the segment has no room for now. Behind it waits whatever is of the same message.
    deferred: Vec<Group>,
    /// The messages whose outcomes wait there.
    waiting: HashSet<TransactionId>,
    /// How many of all have an outcome.
    settles: usize,
    /// Bytes of all companions' texts.
    companion_bytes: u64,
    /// So many groups, and superseded ones are looked for.
    pass_at: usize,
    /// How many settles each worker is owed.
    owed: BTreeMap<usize, usize>,
    /// Refused transactions whose record may have been written.
    pub(super) voids: Vec<TransactionId>,
}

impl Default for Unsynced {
    fn default() -> Self {
        Self::with_pass_at(2 * SETTLES_HELD_MAX)
    }
}

/// Everything that has become durable.
pub(super) struct Durable {
    /// In the order handed over.
    pub(super) groups: Vec<Group>,
    /// How many settles each worker is owed; more than there are in `groups` where some were superseded.
    pub(super) owed: BTreeMap<usize, usize>,
}

impl Unsynced {
    fn with_pass_at(pass_at: usize) -> Self {
        let (groups, owed, voids) = (Vec::new(), BTreeMap::new(), Vec::new());
        let (deferred, waiting) = (Vec::new(), HashSet::new());
        let (settles, companion_bytes) = (0, 0);
        Self {
            since_ms: None,
            groups,
            deferred,
            waiting,
            settles,
            companion_bytes,
            pass_at,
            owed,
            voids,
        }
    }

    /// Whether something waits for room.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// Whether an outcome of this message waits for room.
    pub(super) fn waits(&self, id: TransactionId) -> bool {
        self.waiting.contains(&id)
    }

    /// Takes what waits for room; for [`Unsynced::lay`] and [`Unsynced::defer`].
    pub(super) fn take_deferred(&mut self) -> Vec<Group> {
        self.waiting.clear();
        std::mem::take(&mut self.deferred)
    }

    /// Takes everything, to be written to a new segment; for [`Unsynced::lay`] and [`Unsynced::defer`].
    pub(super) fn take_all(&mut self) -> Vec<Group> {
        self.undefer();
        std::mem::take(&mut self.groups)
    }

    /// This was counted before, and is written now.
    pub(super) fn lay(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// This was counted before, and has no room now.
    pub(super) fn defer(&mut self, group: Group) {
        self.waiting.extend(group.of());
        self.deferred.push(group);
    }

    /// There is no segment: everything waits for the next one.
    pub(super) fn undefer(&mut self) {
        self.waiting.clear();
        self.groups.append(&mut self.deferred);
    }

    /// The records that are freed by what is written now.
    pub(super) fn take_freed(&mut self) -> Vec<Location> {
        self.groups.iter_mut().filter_map(|group| group.freed.take()).collect()
    }

    /// How many outcomes there are.
    pub(super) const fn settles(&self) -> usize {
        self.settles
    }

    /// Whether so much is held that deliveries should stop.
    pub(super) fn is_too_much(&self) -> bool {
        self.groups.len() >= SETTLES_HELD_MAX
            || self.companion_bytes >= COMPANION_BYTES_HELD_MAX
            || self.deferred.len() >= DEFERRED_MAX
            || (self.has_deferred() && self.companion_bytes >= DEFERRED_BYTES_MAX)
    }

    /// Something was handed over, and is written as far as there is a segment.
    pub(super) fn add(&mut self, group: Group, now_ms: u64) {
        self.count(&group);
        self.groups.push(group);
        self.since_ms.get_or_insert(now_ms);
        if self.groups.len() >= self.pass_at {
            self.keep_last();
            // As many again must come before the next pass, or each settle would cost a pass where
            // there is little to forget.
            self.pass_at = self.pass_at.max(2 * self.groups.len());
        }
    }

    /// Something was handed over, and has no room now.
    pub(super) fn add_deferred(&mut self, group: Group) {
        self.count(&group);
        self.defer(group);
    }

    fn count(&mut self, group: &Group) {
        *self.owed.entry(group.worker).or_default() += usize::from(group.settle.is_some());
        self.settles += usize::from(group.settle.is_some());
        self.companion_bytes += group.companion_bytes();
    }

    /// Forgets all but the last outcome of each mail, unless something tells of it: what remains is
    /// bounded by the mail held.
    fn keep_last(&mut self) {
        let groups = std::mem::take(&mut self.groups);
        let mut last = HashMap::with_capacity(groups.len());
        for (at, group) in groups.iter().enumerate() {
            // Outcomes for mail that is not held say nothing.
            if let Some((attempt, number)) = &group.settle
                && *number > 0
            {
                last.insert(attempt.mail, at);
            }
        }
        let counts = |at: usize, group: &Group| {
            let latest = |(attempt, _): &(Attempt, u32)| last.get(&attempt.mail) == Some(&at);
            !group.companions.is_empty() || group.settle.as_ref().is_some_and(latest)
        };
        let kept = groups.into_iter().enumerate().filter(|(at, group)| counts(*at, group));
        self.groups = kept.map(|(_, group)| group).collect();
        let all = self.groups.iter().chain(&self.deferred);
        self.settles = all.filter(|group| group.settle.is_some()).count();
    }

    /// Everything is durable but what waits for room. Outcomes are told of when none waits.
    pub(super) fn take(&mut self) -> Durable {
        self.since_ms = None;
        self.companion_bytes = self.deferred.iter().map(Group::companion_bytes).sum();
        self.settles = self.deferred.iter().filter(|group| group.settle.is_some()).count();
        self.pass_at = 2 * SETTLES_HELD_MAX;
        let owed = match self.has_deferred() {
            true => BTreeMap::new(),
            false => std::mem::take(&mut self.owed),
        };
        Durable { groups: std::mem::take(&mut self.groups), owed }
    }

    /// Gives back the memory of what has been dealt with.
    pub(super) fn reuse(&mut self, mut groups: Vec<Group>) {
        groups.clear();
        if self.groups.capacity() < groups.capacity() && groups.capacity() <= self.pass_at {
            groups.append(&mut self.groups);
            self.groups = groups;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LATER, attempt, id, transaction};
    use super::*;

    fn outcome(mail: u64, number: u32) -> Group {
        let settle = Some((attempt(id(mail).mail(0), LATER), number));
        Group { worker: 0, companions: Vec::new(), settle, freed: None }
    }

    #[test]
    fn a_pass_that_forgets_little_makes_the_next_one_wait() {
        let mut unsynced = Unsynced::with_pass_at(8);
        (1..=8).for_each(|mail| unsynced.add(outcome(mail, 1), 0));
        (1..=8).for_each(|mail| unsynced.add(outcome(mail, 1), 0));
        assert_eq!((unsynced.groups.len(), unsynced.pass_at), (8, 16));
        (9..=16).for_each(|mail| unsynced.add(outcome(mail, 2), 0));
        assert_eq!((unsynced.groups.len(), unsynced.pass_at), (16, 32));
        assert_eq!(unsynced.take().owed, BTreeMap::from([(0, 24)]));
        assert_eq!((unsynced.groups.len(), unsynced.pass_at), (0, 2 * SETTLES_HELD_MAX));
    }

    #[test]
    fn what_tells_of_an_outcome_is_not_superseded() {
        let mut unsynced = Unsynced::with_pass_at(2);
        let transaction = Arc::new(transaction(9, 1, 40));
        let companions = vec![Companion { transaction, location: None }];
        unsynced.add(Group { companions, ..outcome(1, 1) }, 0);
        unsynced.add(outcome(1, 2), 0);
        unsynced.add(outcome(1, 3), 0);
        unsynced.add(outcome(1, 4), 0);
        let kept: Vec<u32> =
            unsynced.groups.iter().filter_map(|group| Some(group.settle.as_ref()?.1)).collect();
        assert_eq!(kept, [1, 4]);
        assert!(!unsynced.is_too_much());
    }
}
