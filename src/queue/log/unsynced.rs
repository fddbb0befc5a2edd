//! What the next sync is to cover.
//!
//! Owns the outcomes that were handed over and are not durable with what tells of them, whom to tell
//! when they are, and the names of refused transactions whose record may have been written. Bounded by
//! the mail held, however long the disk is away.
//!
//! Diagnostics: none; the counts are in [`Status`](crate::queue::Status).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::segment::Location;
use crate::queue::mail::{Attempt, Transaction, TransactionId};

/// Outcomes held in memory, while the disk is away, above which deliveries should stop.
pub(super) const SETTLES_HELD_MAX: usize = 1 << 16;
/// The same for the texts of what tells of outcomes.
pub(super) const COMPANION_BYTES_HELD_MAX: u64 = 64 << 20;

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
    /// How many of them have an outcome.
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
        Self { since_ms: None, groups, settles: 0, companion_bytes: 0, pass_at, owed, voids }
    }

    /// In the order handed over.
    pub(super) fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The same, to be written once more.
    pub(super) fn groups_mut(&mut self) -> &mut [Group] {
        &mut self.groups
    }

    /// How many outcomes there are.
    pub(super) const fn settles(&self) -> usize {
        self.settles
    }

    /// Whether so much is held that deliveries should stop.
    pub(super) fn is_too_much(&self) -> bool {
        self.groups.len() >= SETTLES_HELD_MAX || self.companion_bytes >= COMPANION_BYTES_HELD_MAX
    }

    /// Something was handed over.
    pub(super) fn add(&mut self, group: Group, now_ms: u64) {
        *self.owed.entry(group.worker).or_default() += usize::from(group.settle.is_some());
        self.settles += usize::from(group.settle.is_some());
        let texts = group.companions.iter().map(|companion| companion.transaction.body_bytes());
        self.companion_bytes += texts.sum::<u64>();
        self.groups.push(group);
        self.since_ms.get_or_insert(now_ms);
        if self.groups.len() >= self.pass_at {
            self.keep_last();
            // As many again must come before the next pass, or each settle would cost a pass where
            // there is little to forget.
            self.pass_at = self.pass_at.max(2 * self.groups.len());
        }
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
        self.settles = self.groups.iter().filter(|group| group.settle.is_some()).count();
    }

    /// Everything is durable.
    pub(super) fn take(&mut self) -> Durable {
        self.since_ms = None;
        self.companion_bytes = 0;
        self.settles = 0;
        self.pass_at = 2 * SETTLES_HELD_MAX;
        Durable { groups: std::mem::take(&mut self.groups), owed: std::mem::take(&mut self.owed) }
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
        Group { worker: 0, companions: Vec::new(), settle }
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
