//! Guides to read from top to bottom: locks, lock views, and migrations.

/// Guide to acquiring locks: keys, timeouts, pools, poolers and errors.
#[cfg(feature = "postgres")]
#[doc = include_str!("../docs/locks.md")]
pub mod locks {}

/// Guide to the lock views: finding waiters and blockers, and signalling them.
///
/// [`PgLock::query`]: crate::PgLock::query
/// [`BlockedPgLock::query`]: crate::BlockedPgLock::query
/// [`PreparedTransaction::query`]: crate::PreparedTransaction::query
/// [`WaitGraph::load`]: crate::WaitGraph::load
/// [`EpisodeTracker`]: crate::EpisodeTracker
/// [`Episode::attributes`]: crate::Episode::attributes
/// [`SignalOutcome::Unsignallable`]: crate::SignalOutcome::Unsignallable
///
#[doc = include_str!("../docs/reading-locks.md")]
pub mod reading_locks {}

/// Guide to migrations on a busy database, and their cost for other sessions.
///
/// [`PrioritizedHarness`]: crate::PrioritizedHarness
///
#[cfg(all(feature = "migrations", feature = "postgres"))]
#[cfg_attr(
    not(feature = "async"),
    doc = "The examples need the feature `async` too."
)]
#[doc = include_str!("../docs/migrations-without-downtime.md")]
pub mod migrations_without_downtime {}
