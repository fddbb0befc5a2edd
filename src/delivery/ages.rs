//! When the time of each transaction is over.
//!
//! Owns the order in which times end. Nearly all transactions have the time that the settings give, counted
//! from when they came: those end in the order of their ids, so the store's own table says which is next, and
//! nothing more is kept of each. Two such lines are watched, of what came in and of what the start found; what
//! does not fit into a line is watched alone.
//!
//! Must never: let one whose time cannot end yet keep those behind it.
//!
//! **Diagnostics**: none.

use crate::queue::{Ledger, MailId, Schedule, TransactionId};

use super::held::{Held, Watched};

/// How much earlier the time of one in a line may end than that of the one before it, and wait for that: the
/// clocks are read one after the other, so times of the same length differ by a little.
const SLACK_MS: u64 = 10;
/// Entries that are looked at in one step for the next of a line.
const SCAN: usize = 1_000;

/// Whose time is over: that of one mail that has its own, or that of all others of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age {
    id: TransactionId,
    mail: Option<u16>,
}

impl Age {
    pub(super) fn of_all(id: TransactionId) -> Self {
        Self { id, mail: None }
    }

    pub(super) fn of_mail(id: MailId) -> Self {
        Self { id: id.transaction, mail: Some(id.index) }
    }

    pub(super) fn id(self) -> TransactionId {
        self.id
    }

    /// The index of the one mail that it is about.
    pub(super) fn mail(self) -> Option<u16> {
        self.mail
    }
}

/// All times of a store, on the monotonic clock.
#[derive(Debug, Default)]
pub(super) struct Ages {
    alone: Schedule<Age>,
    admitted: Line,
    restored: Line,
}

/// Transactions whose times end in the order of their ids.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// The last one and when its time is over, whether it is still there or not.
    last: Option<(TransactionId, u64)>,
    /// The first may be anywhere from here on.
    from: Option<TransactionId>,
    /// Before this no time of them is over. Not looked after when the first goes: when it has come, what is
    /// first then is looked for.
    due_ms: u64,
}

impl Ages {
    /// The time of all mails of `id` is looked at from now on, in a line where it fits in. That of one that has
    /// wishes for it does not: those behind it would wait.
    pub(super) fn watch(&mut self, id: TransactionId, expiry_ms: u64, line: Watched) -> Watched {
        let joined = match line {
            Watched::Admitted => self.admitted.join(id, expiry_ms),
            Watched::Restored => self.restored.join(id, expiry_ms),
            Watched::Alone => false,
        };
        match joined {
            true => line,
            false => {
                self.watch_alone(Age::of_all(id), expiry_ms);
                Watched::Alone
            }
        }
    }

    pub(super) fn watch_alone(&mut self, age: Age, expiry_ms: u64) {
        self.alone.insert(expiry_ms, age);
    }

    pub(super) fn forget_alone(&mut self, age: Age, expiry_ms: u64) {
        self.alone.remove(expiry_ms, age);
    }

    /// Nothing is held any more.
    pub(super) fn forget_lines(&mut self) {
        (self.admitted, self.restored) = (Line::default(), Line::default());
    }

    /// When to look for a time that is over; not after the first one is.
    pub(super) fn next_due(&self) -> Option<u64> {
        let lines = [self.admitted, self.restored].map(|line| line.from.map(|_| line.due_ms));
        lines.into_iter().chain([self.alone.next_due()]).flatten().min()
    }

    /// How many are watched alone.
    #[cfg(test)]
    pub(super) fn alone_count(&self) -> usize {
        self.alone.len()
    }

    /// Whose time is over, if anybody's is; the inner `None` where none was found so far. It is watched no more.
    pub(super) fn pop_due(&mut self, held: &mut Ledger<Held>, now_ms: u64) -> Option<Option<Age>> {
        if let Some(age) = self.alone.pop_due(now_ms) {
            return Some(Some(age));
        }
        for (line, name) in
            [(&mut self.admitted, Watched::Admitted), (&mut self.restored, Watched::Restored)]
        {
            match line.step(name, held, now_ms) {
                Step::NothingDue => {}
                Step::Searching => return Some(None),
                Step::Over(id) => {
                    if let Some(held) = held.get_mut(id) {
                        held.watched = Watched::Alone;
                    }
                    return Some(Some(Age::of_all(id)));
                }
            }
        }
        None
    }
}

/// What was found at the front of a line.
enum Step {
    NothingDue,
    Searching,
    Over(TransactionId),
}

impl Line {
    /// Whether it fits behind the others.
    #[must_use]
    fn join(&mut self, id: TransactionId, expiry_ms: u64) -> bool {
        let mut end_ms = expiry_ms;
        if let Some((last, last_ms)) = self.last {
            if id <= last || expiry_ms + SLACK_MS < last_ms {
                return false;
            }
            end_ms = end_ms.max(last_ms);
        }
        self.last = Some((id, end_ms));
        if self.from.is_none() {
            (self.from, self.due_ms) = (Some(id), expiry_ms);
        }
        true
    }

    fn step(&mut self, name: Watched, held: &Ledger<Held>, now_ms: u64) -> Step {
        let (Some(from), Some((last, _))) = (self.from, self.last) else {
            return Step::NothingDue;
        };
        if now_ms < self.due_ms {
            return Step::NothingDue;
        }
        let after = |id: TransactionId| TransactionId::from_u64(id.as_u64().saturating_add(1));
        for (at, (id, held)) in held.iter_from(from).enumerate() {
            if id > last {
                break;
            }
            if held.watched == name {
                if now_ms < held.expiry_ms {
                    (self.from, self.due_ms) = (Some(id), held.expiry_ms);
                    return Step::NothingDue;
                }
                self.from = Some(after(id));
                return Step::Over(id);
            }
            if at == SCAN {
                self.from = Some(after(id));
                return Step::Searching;
            }
        }
        // Nobody is in it; whoever joins is the first.
        self.from = None;
        Step::NothingDue
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::super::store::tests::{at, store, transaction, waiting};
    use super::super::store::{Now, Store};
    use super::*;
    use crate::queue::Dice;

    /// The ids of all whose time is over.
    fn aged(store: &mut Store, now: Now) -> Vec<u64> {
        let mut ids = Vec::new();
        while let Some(more) = store.pop_aged(now) {
            ids.extend(more.iter().map(|ended| ended.attempt.mail.transaction.as_u64()));
        }
        ids.sort_unstable();
        ids
    }

    #[test]
    fn mail_that_comes_one_after_the_other_is_watched_without_a_table() {
        let mut store = store();
        for id in 1..=3_000 {
            store.admit(transaction(id, 1, 10, at(id + id % 5)), 0, at(id + id % 5));
        }
        for id in 1..1_000 {
            store.remove(TransactionId::from_u64(id).mail(0), at(3_000));
        }
        assert_eq!(store.ages.alone_count(), 0);
        let first_ms = store.next_due().expect("there is mail");
        assert!(aged(&mut store, at(first_ms)).is_empty(), "what would have been first is gone");
        assert!(store.next_due() > Some(first_ms), "and is not looked for again");
        let last_ms = 103_000 + SLACK_MS;
        assert_eq!(aged(&mut store, at(last_ms)).len(), 2_001);
        assert_eq!((store.queued(), store.next_due()), (0, None));
    }

    /// In whatever order mail comes, and whatever the wall clock says meanwhile.
    #[test]
    fn every_time_ends_when_it_is_over_and_not_before() {
        let mut dice = Dice::from_environment();
        for _ in 0..200 {
            let mut store = store();
            let mut times: BTreeMap<u64, u64> = BTreeMap::new();
            let (mut mono_ms, mut step_ms) = (0, 500_000);
            for turn in 0..60 {
                mono_ms += dice.below(3);
                if dice.below(10) == 0 {
                    step_ms = 490_000 + dice.below(20_000);
                }
                let now = Now { mono_ms, unix_ms: mono_ms + step_ms };
                let received =
                    Now { unix_ms: now.unix_ms - dice.below(40) * dice.below(40), ..now };
                let id = match dice.below(4) {
                    0 => 1_000 - turn,
                    _ => 2_000 + turn,
                };
                let text: Arc<_> = transaction(id, 1, 10, received);
                match dice.below(3) {
                    0 => store.restore(waiting(&text, None), now),
                    _ => store.admit(text, 0, now),
                }
                times.insert(id, store.held.get(TransactionId::from_u64(id)).unwrap().expiry_ms);
                if dice.below(4) == 0 {
                    let any = *times.keys().nth(dice.below(times.len() as u64) as usize).unwrap();
                    store.remove(TransactionId::from_u64(any).mail(0), now);
                    times.remove(&any);
                }
            }
            while let Some(&first_ms) = times.values().min() {
                let due_ms = store.next_due().expect("there is mail");
                assert!(due_ms <= first_ms + SLACK_MS, "{due_ms} is too late for {first_ms}");
                mono_ms = mono_ms.max(due_ms);
                for id in aged(&mut store, at(mono_ms)) {
                    let expiry_ms = times.remove(&id).expect("it is there");
                    assert!(expiry_ms <= mono_ms, "{id} at {mono_ms} before {expiry_ms}");
                }
                let late = times.values().filter(|&&over_ms| over_ms + SLACK_MS < mono_ms).count();
                assert_eq!(late, 0, "at {mono_ms}");
            }
            assert_eq!((store.queued(), store.next_due()), (0, None));
        }
    }

    #[test]
    fn one_under_way_keeps_nobody_behind_it() {
        let mut store = store();
        for id in [1, 2, 3] {
            store.admit(transaction(id, 1, 10, at(0)), 0, at(0));
        }
        let way = store.destinations.of_recipient("r0@example.net");
        assert!(store.take_work(way, |_| true).is_some());
        assert_eq!(aged(&mut store, at(100_000)), [2, 3]);
        assert_eq!(store.ages.alone_count(), 1, "the first is looked at again");
    }
}
