//! Chance that can be thrown again: SplitMix64 from a printed seed.

/// Throws numbers.
#[derive(Clone)]
pub struct Dice(u64);

impl Dice {
    /// The same seed throws the same numbers; `who` tells throwers of one run apart.
    pub fn new(seed: u64, who: u64) -> Self {
        let mut dice = Self(seed ^ who.wrapping_mul(0xa076_1d64_78bd_642f));
        dice.throw();
        dice
    }

    fn throw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From `low` to `high`, both possible.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.throw() % (high - low + 1)
    }

    /// Whether it comes about, so many times in a hundred.
    pub fn percent(&mut self, chance: u64) -> bool {
        self.throw() % 100 < chance
    }

    /// One of them; none of none.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.throw() as usize % of.len().max(1))
    }

    /// A span between two lengths.
    pub fn span(&mut self, low_ms: u64, high_ms: u64) -> std::time::Duration {
        std::time::Duration::from_millis(self.between(low_ms, high_ms))
    }

    /// Puts them in another order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for last in (1..all.len()).rev() {
            let other = self.between(0, last as u64) as usize;
            all.swap(last, other);
        }
    }
}
