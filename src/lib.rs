//! PostgreSQL lock management for [Diesel](https://diesel.rs): acquire locks, read the lock
//! views, and terminate the sessions that block prioritized code.
//!
//! | you want | look at |
//! |---|---|
//! | a job that does not overlap with itself | [`advisory`](PgLockConnection::advisory) |
//! | a leader that notices that its lock is lost | [`LockMonitor`], [`FencingToken`] |
//! | a table to yourself for a moment | [`lock_table`](PgLockConnection::lock_table) |
//! | a statement that does not wait for ever | [`with_lock_timeout`](PgLockConnection::with_lock_timeout) |
//! | a migration that is applied once, in spite of blockers | `PrioritizedHarness` |
//! | any code that runs in spite of blockers | [`prioritize`](PgLockConnection::prioritize) |
//! | a list of waiters and their blockers | [`WaitGraph`], [`PgLock`], [`BlockedPgLock`], and the [`guide`] |
//! | the history of blocking | [`EpisodeTracker`] |
//!
//! `use diesel_pglock::prelude::*;` puts the methods on sync connections, plain,
//! pooled or wrapped, and with the feature `async` on those of diesel-async.
//!
//! # Examples
//!
//! A job that must not overlap with itself:
//!
//! ```
//! # include!("../tests/support/doctest.rs");
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let (mut conn, mut other) = (connection(), connection());
//! use diesel_pglock::prelude::*;
//!
//! let ran = conn.advisory("nightly report").try_run(|_conn| {
//!     let overlapping = other.advisory("nightly report").try_acquire()?;
//!     assert!(overlapping.is_none());
//!     Ok::<_, diesel_pglock::Error>("done")
//! })?;
//! assert_eq!(ran, Some("done"));
//! # Ok(())
//! # }
//! ```
//!
//! The graph of all waits:
//!
//! ```
//! # include!("../tests/support/doctest.rs");
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut conn = connection();
//! use diesel_pglock::WaitGraph;
//!
//! let graph = WaitGraph::load(&mut conn)?;
//! assert_eq!(graph.roots().count(), 0);
//! # Ok(())
//! # }
//! ```
//!
//! # Feature flags
//!
//! * `postgres` (default): watchers over libpq connections, by URL.
//! * `r2d2`, `bb8`, `deadpool`, `mobc`: pools.
//! * `async`: the async front end; without `postgres` it does not need libpq.
//! * `migrations`: `PrioritizedHarness` and `MIGRATIONS`; with `async` also
//!   `AsyncPrioritizedHarness`.
//! * `serde`: `Serialize` for rows, reports and the wait graph.
//! * `tracing`: events for waits, signals and retries.
//! * `bundled`, `bundled_without_openssl`: libpq built from source.
//!
//! # Coming from django-pglock
//!
//! A text names the same advisory lock as there: Python and Rust services can
//! exclude each other. What `side_effect=pglock.Return` does is the `try_` half of
//! each pair of methods. The README has the whole table.
//!
//! # Limits
//!
//! A pooler in transaction mode breaks session locks and session settings. Stay
//! inside a transaction there; what is noticed is an [`Error::SessionChanged`].

#[path = "../schema.rs"]
mod tables;

mod advisory;
#[cfg(feature = "async")]
mod async_connection;
mod connection;
mod error;
mod fmt;
pub mod guide;
#[cfg(feature = "migrations")]
mod migrate;
pub mod prelude;
mod prioritize;
mod query_dsl;
mod session;
mod signal;
mod source;
mod table;
mod timeout;
mod trace;
mod types;
mod views;
mod wait_graph;

pub use advisory::{AdvisoryGuard, AdvisoryLock, AdvisoryXactLock};
#[cfg(feature = "async")]
pub use advisory::{AsyncAdvisoryLock, AsyncAdvisoryXactLock};
#[cfg(feature = "async")]
pub use advisory::{AsyncFunc2, AsyncMonitoredClosure, AsyncMonitoredLock};
#[cfg(feature = "async")]
pub use advisory::{AsyncOwnedAdvisoryGuard, AsyncOwnedAdvisoryLock};
pub use advisory::{FencingToken, Held, LockMonitor, MonitoredLock};
pub use advisory::{OwnedAdvisoryGuard, OwnedAdvisoryLock};
#[cfg(feature = "async")]
pub use async_connection::AsyncPgLockConnection;
pub use connection::PgLockConnection;
pub use error::Error;
pub use error::Result;
#[cfg(all(feature = "async", feature = "migrations"))]
pub use migrate::AsyncPrioritizedHarness;
#[cfg(feature = "migrations")]
pub use migrate::{
    Backoff, HarnessReport, IndexRepair, InstanceWait, InvalidIndex, MIGRATIONS, MigrationEvent,
    MigrationOptions, MigrationPlan, MigrationProgress, MigrationReport, NotPlanned, PlannedIndex,
    PlannedLock, PlannedMigration, PlannedRelation, PlannedStatement, PrioritizedHarness,
    TakenLock,
};
pub use prioritize::{
    Blocker, Cancel, CancelThenTerminate, Decision, DeleteOldSignals, Observe, Policy, Prioritizer,
    PrioritizerEvent, PrioritizerReport, Protection, SignalLog, SignalLogQuery, Terminate, Victims,
};
pub use query_dsl::helper_types as dsl;
pub use query_dsl::{BlockedPgLockDsl, PgLockDsl};
#[cfg(all(feature = "async", feature = "migrations"))]
pub use session::OwnedAsyncConnection;
pub use session::Session;
#[cfg(feature = "async")]
pub use session::{AsyncClosure, AsyncFunc};
pub use signal::{Signal, SignalKind, SignalOutcome};
#[cfg(feature = "async")]
pub use source::AsyncWatcherSource;
pub use source::{Connector, WatcherSource};
#[cfg(feature = "async")]
pub use table::AsyncTableLock;
pub use table::TableLock;
pub use types::{
    AdvisoryKey, BackendState, LockMode, LockType, LockableTable, ParseTableLockModeError,
    RelationKind, TableLockMode,
};
pub use views::{
    BlockedPgLock, BlockedPgLockQuery, BlockedPgLockTables, BlockingActivityColumns, LockTarget,
    LockedRelation, PgActivity, PgActivityQuery, PgLock, PgLockQuery, PgLockTables,
    PreparedTransaction, PreparedTransactionQuery,
};
pub use views::{blocking_table as blocking, expression};
pub use wait_graph::{BlockKind, Wait, WaitBlocker, WaitGraph, WaitNode, WaitTree};
pub use wait_graph::{
    Episode, EpisodeAttributes, EpisodeEvent, EpisodePeak, EpisodeTracker, EpisodeVictim,
};

/// The helpers that the command shares with the library; not for other programs.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal {
    pub use crate::fmt::{
        format_duration, is_bidi_control, single_line, single_line_query, with_sources,
        without_passwords,
    };
    pub use crate::migrate::cluster_wide_statement;
    pub use crate::prioritize::{ManualEntry, ManualLog};
    pub use crate::signal::{SignalTarget, activities_without_names};
    pub use crate::source::{
        redact_conninfo, redact_text, url, with_database, with_defaults, with_settings,
    };
    pub use crate::table::table_lock_conflicts;
    pub use crate::views::{REGCLASS_PREFIX, REGCLASS_SUFFIX};
}

/// The columns of the lock views, for filters, orders and joins.
///
/// These are Diesel `table!`s over PostgreSQL's own views and catalogs. Start from
/// [`PgLock::query`](crate::PgLock::query) or [`BlockedPgLock::query`](crate::BlockedPgLock::query),
/// which join them as they belong together, and refer to the columns from here.
///
/// To join a table of your own, see [`allow_tables_to_appear_beside_locks!`](crate::allow_tables_to_appear_beside_locks).
pub mod schema {
    pub use crate::blocking;
    pub use crate::tables::*;
}

#[cfg(all(
    doctest,
    feature = "postgres",
    feature = "migrations",
    feature = "async"
))]
#[doc = include_str!("../README.md")]
struct Readme;
