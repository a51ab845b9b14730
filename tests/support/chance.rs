//! Random numbers that a seed repeats.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Splitmix64: random enough, and the same for the same seed.
pub struct Chance(pub u64);

impl Chance {
    /// Returns any number.
    pub fn next(&mut self) -> u64 {
        self.below(u64::MAX)
    }

    /// Returns a number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit
    }

    /// Returns `true` once in `n` times.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns a duration of less than `limit` microseconds.
    pub fn micros(&mut self, limit: u64) -> Duration {
        Duration::from_micros(self.below(limit))
    }
}

/// Returns the seed that the variable names, or one that is new each time.
pub fn seed(variable: &str) -> u64 {
    let chosen = std::env::var(variable).ok();
    let chosen = chosen.and_then(|seed| seed.parse().ok());
    chosen.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        now.map_or(1, |now| now.as_nanos() as u64)
    })
}
