//! Pages to read from top to bottom.

/// How to take locks: keys, ways to wait, pools, poolers, errors.
#[cfg(feature = "postgres")]
#[doc = include_str!("../docs/locks.md")]
pub mod locks {}

/// How to find out what waits, for whom, and what to do about it.
///
/// [`PgLock::query`]: crate::PgLock::query
/// [`BlockedPgLock::query`]: crate::BlockedPgLock::query
/// [`PreparedTransaction::query`]: crate::PreparedTransaction::query
/// [`WaitGraph::load`]: crate::WaitGraph::load
///
#[doc = include_str!("../docs/reading-locks.md")]
pub mod reading_locks {}

/// How to get migrations through on a busy database, and what it costs whom.
///
/// [`PrioritizedHarness`]: crate::PrioritizedHarness
///
#[cfg(all(feature = "migrations", feature = "postgres"))]
#[cfg_attr(
    not(feature = "async"),
    doc = "The examples want the feature `async` too."
)]
#[doc = include_str!("../docs/migrations-without-downtime.md")]
pub mod migrations_without_downtime {}
