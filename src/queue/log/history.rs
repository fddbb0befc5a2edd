//! What is kept of a mail's attempts, and how much of it.
//!
//! Owns the bound: of very many attempts the first few and the latest stay, because what went wrong
//! first and what goes wrong now explain a mail; their number is always exact. Does no IO.
//!
//! Diagnostics: none; what was left out shows as a gap in the numbers.

use super::record::Place;
use crate::queue::mail::Attempt;

/// Most attempts of one mail that are kept.
pub(super) const ATTEMPTS_KEPT_MAX: usize = 100;
/// Of these, how many are the first ones.
const FIRST_KEPT: usize = 10;

/// What is known of a mail's attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct History {
    /// How many there were.
    pub(super) attempts: u32,
    /// Those that are kept, each with its number from 1, increasing.
    pub(super) kept: Vec<(u32, Attempt)>,
}

impl History {
    /// Adds a later attempt; one that is known already is left as it is.
    pub(super) fn add(&mut self, number: u32, attempt: Attempt) {
        if self.kept.last().is_none_or(|(last, _)| *last < number) {
            self.kept.push((number, attempt));
        }
    }

    /// Leaves at most `count`.
    pub(super) fn trim(&mut self, count: usize) {
        drop_middle(&mut self.kept, count);
    }
}

/// Notes where another outcome of a mail is written.
pub(super) fn note(places: &mut Vec<Place>, place: Place) {
    if places.len() == ATTEMPTS_KEPT_MAX {
        drop_middle(places, ATTEMPTS_KEPT_MAX - 1);
    }
    places.push(place);
}

/// Leaves the first few and the latest, `count` in all.
fn drop_middle<T>(items: &mut Vec<T>, count: usize) {
    if items.len() > count {
        let first = FIRST_KEPT.min(count / 2);
        let latest = items.len() - (count - first);
        items.drain(first..latest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_few_and_the_latest_stay() {
        let rows: [(usize, usize, &[usize]); 5] = [
            (3, 3, &[1, 2, 3]),
            (5, 1, &[5]),
            (5, 0, &[]),
            (6, 4, &[1, 2, 5, 6]),
            (30, 24, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        ];
        for (length, count, begins) in rows {
            let mut items: Vec<usize> = (1..=length).collect();
            drop_middle(&mut items, count);
            assert_eq!((items.len(), &items[..begins.len()]), (length.min(count), begins));
            assert_eq!(items.last(), [length].last().filter(|_| count > 0), "the latest stays");
        }
        let mut places = Vec::new();
        (0..1000).for_each(|offset| note(&mut places, Place { segment: 1, offset }));
        assert_eq!((places.len(), places[9].offset, places[99].offset), (100, 9, 999));
        assert_eq!(places[10].offset, 910);
    }
}
