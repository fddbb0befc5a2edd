//! Owns: values under keys that are never mistaken for one another. A [`Slab`] hands out a [`Key`]
//! for every value; after removal the key is stale for good, although its place is used again.
//!
//! Built from pages of the `slab` crate. Pages bring two things that one large vector lacks:
//! growing never moves what is there, and a page that has become empty is freed, so that a peak
//! does not hold its memory for ever.
//!
//! Must never: return the value of one key for another; keep more than one empty page.
//!
//! Diagnostics: none at run time. More than 2^32 values at once is a bug of the caller and panics.

use std::fmt;

use mio::Token;

/// Values in one page. Small enough that a lone survivor pins little, large enough that pages are
/// few.
const PAGE_LEN: usize = 256;

/// Names one value in one [`Slab`], 64 bits, for the lifetime of that value only.
///
/// A key converts to a [`mio::Token`] and back without loss. Tokens whose upper half is all ones
/// are never keys: the reactor keeps those for itself (see [`Key::is_key`]).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// The generation no key has; tokens that carry it belong to the reactor.
    const GENERATION_RESERVED: u32 = u32::MAX;

    /// Whether `token` may have been made from a key, which is so for all but the reserved tokens.
    pub const fn is_key(token: Token) -> bool {
        (token.0 >> 32) as u32 != Self::GENERATION_RESERVED
    }

    /// A token that equals no key: the `number`-th of the reserved ones.
    pub(crate) const fn reserved(number: u32) -> Token {
        Token(((Self::GENERATION_RESERVED as usize) << 32) | number as usize)
    }

    /// Where the value lies, below [`Slab::capacity`] at the time of insertion; places are used
    /// again.
    pub const fn index(self) -> u32 {
        self.index
    }

    /// Which of the values that lay there it is.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}.{})", self.index, self.generation)
    }
}

const _: () = assert!(usize::BITS == 64, "a key needs all 64 bits of a token");

impl From<Key> for Token {
    fn from(key: Key) -> Token {
        Token(((key.generation as usize) << 32) | key.index as usize)
    }
}

/// The way back from [`Token::from`]. A reserved token gives a key that no slab has issued.
impl From<Token> for Key {
    fn from(token: Token) -> Key {
        Key { index: token.0 as u32, generation: (token.0 >> 32) as u32 }
    }
}

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    value: T,
}

/// Values under generational keys.
///
/// Insertion takes the lowest page that has room, so that high pages drain and are freed. The
/// generation is counted over the whole slab: a stale key could only fit again after 2^32 - 1
/// further insertions, the last into its place.
#[derive(Debug)]
pub struct Slab<T> {
    pages: Vec<slab::Slab<Entry<T>>>,
    /// One bit a page: set while the page has room.
    vacancy: Vec<u64>,
    /// No word of `vacancy` before this one has a bit set.
    vacancy_first: usize,
    /// The one empty page that keeps its memory, so that one value coming and going does not
    /// allocate.
    spare: Option<usize>,
    len: usize,
    generation_next: u32,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    /// An empty slab; allocates nothing.
    pub const fn new() -> Self {
        Slab {
            pages: Vec::new(),
            vacancy: Vec::new(),
            vacancy_first: 0,
            spare: None,
            len: 0,
            generation_next: 0,
        }
    }

    /// How many values there are.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many values the pages that hold memory have room for.
    pub fn capacity(&self) -> usize {
        self.pages.iter().filter(|page| page.capacity() > 0).count() * PAGE_LEN
    }

    /// Puts `value` in and returns its key.
    pub fn insert(&mut self, value: T) -> Key {
        self.insert_with(|_| value)
    }

    /// Puts in what `make` returns when told its key.
    pub fn insert_with(&mut self, make: impl FnOnce(Key) -> T) -> Key {
        let page_index = self.page_with_room();
        let generation = self.generation_next;
        let page = &mut self.pages[page_index];
        let entry = page.vacant_entry();
        let index = u32::try_from(page_index * PAGE_LEN + entry.key())
            .expect("invariant: a slab holds fewer than 2^32 values");
        let key = Key { index, generation };
        entry.insert(Entry { generation, value: make(key) });
        if page.len() == PAGE_LEN {
            self.vacancy[page_index / 64] &= !(1 << (page_index % 64));
        }
        if self.spare == Some(page_index) {
            self.spare = None;
        }
        self.generation_next = (generation + 1) % Key::GENERATION_RESERVED;
        self.len += 1;
        key
    }

    /// The value of `key`, unless it was removed.
    pub fn get(&self, key: Key) -> Option<&T> {
        let (page, slot) = locate(key.index);
        let entry = self.pages.get(page)?.get(slot)?;
        (entry.generation == key.generation).then_some(&entry.value)
    }

    /// The value of `key`, unless it was removed.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (page, slot) = locate(key.index);
        let entry = self.pages.get_mut(page)?.get_mut(slot)?;
        (entry.generation == key.generation).then_some(&mut entry.value)
    }

    /// Whether the value of `key` is still there.
    pub fn contains(&self, key: Key) -> bool {
        self.get(key).is_some()
    }

    /// Moves the value of `key` out; from here on the key is stale.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get(key)?;
        let (page_index, slot) = locate(key.index);
        let page = &mut self.pages[page_index];
        let entry = page.remove(slot);
        let emptied = page.is_empty();
        self.len -= 1;
        self.vacancy[page_index / 64] |= 1 << (page_index % 64);
        self.vacancy_first = self.vacancy_first.min(page_index / 64);
        if emptied && let Some(previous) = self.spare.replace(page_index) {
            self.release(previous);
        }
        Some(entry.value)
    }

    /// All values with their keys, in the order of their places.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        self.pages.iter().enumerate().flat_map(|(page, entries)| {
            entries.iter().map(move |(slot, entry)| (key_of(page, slot, entry), &entry.value))
        })
    }

    /// All values with their keys, in the order of their places.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut T)> {
        self.pages.iter_mut().enumerate().flat_map(|(page, entries)| {
            entries
                .iter_mut()
                .map(move |(slot, entry)| (key_of(page, slot, entry), &mut entry.value))
        })
    }

    /// Gives back what memory it can: the spare page and the tables' slack. Keys stay valid.
    pub fn shrink_to_fit(&mut self) {
        if let Some(page) = self.spare.take() {
            self.release(page);
        }
        self.pages.shrink_to_fit();
        self.vacancy.shrink_to_fit();
    }

    /// The value at `index` of whatever generation, for links between values of one slab.
    pub(crate) fn at(&self, index: u32) -> &T {
        let (page, slot) = locate(index);
        &self.pages[page][slot].value
    }

    /// The value at `index` of whatever generation, for links between values of one slab.
    pub(crate) fn at_mut(&mut self, index: u32) -> &mut T {
        let (page, slot) = locate(index);
        &mut self.pages[page][slot].value
    }

    /// The key of the value that lies at `index` now.
    pub(crate) fn key_at(&self, index: u32) -> Key {
        let (page, slot) = locate(index);
        Key { index, generation: self.pages[page][slot].generation }
    }

    /// The lowest page with room, holding memory; appends one if all are full.
    fn page_with_room(&mut self) -> usize {
        while let Some(&word) = self.vacancy.get(self.vacancy_first) {
            if word != 0 {
                let index = self.vacancy_first * 64 + word.trailing_zeros() as usize;
                let page = &mut self.pages[index];
                if page.capacity() == 0 {
                    *page = slab::Slab::with_capacity(PAGE_LEN);
                }
                return index;
            }
            self.vacancy_first += 1;
        }
        let index = self.pages.len();
        self.pages.push(slab::Slab::with_capacity(PAGE_LEN));
        if index / 64 == self.vacancy.len() {
            self.vacancy.push(0);
        }
        self.vacancy[index / 64] |= 1 << (index % 64);
        self.vacancy_first = index / 64;
        index
    }

    /// Frees the memory of an empty page, and drops the pages at the end that have none.
    fn release(&mut self, page: usize) {
        debug_assert!(self.pages[page].is_empty(), "invariant: only empty pages are freed");
        self.pages[page] = slab::Slab::new();
        while self.pages.last().is_some_and(|last| last.capacity() == 0) {
            self.pages.pop();
            let index = self.pages.len();
            self.vacancy[index / 64] &= !(1 << (index % 64));
        }
        self.vacancy.truncate(self.pages.len().div_ceil(64));
    }

    /// Continues with `generation`, so that a test can see the count wrap.
    #[cfg(test)]
    fn skip_to_generation(&mut self, generation: u32) {
        self.generation_next = generation;
    }
}

/// Page and slot of an index.
const fn locate(index: u32) -> (usize, usize) {
    (index as usize / PAGE_LEN, index as usize % PAGE_LEN)
}

/// The key of `entry`, which lies in `slot` of `page`.
fn key_of<T>(page: usize, slot: usize, entry: &Entry<T>) -> Key {
    // No truncation: insertion has checked that the place fits.
    Key { index: (page * PAGE_LEN + slot) as u32, generation: entry.generation }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_wraps_without_touching_the_reserved_one() {
        let mut slab = Slab::new();
        slab.skip_to_generation(u32::MAX - 1);
        let last = slab.insert('a');
        let first = slab.insert('b');
        assert_eq!((last.generation(), first.generation()), (u32::MAX - 1, 0));
        assert!(Key::is_key(Token::from(last)) && Key::is_key(Token::from(first)));
    }

    #[test]
    fn reserved_tokens_are_no_keys() {
        for number in [0, 1, u32::MAX] {
            let token = Key::reserved(number);
            assert!(!Key::is_key(token));
            assert_eq!(Token::from(Key::from(token)), token);
        }
    }
}
