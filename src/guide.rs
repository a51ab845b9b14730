//! Pages to read from top to bottom.

/// How to find out what waits, for whom, and what to do about it.
///
/// [`PgLock::query`]: crate::PgLock::query
/// [`BlockedPgLock::query`]: crate::BlockedPgLock::query
/// [`PreparedTransaction::query`]: crate::PreparedTransaction::query
/// [`WaitGraph::load`]: crate::WaitGraph::load
///
#[doc = include_str!("../docs/reading-locks.md")]
pub mod reading_locks {}
