//! Seeded chance for the tests of this folder.
//!
//! Diagnostics: prints its seed, which `ROHRPOST_SEED` overrides.

/// A source of numbers that repeats with its seed (SplitMix64).
pub(crate) struct Dice(u64);

impl Dice {
    /// The seed of the environment, or a fixed one.
    pub(crate) fn from_environment() -> Self {
        let given = std::env::var("ROHRPOST_SEED").ok().and_then(|text| text.parse().ok());
        let seed = given.unwrap_or(20_261_122);
        println!("ROHRPOST_SEED={seed}");
        Self(seed)
    }

    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}
