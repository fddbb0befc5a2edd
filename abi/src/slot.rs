//! Slots: a table whose keys carry a generation, so that a key kept too long finds nothing.
//!
//! Owns the free list and the generations. Must never hand out more than [`SLOTS_MAX`] slots nor
//! reuse one at once: freed slots wait at the end of a queue of at least [`REST_SLOTS`], which
//! multiplies the number of uses until a generation comes round again. After a peak the free end of
//! the table is given back; slots made later go on from the highest generation that was there, so that
//! no key of the peak ever fits again. Diagnostics: `None`.

use std::collections::VecDeque;
use std::ops::Range;

/// Bits of a slot number in a key.
pub(crate) const SLOT_BITS: u32 = 20;
/// Bits of a generation in a key.
pub(crate) const GENERATION_BITS: u32 = 20;
/// How many things of one kind a worker can have at once.
pub(crate) const SLOTS_MAX: usize = 1 << SLOT_BITS;
/// How many freed slots rest before the first of them is used again.
const REST_SLOTS: usize = 64;

/// A table of this size or less is not made smaller.
const KEPT_SLOTS: usize = 4 * REST_SLOTS;

const SLOT_MASK: u64 = (1 << SLOT_BITS) - 1;
const GENERATION_MASK: u32 = (1 << GENERATION_BITS) - 1;

/// A slot and the generation in which it was taken: 40 bits, as they stand in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64);

impl Key {
    const fn new(generation: u32, slot: usize) -> Key {
        Key((generation as u64) << SLOT_BITS | slot as u64)
    }

    /// Bits above the key's 40 are ignored.
    pub(crate) const fn from_bits(bits: u64) -> Key {
        Key(bits & ((1 << (SLOT_BITS + GENERATION_BITS)) - 1))
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0
    }

    /// For two keys of one slot: this one was given out later. Generations wrap: the one ahead of the
    /// other by less than half is the later.
    pub(crate) const fn is_after(self, other: Key) -> bool {
        let ahead = self.generation().wrapping_sub(other.generation()) & GENERATION_MASK;
        ahead != 0 && ahead <= GENERATION_MASK / 2
    }

    pub(crate) const fn slot(self) -> usize {
        (self.0 & SLOT_MASK) as usize
    }

    const fn generation(self) -> u32 {
        (self.0 >> SLOT_BITS) as u32
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: Option<T>,
}

/// A table of `T` by [`Key`].
#[derive(Debug)]
pub(crate) struct Slots<T> {
    entries: Vec<Entry<T>>,
    free: VecDeque<u32>,
    /// The generation of slots made from now on.
    floor: u32,
    /// When no more slots than this are taken, the free end of the table is looked for.
    shrink_at: usize,
}

impl<T> Slots<T> {
    pub(crate) const fn new() -> Slots<T> {
        Slots { entries: Vec::new(), free: VecDeque::new(), floor: 0, shrink_at: 0 }
    }

    /// How many slots are taken.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// How many slots there are, taken or not.
    pub(crate) fn slots(&self) -> usize {
        self.entries.len()
    }

    /// What is in these slots, as far as they are there and taken.
    pub(crate) fn values(&self, slots: Range<usize>) -> impl Iterator<Item = &T> {
        let end = slots.end.min(self.entries.len());
        let entries = &self.entries[slots.start.min(end)..end];
        entries.iter().filter_map(|entry| entry.value.as_ref())
    }

    /// Takes a slot, or `None` when all [`SLOTS_MAX`] are taken.
    pub(crate) fn insert(&mut self, value: T) -> Option<Key> {
        if self.free.len() < REST_SLOTS && self.entries.len() < SLOTS_MAX {
            let slot = self.entries.len();
            self.entries.push(Entry { generation: self.floor, value: Some(value) });
            self.shrink_at = self.entries.len() / 4;
            return Some(Key::new(self.floor, slot));
        }
        let slot = self.free.pop_front()? as usize;
        let entry = &mut self.entries[slot];
        entry.value = Some(value);
        Some(Key::new(entry.generation, slot))
    }

    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        let entry = self.entries.get(key.slot())?;
        if entry.generation == key.generation() { entry.value.as_ref() } else { None }
    }

    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let entry = self.entries.get_mut(key.slot())?;
        if entry.generation == key.generation() { entry.value.as_mut() } else { None }
    }

    /// The keys of all values that `wanted` is true of. Looks at every slot.
    pub(crate) fn keys_where(&self, wanted: impl Fn(&T) -> bool) -> Vec<Key> {
        let taken = self.entries.iter().enumerate();
        let found = taken.filter(|(_, entry)| entry.value.as_ref().is_some_and(&wanted));
        found.map(|(slot, entry)| Key::new(entry.generation, slot)).collect()
    }

    /// Frees the slot; its key is stale from now on.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let entry = &mut self.entries[key.slot()];
        entry.generation = (entry.generation + 1) & GENERATION_MASK;
        self.free.push_back(key.slot() as u32);
        let value = entry.value.take();
        if self.entries.len() > KEPT_SLOTS && self.len() <= self.shrink_at {
            self.shrink();
        }
        value
    }

    /// Gives the free end of the table back. Tried at a quarter of the peak and at each half of that:
    /// so it costs little, and only a key that lives on holds the slots below its own.
    #[cold]
    fn shrink(&mut self) {
        self.shrink_at = self.len() / 2;
        let last = self.entries.iter().rposition(|entry| entry.value.is_some());
        let kept = last.map_or(0, |last| last + 1).max(KEPT_SLOTS);
        for entry in self.entries.drain(kept.min(self.entries.len())..) {
            // Generations wrap: the one ahead of the other by less than half is the higher.
            let ahead = entry.generation.wrapping_sub(self.floor) & GENERATION_MASK;
            if ahead <= GENERATION_MASK / 2 {
                self.floor = entry.generation;
            }
        }
        self.entries.shrink_to_fit();
        self.free.retain(|slot| (*slot as usize) < kept);
        self.free.shrink_to_fit();
    }

    /// Frees every slot.
    pub(crate) fn clear(&mut self) {
        for (slot, entry) in self.entries.iter_mut().enumerate() {
            if entry.value.take().is_some() {
                entry.generation = (entry.generation + 1) & GENERATION_MASK;
                self.free.push_back(slot as u32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_1_048_577th_slot_is_refused_until_one_is_freed() {
        let mut slots = Slots::new();
        let keys: Vec<Key> = (0..SLOTS_MAX).map(|n| slots.insert(n).expect("room")).collect();
        assert_eq!(slots.insert(0), None);
        assert_eq!(slots.remove(keys[77]), Some(77));
        let again = slots.insert(1).expect("one is free");
        assert_eq!(again.slot(), keys[77].slot());
        assert_ne!(again, keys[77]);
        assert_eq!(slots.insert(2), None);
        assert_eq!(slots.len(), SLOTS_MAX);
    }

    #[test]
    fn a_freed_slot_rests_behind_all_others() {
        let mut slots = Slots::new();
        let first = slots.insert(0).expect("room");
        slots.remove(first);
        for n in 1..REST_SLOTS {
            let key = slots.insert(n).expect("room");
            assert_ne!(key.slot(), first.slot());
            slots.remove(key);
        }
        let reused = slots.insert(9).expect("room");
        assert_eq!((reused.slot(), reused.generation()), (first.slot(), 1));
    }

    #[test]
    fn a_generation_wraps_within_its_bits() {
        let mut slots = Slots::new();
        slots.insert(0);
        slots.entries[0].generation = GENERATION_MASK;
        let last = Key::new(GENERATION_MASK, 0);
        assert_eq!(slots.remove(last), Some(0));
        assert_eq!((slots.entries[0].generation, slots.get(last)), (0, None));
    }

    #[test]
    fn memory_follows_a_peak_down_and_no_key_of_it_fits_again() {
        let mut slots = Slots::new();
        let lasting = slots.insert(0).expect("room");
        let mut peaks: Vec<Key> = Vec::new();
        for round in 0..5 {
            let peak: Vec<Key> = (0..20_000).map(|n| slots.insert(n).expect("room")).collect();
            assert!(peaks.iter().all(|old| slots.get(*old).is_none()), "round {round}");
            for key in &peak {
                assert!(slots.remove(*key).is_some());
            }
            assert_eq!((slots.len(), slots.entries.len()), (1, KEPT_SLOTS));
            assert!(slots.entries.capacity() + slots.free.capacity() < 3 * KEPT_SLOTS);
            peaks.extend(peak);
        }
        assert_eq!(slots.get(lasting), Some(&0));
    }

    #[test]
    fn a_floor_goes_on_over_the_end_of_the_generations() {
        let mut slots = Slots::new();
        slots.floor = GENERATION_MASK;
        let first: Vec<Key> = (0..KEPT_SLOTS + 1).map(|n| slots.insert(n).expect("room")).collect();
        for key in &first {
            slots.remove(*key);
        }
        assert_eq!((slots.entries.len(), slots.floor), (KEPT_SLOTS, 0));
    }

    /// Compares with a list of what is live over a seeded sequence of operations.
    #[test]
    fn behaves_as_a_list_of_live_values() {
        let seed =
            std::env::var("ROHRPOST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(11u64);
        println!("ROHRPOST_SEED={seed}");
        let mut random = seed | 1;
        let (mut slots, mut live, mut dead) = (Slots::new(), Vec::new(), Vec::new());
        for n in 0..20_000u64 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            if random % 5 < 3 || live.is_empty() {
                live.push((slots.insert(n).expect("room"), n));
            } else {
                let (key, value) = live.swap_remove(random as usize % live.len());
                assert_eq!(slots.remove(key), Some(value));
                assert_eq!(slots.remove(key), None);
                dead.push(key);
            }
            if n == 15_000 {
                slots.clear();
                dead.extend(live.drain(..).map(|(key, _)| key));
            }
            assert_eq!(slots.len(), live.len());
        }
        assert!(live.iter().all(|(key, value)| slots.get(*key) == Some(value)));
        assert!(dead.iter().all(|key| slots.get(*key).is_none()));
    }
}
