//! Seeded random choices, so that a failed run can be repeated. It owns the generator (SplitMix64) and
//! the meaning of `ROHRPOST_SEED`; it is no source of secrets.

use std::time::{SystemTime, UNIX_EPOCH};

/// A small generator whose seed is known.
#[derive(Debug, Clone)]
pub(crate) struct Random {
    state: u64,
}

impl Random {
    /// Seeded from `ROHRPOST_SEED`, or from the clock; prints the seed under the `name` of the test.
    pub(crate) fn from_environment(name: &str) -> Random {
        let seed = match std::env::var("ROHRPOST_SEED") {
            Ok(text) => text.parse().expect("ROHRPOST_SEED is a decimal number"),
            Err(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(1, |since| since.as_nanos() as u64),
        };
        println!("{name}: ROHRPOST_SEED={seed}");
        Random { state: seed }
    }

    /// The next 64 bits.
    pub(crate) fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, which is not zero.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.bits() % bound
    }
}

#[test]
fn the_same_seed_makes_the_same_choices() {
    let (mut a, mut b) = (Random { state: 7 }, Random { state: 7 });
    assert!((0..100).all(|_| a.below(1000) == b.below(1000)));
}
