//! The mail that a replay has found so far.
//!
//! Owns what workers will be told of each transaction, without what the index knows of it. In one piece
//! of memory, which the system gets back as a whole when they have been told: as many allocations as there
//! are transactions would leave holes between the addresses, which stay.
//!
//! Diagnostics: none.

use crate::queue::ledger::Ledger;
use crate::queue::mail::TransactionId;
use crate::queue::report::Waiting;

/// Transactions by id.
#[derive(Default)]
pub(super) struct Backlog {
    /// Where each of them is in `slots`.
    places: Ledger<u32>,
    /// In the order in which they were found, but for those that took the place of one that was settled.
    slots: Vec<Option<Waiting>>,
    vacant: Vec<u32>,
}

impl Backlog {
    /// Adds a transaction, in place of what was found of it before.
    pub(super) fn insert(&mut self, waiting: Waiting) {
        let id = waiting.id;
        let place = match self.places.get(id) {
            Some(&place) => place,
            None => {
                let place = self.vacant.pop().unwrap_or_else(|| {
                    self.slots.push(None);
                    u32::try_from(self.slots.len() - 1).expect("so many do not fit into memory")
                });
                self.places.insert(id, place);
                place
            }
        };
        self.slots[place as usize] = Some(waiting);
    }

    pub(super) fn get_mut(&mut self, id: TransactionId) -> Option<&mut Waiting> {
        let place = *self.places.get(id)?;
        self.slots[place as usize].as_mut()
    }

    pub(super) fn remove(&mut self, id: TransactionId) {
        if let Some(place) = self.places.remove(id) {
            self.slots[place as usize] = None;
            self.vacant.push(place);
        }
    }

    /// All of them, by increasing id; in the same memory.
    pub(super) fn into_sorted(self) -> Vec<Waiting> {
        let mut found: Vec<Waiting> = self.slots.into_iter().flatten().collect();
        // That of one worker is in order, that of several nearly so.
        found.sort_unstable_by_key(|waiting| waiting.id);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::few::Few;

    #[test]
    fn what_was_found_is_handed_over_in_order() {
        let waiting = |number, received_ms| Waiting {
            id: TransactionId::from_u64(number),
            received_ms,
            body_bytes: 0,
            wishes: None,
            mails: Few::Some(Vec::new()),
        };
        let rows: [(&[u64], &[u64]); 4] =
            [(&[], &[]), (&[1, 2, 3], &[]), (&[1, 3, 2, 5, 4], &[3]), (&[1, 2, 3, 4], &[2, 9])];
        for (found, settled) in rows {
            let mut backlog = Backlog::default();
            found.iter().for_each(|&number| backlog.insert(waiting(number, 0)));
            for &number in settled {
                backlog.remove(TransactionId::from_u64(number));
            }
            backlog.insert(waiting(1, 7));
            backlog.insert(waiting(8, 8));
            assert!(backlog.get_mut(TransactionId::from_u64(9)).is_none());
            let mut expected: Vec<u64> =
                found.iter().copied().filter(|number| !settled.contains(number)).collect();
            expected.extend([1, 8]);
            expected.sort_unstable();
            expected.dedup();
            let sorted = backlog.into_sorted();
            assert!(sorted.iter().map(|waiting| waiting.id.as_u64()).eq(expected), "{found:?}");
            assert_eq!(sorted[0].received_ms, 7, "the later one counts");
        }
    }
}
