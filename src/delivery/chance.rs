//! Chance for spreading load: which of several equal hosts comes first.
//!
//! Must never: be used where guessing would help anybody; it is no cryptography.
//!
//! **Diagnostics**: none; the same seed gives the same numbers.

/// A cheap source of numbers (SplitMix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Numbers that follow from `seed`.
    pub const fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number below `end`, which is not 0; the bias of the remainder is far below what matters here.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % end as u64) as usize
    }

    /// Brings `items` into any order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_gets_every_item() {
        let mut chance = Chance::new(1);
        let mut seen = [[0; 3]; 3];
        for _ in 0..3_000 {
            let mut items = [0, 1, 2];
            chance.shuffle(&mut items);
            items.iter().enumerate().for_each(|(place, &item)| seen[place][item] += 1);
        }
        assert!(seen.iter().flatten().all(|&count| (900..1_100).contains(&count)), "{seen:?}");
    }
}
