//! Chance from a seed, so that a run can be made again.

use std::{ops::Range, sync::OnceLock};

static SEED: OnceLock<u64> = OnceLock::new();

/// To be called first by a suite that has a seed of its own.
pub fn set_seed(seed: u64) {
    SEED.set(seed).expect("one seed a process");
}

/// Of this process; the same each time unless [`set_seed`] said otherwise.
pub fn seed() -> u64 {
    *SEED.get_or_init(|| 42)
}

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A sequence of its own for each name.
    pub fn of(name: &str) -> Self {
        let mix =
            |sum: u64, byte: u8| sum.rotate_left(5) ^ u64::from(byte).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(name.bytes().fold(seed(), mix))
    }

    pub fn below(&mut self, range: Range<u64>) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        range.start + (z ^ (z >> 31)) % (range.end - range.start)
    }
}
