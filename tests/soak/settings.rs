//! The settings of a soak, from the variables that `cargo xtask soak` sets.

use std::time::Duration;

use crate::support;

/// Returns the duration of a soak: so many seconds, or those of `cargo xtask soak`.
pub fn duration(default_seconds: u64) -> Duration {
    Duration::from_secs(variable("PGLOCK_SOAK_SECONDS", default_seconds))
}

/// Returns the number of calls of each kind.
pub fn count(default: u64) -> u64 {
    variable("PGLOCK_SOAK_COUNT", default)
}

/// Returns the seed of the random numbers; it is printed, for it repeats the steps.
pub fn seed() -> u64 {
    let seed = support::seed("PGLOCK_SOAK_SEED");
    super::journal::print(&format!("seed {seed}"));
    seed
}

/// Returns the number in a variable.
fn variable(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(value) => value.parse().expect(name),
        Err(_) => default,
    }
}
