//! The time that a thread computes.

use std::fs;

use crate::Result;

/// Returns the seconds for which this thread has been on a CPU; Linux only.
pub fn cpu_seconds() -> Result<f64> {
    let statistics = fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds = statistics.split(' ').next().unwrap_or_default();
    Ok(nanoseconds.parse::<f64>()? / 1e9)
}
