//! The pauses between attempts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

/// The pauses between the attempts at a migration: exponential, with full jitter.
///
/// The pause after the n-th failure is random: between zero and `first` × 2ⁿ⁻¹, but at most
/// `most`. So several instances that failed together do not try again together.
///
/// Default: `first` 100 ms, `most` 5 s.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use diesel_pglock::Backoff;
///
/// let backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(5));
/// assert_eq!(backoff, Backoff::default());
/// assert_eq!(backoff.most_after(1), Duration::from_millis(100));
/// assert_eq!(backoff.most_after(3), Duration::from_millis(400));
/// assert_eq!(backoff.most_after(60), Duration::from_secs(5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential(Duration::from_millis(100), Duration::from_secs(5))
    }
}

impl Backoff {
    /// Pauses up to `first` after the first failure, then up to twice as long each time, and at
    /// most for `most`.
    pub const fn exponential(first: Duration, most: Duration) -> Self {
        Self { first, most }
    }

    /// Tries again without a pause.
    pub const fn none() -> Self {
        Self::exponential(Duration::ZERO, Duration::ZERO)
    }

    /// Returns the longest pause after the `failures`-th failure, counted from 1.
    pub fn most_after(&self, failures: u32) -> Duration {
        let factor = 1_u32.checked_shl(failures.saturating_sub(1));
        let longest = factor.and_then(|factor| self.first.checked_mul(factor));
        longest.map_or(self.most, |longest| longest.min(self.most))
    }

    /// Returns a random pause after the `failures`-th failure.
    pub(crate) fn pause_after(&self, failures: u32) -> Duration {
        self.most_after(failures).mul_f64(fraction())
    }
}

/// Returns a random number from 0 to 1; the standard library's hashers are seeded at random.
pub(crate) fn fraction() -> f64 {
    let random = RandomState::new().build_hasher().finish();
    f64::from((random >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_random_and_never_above_its_bound() {
        let backoff = Backoff::exponential(Duration::from_secs(1), Duration::from_secs(10));
        let pauses: Vec<_> = (0..50).map(|_| backoff.pause_after(2)).collect();
        assert!(pauses.iter().all(|pause| *pause <= Duration::from_secs(2)));
        assert!(pauses.iter().any(|pause| *pause != pauses[0]));
        assert_eq!(Backoff::none().pause_after(3), Duration::ZERO);
    }
}
