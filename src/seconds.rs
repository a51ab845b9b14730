//! Durations as JSON has them: seconds, as a number with a fraction.

use chrono::TimeDelta;
use serde::{Serialize, Serializer};

/// Serializes a duration in seconds.
pub fn of<S: Serializer>(duration: &TimeDelta, to: S) -> Result<S::Ok, S::Error> {
    duration.as_seconds_f64().serialize(to)
}

/// Serializes a duration of the standard library in seconds.
pub fn of_std<S: Serializer>(duration: &std::time::Duration, to: S) -> Result<S::Ok, S::Error> {
    duration.as_secs_f64().serialize(to)
}

/// Serializes a duration in seconds, or nothing.
#[allow(clippy::ref_option)] // that is how serde calls it
pub fn serialize<S: Serializer>(duration: &Option<TimeDelta>, to: S) -> Result<S::Ok, S::Error> {
    duration.map(|it| it.as_seconds_f64()).serialize(to)
}
