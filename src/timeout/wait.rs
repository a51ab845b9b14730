//! The limit of a wait, as `lock_timeout` counts it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// The option of a builder that limits the wait.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum WaitOption {
    /// The default: `acquire` waits, `try_acquire` does not.
    #[default]
    Default,
    /// Not at all.
    NoWait,
    /// At most so long, for the whole call.
    Timeout(Duration),
}

/// The limit of one call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitLimit {
    /// Not at all.
    NoWait,
    /// As long as the session's own `lock_timeout` allows.
    SessionTimeout,
    /// Until the whole call has taken so long.
    Deadline(Deadline),
}

impl WaitLimit {
    /// Returns the time that is left until the deadline, if there is one.
    pub(crate) fn remaining(self) -> Option<Duration> {
        match self {
            Self::Deadline(deadline) => Some(deadline.0.saturating_duration_since(Instant::now())),
            Self::NoWait | Self::SessionTimeout => None,
        }
    }
}

impl WaitOption {
    /// Returns the limit of `acquire` and `run`.
    pub(crate) fn for_acquire(self) -> Result<WaitLimit> {
        self.or(WaitLimit::SessionTimeout)
    }

    /// Returns the time that a call which began at `started` has waited.
    ///
    /// A call that does not wait has waited for no time, however long the server took to refuse.
    pub(crate) fn since(self, started: Instant) -> Duration {
        match self {
            Self::NoWait => Duration::ZERO,
            Self::Default | Self::Timeout(_) => started.elapsed(),
        }
    }

    /// Returns the limit of `try_acquire` and `try_run`.
    pub(crate) fn for_try(self) -> Result<WaitLimit> {
        self.or(WaitLimit::NoWait)
    }

    fn or(self, default: WaitLimit) -> Result<WaitLimit> {
        Ok(match self {
            Self::Default => default,
            Self::NoWait => WaitLimit::NoWait,
            Self::Timeout(timeout) => WaitLimit::Deadline(Deadline::after(timeout)?),
        })
    }
}

/// A point in time that a call has to be back by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    fn after(timeout: Duration) -> Result<Self> {
        let timeout = Duration::from_millis(u64::from(millis(timeout)?));
        Ok(Self(Instant::now() + timeout))
    }

    /// Returns the remaining time in whole milliseconds, at least 1: 0 would mean no limit.
    pub(crate) fn remaining_millis(self) -> u32 {
        let left = self.0.saturating_duration_since(Instant::now());
        u32::try_from(left.as_micros().div_ceil(1000)).map_or(u32::MAX, |left| left.max(1))
    }
}

/// The timeout in milliseconds, rounded up.
///
/// PostgreSQL reads 0 as "no limit" and holds the value in an `int`.
pub(crate) fn millis(timeout: Duration) -> Result<u32> {
    let millis = timeout.as_nanos().div_ceil(1_000_000);
    match u32::try_from(millis) {
        Ok(millis) if timeout >= Duration::from_millis(1) && millis <= i32::MAX as u32 => {
            Ok(millis)
        }
        _ => Err(Error::InvalidTimeout(timeout)),
    }
}

/// Returns a random duration between half of `average` and one and a half times it.
pub(crate) fn jitter(average: Duration) -> Duration {
    // The hashers of the standard library have random seeds.
    let random = RandomState::new().build_hasher().finish();
    let fraction = f64::from((random >> 32) as u32) / f64::from(u32::MAX);
    average.mul_f64(0.5 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_a_range() {
        let most = Duration::from_millis(i32::MAX as u64);
        assert_eq!(millis(Duration::from_millis(1)).unwrap(), 1);
        assert_eq!(millis(Duration::from_micros(1500)).unwrap(), 2);
        assert_eq!(millis(most).unwrap(), i32::MAX as u32);
        for refused in [
            Duration::ZERO,
            Duration::from_micros(999),
            most + Duration::from_nanos(1),
            Duration::MAX,
        ] {
            assert!(matches!(millis(refused), Err(Error::InvalidTimeout(d)) if d == refused));
        }
    }

    #[test]
    fn a_call_that_does_not_wait_has_not_waited() {
        let started = Instant::now() - Duration::from_secs(1);
        assert_eq!(WaitOption::NoWait.since(started), Duration::ZERO);
        assert!(WaitOption::Default.since(started) >= Duration::from_secs(1));
    }

    #[test]
    fn a_deadline_that_has_passed_leaves_the_least_timeout() {
        assert_eq!(Deadline(Instant::now()).remaining_millis(), 1);
    }
}
