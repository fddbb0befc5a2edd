//! A map from transactions, made for a million of them.
//!
//! Ids are times, so a new one is above all others, or nearly; and a queue is worked off from its
//! front, or nearly. The entries are kept in their order, in chunks of a few hundred. No operation
//! touches more than two chunks, however many there are: there is no table that doubles, which
//! would stop its thread for as long as a million entries take to move, and hardly any room that
//! nothing is in.
//!
//! Must never: touch all entries for the sake of one.
//!
//! Diagnostics: none; what is not there is `None`.

use std::collections::VecDeque;

use super::mail::TransactionId;

/// Entries of a chunk, removed ones included: few enough to be moved at once, enough that what a chunk
/// itself takes does not count.
const CHUNK_ENTRIES: usize = 256;
/// With so few entries a chunk is made one with its neighbour, if that has few too.
const SPARSE_ENTRIES: usize = CHUNK_ENTRIES / 4;
/// Entries of two chunks that are made one: room is left, so that the next entry splits nothing.
const MERGED_ENTRIES_MAX: usize = CHUNK_ENTRIES / 2;

/// Values by transaction, in the order of the ids.
#[derive(Clone, Debug)]
pub struct Ledger<V> {
    /// By increasing ids. None is empty, but for an only one.
    chunks: VecDeque<Chunk<V>>,
    /// The memory of one that became empty last.
    spare: Option<Chunk<V>>,
    count: usize,
}

/// Some entries that follow each other.
#[derive(Clone, Debug)]
struct Chunk<V> {
    /// The first of the ids, here so that a search among chunks reads nothing else.
    first: TransactionId,
    /// Increasing. An id whose value is gone stays for a while: to close the gap would cost more.
    ids: Vec<TransactionId>,
    values: Vec<Option<V>>,
    /// How many values there are.
    live: usize,
}

impl<V> Ledger<V> {
    /// An empty ledger.
    pub const fn new() -> Self {
        Self { chunks: VecDeque::new(), spare: None, count: 0 }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The value of `id`.
    pub fn get(&self, id: TransactionId) -> Option<&V> {
        let (chunk, at) = self.locate(id)?;
        self.chunks[chunk].values[at].as_ref()
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, id: TransactionId) -> Option<&mut V> {
        let (chunk, at) = self.locate(id)?;
        self.chunks[chunk].values[at].as_mut()
    }

    /// From now on `id` has this value. Returns the one that it had.
    pub fn insert(&mut self, id: TransactionId, value: V) -> Option<V> {
        if self.chunks.back().is_none_or(|last| last.ids.last().is_none_or(|&last| last < id)) {
            self.append(id, value);
            return None;
        }
        let place = self.chunk_of(id);
        let chunk = &mut self.chunks[place];
        match chunk.ids.binary_search(&id) {
            Ok(at) => {
                let before = chunk.values[at].replace(value);
                chunk.live += usize::from(before.is_none());
                self.count += usize::from(before.is_none());
                before
            }
            Err(at) => {
                self.insert_at(place, at, id, value);
                self.count += 1;
                None
            }
        }
    }

    /// From now on `id` has no value. Returns the one that it had.
    pub fn remove(&mut self, id: TransactionId) -> Option<V> {
        let (place, at) = self.locate(id)?;
        let value = self.chunks[place].values[at].take()?;
        self.chunks[place].live -= 1;
        self.count -= 1;
        self.relieve(place);
        Some(value)
    }

    /// All entries, by increasing id.
    pub fn iter(&self) -> impl Iterator<Item = (TransactionId, &V)> {
        self.chunks.iter().flat_map(|chunk| chunk.from(0))
    }

    /// The entries whose id is `id` or above, by increasing id.
    pub fn iter_from(&self, id: TransactionId) -> impl Iterator<Item = (TransactionId, &V)> {
        let place = if self.chunks.is_empty() { 0 } else { self.chunk_of(id) };
        let at = self.chunks.get(place).map_or(0, |chunk| chunk.ids.partition_point(|&i| i < id));
        let first = self.chunks.get(place).into_iter().flat_map(move |chunk| chunk.from(at));
        first.chain(self.chunks.iter().skip(place + 1).flat_map(|chunk| chunk.from(0)))
    }

    /// All entries, by increasing id; their memory is given back chunk by chunk.
    pub fn into_entries(self) -> impl Iterator<Item = (TransactionId, V)> {
        let entries = |chunk: Chunk<V>| chunk.ids.into_iter().zip(chunk.values);
        let entries = self.chunks.into_iter().flat_map(entries);
        entries.filter_map(|(id, value)| Some((id, value?)))
    }

    /// The chunk that `id` belongs to, if it is anywhere. There is a chunk.
    fn chunk_of(&self, id: TransactionId) -> usize {
        let newest = self.chunks.len() - 1;
        match self.chunks[newest].first <= id {
            // What came last is asked for most.
            true => newest,
            false => self.chunks.partition_point(|chunk| chunk.first <= id).saturating_sub(1),
        }
    }

    fn locate(&self, id: TransactionId) -> Option<(usize, usize)> {
        if self.chunks.is_empty() {
            return None;
        }
        let place = self.chunk_of(id);
        Some((place, self.chunks[place].ids.binary_search(&id).ok()?))
    }

    /// Adds an entry that is above all others.
    fn append(&mut self, id: TransactionId, value: V) {
        self.count += 1;
        if let Some(last) = self.chunks.back_mut() {
            if last.is_full() && last.live <= MERGED_ENTRIES_MAX {
                last.close_gaps();
            }
            if !last.is_full() {
                return last.insert(last.ids.len(), id, value);
            }
        }
        let mut chunk = self.spare.take().unwrap_or_else(|| Chunk::empty(id));
        chunk.insert(0, id, value);
        self.chunks.push_back(chunk);
    }

    /// Adds an entry at `at` of the chunk at `place`.
    fn insert_at(&mut self, place: usize, mut at: usize, id: TransactionId, value: V) {
        let chunk = &mut self.chunks[place];
        if chunk.is_full() && chunk.live < CHUNK_ENTRIES {
            chunk.close_gaps();
            at = chunk.ids.partition_point(|&held| held < id);
        }
        if !chunk.is_full() {
            return chunk.insert(at, id, value);
        }
        // Several workers' ids come a little out of order: what belongs to the end of a full chunk goes
        // to the next one, which begins just now. To split it would leave both half empty.
        let behind = CHUNK_ENTRIES - at;
        let next_has = self.chunks.get(place + 1).map_or(0, |next| next.ids.len());
        if behind <= CHUNK_ENTRIES / 4 && next_has <= CHUNK_ENTRIES / 2 {
            let mut tail = self.chunks[place].split_off(at);
            tail.insert(0, id, value);
            match self.chunks.get_mut(place + 1) {
                Some(next) => {
                    tail.append(next);
                    *next = tail;
                }
                None => self.chunks.push_back(tail),
            }
        } else if behind == 0 {
            self.chunks.insert(place + 1, Chunk::new(id, value));
        } else {
            let half = CHUNK_ENTRIES / 2;
            let mut tail = self.chunks[place].split_off(half);
            match at <= half {
                true => self.chunks[place].insert(at, id, value),
                false => tail.insert(at - half, id, value),
            }
            self.chunks.insert(place + 1, tail);
        }
    }

    /// An entry of the chunk at `place` was removed.
    fn relieve(&mut self, place: usize) {
        let live = self.chunks[place].live;
        if live == 0 {
            match self.chunks.len() {
                // The only one is used again by the next mail.
                1 => self.chunks[place].close_gaps(),
                // Beside a full one, too, mail that comes and goes alone takes no new memory.
                _ => self.spare = self.chunks.remove(place).map(Chunk::cleared),
            }
        } else if live <= SPARSE_ENTRIES {
            let fits = |other: usize| {
                self.chunks.get(other).is_some_and(|other| other.live + live <= MERGED_ENTRIES_MAX)
            };
            let lower = match place {
                1.. if fits(place - 1) => place - 1,
                _ if fits(place + 1) => place,
                _ => return,
            };
            let Some(mut upper) = self.chunks.remove(lower + 1) else {
                return;
            };
            self.chunks[lower].append(&mut upper);
        }
    }
}

impl<V> Chunk<V> {
    fn new(id: TransactionId, value: V) -> Self {
        let mut chunk = Self::empty(id);
        chunk.insert(0, id, value);
        chunk
    }

    fn empty(first: TransactionId) -> Self {
        let ids = Vec::with_capacity(CHUNK_ENTRIES);
        Self { first, ids, values: Vec::with_capacity(CHUNK_ENTRIES), live: 0 }
    }

    /// Its memory alone.
    fn cleared(mut self) -> Self {
        self.ids.clear();
        self.values.clear();
        self
    }

    /// Whether there is no room for another entry, but where values are gone.
    fn is_full(&self) -> bool {
        self.ids.len() == CHUNK_ENTRIES
    }

    /// Adds an entry where there is room.
    fn insert(&mut self, at: usize, id: TransactionId, value: V) {
        self.ids.insert(at, id);
        self.values.insert(at, Some(value));
        self.live += 1;
        self.first = self.ids[0];
    }

    /// Takes the entries from `at` on.
    fn split_off(&mut self, at: usize) -> Self {
        let mut tail = Self::empty(self.first);
        tail.ids.extend(self.ids.drain(at..));
        tail.values.extend(self.values.drain(at..));
        tail.live = tail.values.iter().flatten().count();
        self.live -= tail.live;
        tail.first = tail.ids.first().copied().unwrap_or(tail.first);
        tail
    }

    /// Adds all entries of the chunk that follows.
    fn append(&mut self, next: &mut Self) {
        self.close_gaps();
        next.close_gaps();
        self.ids.append(&mut next.ids);
        self.values.append(&mut next.values);
        self.live += next.live;
    }

    /// Drops the ids whose values are gone.
    fn close_gaps(&mut self) {
        if self.live < self.ids.len() {
            let mut values = self.values.iter();
            self.ids.retain(|_| values.next().is_some_and(Option::is_some));
            self.values.retain(Option::is_some);
            self.first = self.ids.first().copied().unwrap_or(self.first);
        }
    }

    fn from(&self, at: usize) -> impl Iterator<Item = (TransactionId, &V)> {
        let entries = self.ids[at..].iter().zip(&self.values[at..]);
        entries.filter_map(|(&id, value)| Some((id, value.as_ref()?)))
    }
}

impl<V> Default for Ledger<V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::queue::dice::Dice;

    const fn id(number: u64) -> TransactionId {
        TransactionId::from_u64(number)
    }

    impl<V> Ledger<V> {
        fn check(&self) {
            let mut last = None;
            let mut live = 0;
            for chunk in &self.chunks {
                assert!(chunk.ids.len() == chunk.values.len() && chunk.ids.len() <= CHUNK_ENTRIES);
                assert_eq!(chunk.live, chunk.values.iter().flatten().count());
                assert!(chunk.live > 0 || self.chunks.len() == 1);
                assert!(chunk.ids.first().is_none_or(|&first| first == chunk.first));
                for &id in &chunk.ids {
                    assert!(last < Some(id), "ids increase");
                    last = Some(id);
                }
                live += chunk.live;
            }
            assert_eq!(live, self.count);
        }
    }

    /// Ids that come as a server's do, or anyhow; removed from the front, from the middle, or all.
    #[test]
    fn a_ledger_agrees_with_a_sorted_map() {
        let mut dice = Dice::from_environment();
        for round in 0..30 {
            let (mut ledger, mut model) = (Ledger::new(), BTreeMap::new());
            let (mut newest, spread) = (1_000_000, [1, 20, 2_000, 1_000_000][round % 4]);
            let mut growing = true;
            for step in 0..4_000 {
                growing = if step % 1_500 == 1_499 { !growing } else { growing };
                newest += dice.below(3);
                let near = id(newest - dice.below(spread));
                let some = |nth: u64| model.keys().nth(nth as usize).copied();
                match dice.below(10) {
                    0..5 if growing => {
                        assert_eq!(ledger.insert(near, step), model.insert(near, step));
                    }
                    0..3 => {
                        let oldest = some(dice.below(3)).unwrap_or(near);
                        assert_eq!(ledger.remove(oldest), model.remove(&oldest));
                    }
                    3..6 => {
                        let any = some(dice.below(model.len() as u64 + 1)).unwrap_or(near);
                        assert_eq!(ledger.remove(any), model.remove(&any));
                    }
                    6 => assert_eq!(ledger.get(near), model.get(&near)),
                    7 => {
                        let any = some(dice.below(model.len() as u64 + 1)).unwrap_or(near);
                        assert_eq!(ledger.get_mut(any), model.get_mut(&any));
                        assert_eq!(ledger.get(any).is_some(), model.contains_key(&any));
                    }
                    _ => {
                        let some: Vec<_> = ledger.iter_from(near).take(5).collect();
                        let expected = model.range(near..).take(5).map(|(&id, value)| (id, value));
                        assert_eq!(some, expected.collect::<Vec<_>>());
                    }
                }
                assert_eq!((ledger.len(), ledger.is_empty()), (model.len(), model.is_empty()));
            }
            ledger.check();
            assert!(ledger.iter().eq(model.iter().map(|(&id, value)| (id, value))));
            assert!(ledger.into_entries().eq(model));
        }
    }

    #[test]
    fn ids_of_several_workers_leave_no_room_unused() {
        let mut dice = Dice::from_environment();
        for spread in [1, 5, 60] {
            let mut ledger = Ledger::new();
            for number in 0..100_000 {
                ledger.insert(id(1_000 + number * 4 + dice.below(spread) * 4 + number % 3), ());
            }
            ledger.check();
            let room = ledger.chunks.len() * CHUNK_ENTRIES;
            assert!(room < ledger.len() * 11 / 10, "{room} for {} ({spread})", ledger.len());
        }
    }

    #[test]
    fn what_is_sparse_is_given_back() {
        let mut ledger = Ledger::new();
        for number in 0..100_000 {
            ledger.insert(id(number), ());
        }
        for number in (0..100_000).filter(|number| number % 50 != 0) {
            ledger.remove(id(number));
        }
        ledger.check();
        let room = ledger.chunks.len() * CHUNK_ENTRIES;
        assert!(room <= 5 * ledger.len(), "{room} for {}", ledger.len());
        for number in (0..100_000).rev().filter(|number| number % 50 == 0) {
            ledger.remove(id(number));
        }
        assert_eq!((ledger.len(), ledger.chunks.len()), (0, 1));
        assert_eq!(ledger.iter_from(id(0)).next(), None);
    }

    /// A few mails that stay behind do not keep what came and went after them.
    #[test]
    fn mail_that_comes_and_goes_takes_the_same_chunk_again_and_again() {
        let mut ledger = Ledger::new();
        for number in 0..10 * CHUNK_ENTRIES as u64 {
            ledger.insert(id(number), ());
            if number != 7 {
                ledger.remove(id(number));
            }
        }
        ledger.check();
        assert_eq!((ledger.len(), ledger.chunks.len()), (1, 1));
    }

    #[test]
    fn mail_that_comes_and_goes_beside_a_full_chunk_takes_the_same_memory_again() {
        let mut ledger = Ledger::new();
        for number in 0..CHUNK_ENTRIES as u64 {
            ledger.insert(id(number), ());
        }
        let mut memory = None;
        for number in 1_000..2_000 {
            ledger.insert(id(number), ());
            let here = ledger.chunks[1].ids.as_ptr();
            assert_eq!(*memory.get_or_insert(here), here);
            ledger.remove(id(number));
            ledger.check();
        }
        assert_eq!((ledger.len(), ledger.chunks.len()), (CHUNK_ENTRIES, 1));
    }

    /// A start may find old mail while new mail has come already.
    #[test]
    fn old_entries_that_come_late_and_in_order_leave_no_room_unused() {
        let mut ledger = Ledger::new();
        for number in (1_000_000..1_010_000).chain(0..100_000) {
            ledger.insert(id(number), ());
        }
        ledger.check();
        let room = ledger.chunks.len() * CHUNK_ENTRIES;
        assert!(room < ledger.len() * 11 / 10, "{room} for {}", ledger.len());
    }
}
