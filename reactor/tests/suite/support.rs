//! Owns: what the tests of this crate share: seeded randomness.
//!
//! Must never: draw from anything but the seed.
//!
//! Diagnostics: [`seeds`] prints every seed it hands out; a failing test shows the last one.

/// A small generator (SplitMix64): the same numbers for the same seed, everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Random(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to, and not including, `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The seeds to run a model test with: the one in `ROHRPOST_SEED`, or `count` fixed ones.
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let chosen = std::env::var("ROHRPOST_SEED").ok();
    let chosen = chosen.map(|seed| seed.parse().expect("ROHRPOST_SEED is a number"));
    let range = chosen.map_or(1..=count, |seed: u64| seed..=seed);
    range.inspect(|seed| println!("ROHRPOST_SEED={seed}"))
}
