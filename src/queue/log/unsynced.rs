//! What the next sync is to cover.
//!
//! Owns the outcomes that were handed over and are not durable, whom to tell when they are, and the
//! names of refused transactions whose record may have been written. Bounded by the mail held,
//! however long the disk is away.
//!
//! Diagnostics: none; the counts are in [`Status`](crate::queue::Status).

use std::collections::{BTreeMap, HashMap};

use crate::queue::mail::{Attempt, TransactionId};

/// Outcomes held in memory, while the disk is away, above which deliveries should stop.
pub(super) const SETTLES_HELD_MAX: usize = 1 << 16;

pub(super) struct Unsynced {
    /// Since when something has waited.
    pub(super) since_ms: Option<u64>,
    settles: Vec<(Attempt, u32)>,
    /// So many settles, and superseded ones are looked for.
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

impl Unsynced {
    fn with_pass_at(pass_at: usize) -> Self {
        let (settles, owed, voids) = (Vec::new(), BTreeMap::new(), Vec::new());
        Self { since_ms: None, settles, pass_at, owed, voids }
    }

    /// In the order handed over, each with its number.
    pub(super) fn settles(&self) -> &[(Attempt, u32)] {
        &self.settles
    }

    /// A settle of `worker`, the attempt with this number of its mail.
    pub(super) fn add_settle(&mut self, worker: usize, attempt: Attempt, number: u32, now_ms: u64) {
        self.settles.push((attempt, number));
        *self.owed.entry(worker).or_default() += 1;
        self.since_ms.get_or_insert(now_ms);
        if self.settles.len() >= self.pass_at {
            self.keep_last();
            // As many again must come before the next pass, or each settle would cost a pass where
            // there is little to forget.
            self.pass_at = self.pass_at.max(2 * self.settles.len());
        }
    }

    /// Forgets all but the last outcome of each mail: what remains is bounded by the mail held.
    fn keep_last(&mut self) {
        let settles = std::mem::take(&mut self.settles);
        let mut last = HashMap::with_capacity(settles.len());
        for (at, (attempt, number)) in settles.iter().enumerate() {
            // Outcomes for mail that is not held say nothing.
            if *number > 0 {
                last.insert(attempt.mail, at);
            }
        }
        let kept = settles.into_iter().enumerate();
        let kept = kept.filter(|(at, (attempt, _))| last.get(&attempt.mail) == Some(at));
        self.settles = kept.map(|(_, settle)| settle).collect();
    }

    /// All settles are durable. Returns how many each worker was owed.
    pub(super) fn take_owed(&mut self) -> BTreeMap<usize, usize> {
        self.since_ms = None;
        self.settles.clear();
        self.pass_at = 2 * SETTLES_HELD_MAX;
        std::mem::take(&mut self.owed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LATER, attempt, id};
    use super::*;

    #[test]
    fn a_pass_that_forgets_little_makes_the_next_one_wait() {
        let mut unsynced = Unsynced::with_pass_at(8);
        let mut add = |mail| unsynced.add_settle(0, attempt(id(mail).mail(0), LATER), 1, 0);
        (1..=8).for_each(&mut add);
        (1..=8).for_each(&mut add);
        assert_eq!((unsynced.settles.len(), unsynced.pass_at), (8, 16));
        let mut add = |mail| unsynced.add_settle(0, attempt(id(mail).mail(0), LATER), 2, 0);
        (9..=16).for_each(&mut add);
        assert_eq!((unsynced.settles.len(), unsynced.pass_at), (16, 32));
        assert_eq!(unsynced.take_owed(), BTreeMap::from([(0, 24)]));
        assert_eq!((unsynced.settles.len(), unsynced.pass_at), (0, 2 * SETTLES_HELD_MAX));
    }
}
