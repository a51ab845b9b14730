//! PostgreSQL lock management for [Diesel](https://diesel.rs): take locks, look at
//! them, and get through those of others.
//!
//! | you want | look at |
//! |---|---|
//! | a job that does not overlap with itself | [`advisory`](PgLockConnection::advisory) |
//! | a table to yourself for a moment | [`lock_table`](PgLockConnection::lock_table) |
//! | a statement that does not wait for ever | [`with_lock_timeout`](PgLockConnection::with_lock_timeout) |
//! | a migration that gets through, once | `PrioritizedHarness` |
//! | any code that gets through | [`prioritize`](PgLockConnection::prioritize) |
//! | to know who blocks whom | [`WaitGraph`], [`PgLock`], [`BlockedPgLock`], and the [`guide`] |
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
//! Who waits for whom:
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
//! * `async`: the async front end; without `postgres` there is no libpq in the tree.
//! * `migrations`: `PrioritizedHarness` and `MIGRATIONS`.
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

mod action;
mod advisory_flow;
mod advisory_guard;
mod advisory_hold;
mod advisory_holders;
mod advisory_key;
mod advisory_lock;
mod advisory_statement;
mod advisory_xact_lock;
#[cfg(feature = "async")]
mod async_advisory_lock;
#[cfg(feature = "async")]
mod async_advisory_xact_lock;
#[cfg(feature = "async")]
mod async_connection;
#[cfg(feature = "async")]
mod async_driver;
#[cfg(feature = "async")]
mod async_lock_request;
#[cfg(feature = "async")]
mod async_scope;
#[cfg(feature = "async")]
mod async_table_lock;
#[cfg(feature = "async")]
mod async_watcher;
#[cfg(feature = "async")]
mod async_watcher_source;
#[cfg(feature = "migrations")]
mod attempt_extent;
mod backend_state;
#[cfg(feature = "migrations")]
mod backoff;
mod beside_locks;
mod block;
mod blocked_pg_lock;
mod blocked_pg_lock_dsl;
pub mod blocking;
mod connection;
#[cfg(any(feature = "postgres", feature = "async"))]
mod conninfo;
mod context;
mod do_block;
mod driver;
pub mod dsl;
#[cfg(feature = "migrations")]
mod embedded;
mod end_on_drop;
mod error;
pub mod expression;
mod fmt;
pub mod guide;
mod held_by;
mod identity;
mod lock_block;
mod lock_mode;
mod lock_options;
mod lock_query;
mod lock_request;
mod lock_target;
mod lock_timeout;
mod lock_type;
mod lockable_table;
mod mark;
#[cfg(feature = "migrations")]
mod migration_event;
#[cfg(feature = "migrations")]
mod migration_report;
#[cfg(feature = "migrations")]
mod migration_run;
mod pg_activity;
mod pg_lock;
mod pg_lock_dsl;
mod policy;
mod predicate;
pub mod prelude;
mod prepared_transaction;
mod presence;
#[cfg(feature = "migrations")]
mod prioritized_harness;
mod prioritizer;
mod prioritizer_event;
mod prioritizer_report;
mod protection;
mod relation_kind;
mod relation_oid;
#[cfg(feature = "migrations")]
mod runners_lock;
mod scope;
#[cfg(any(feature = "postgres", feature = "async"))]
mod secret;
mod signal;
mod signal_log;
mod signal_plan;
mod signal_statement;
mod sql_value;
mod statement;
mod sync_driver;
mod table_flow;
mod table_holders;
mod table_lock;
mod table_lock_mode;
mod table_statement;
mod text_enum;
mod timeout;
mod trace;
#[cfg(feature = "migrations")]
mod uncached;
mod wait_chain;
mod wait_diagram;
mod wait_edges;
mod wait_graph;
mod wait_graph_query;
mod wait_node;
mod wait_tree;
#[cfg(feature = "migrations")]
mod want_of_lock;
mod watch;
mod watch_statement;
mod watcher;
mod watcher_source;

pub use action::Session;
pub use advisory_guard::AdvisoryGuard;
pub use advisory_key::AdvisoryKey;
pub use advisory_lock::AdvisoryLock;
pub use advisory_xact_lock::AdvisoryXactLock;
#[cfg(feature = "async")]
pub use async_advisory_lock::AsyncAdvisoryLock;
#[cfg(feature = "async")]
pub use async_advisory_xact_lock::AsyncAdvisoryXactLock;
#[cfg(feature = "async")]
pub use async_connection::AsyncPgLockConnection;
#[cfg(feature = "async")]
pub use async_scope::{AsyncClosure, AsyncFunc};
#[cfg(feature = "async")]
pub use async_table_lock::AsyncTableLock;
#[cfg(feature = "async")]
pub use async_watcher_source::AsyncWatcherSource;
pub use backend_state::BackendState;
#[cfg(feature = "migrations")]
pub use backoff::Backoff;
pub use blocked_pg_lock::{BlockedPgLock, BlockedPgLockQuery, BlockedPgLockTables};
pub use blocked_pg_lock_dsl::BlockedPgLockDsl;
pub use connection::PgLockConnection;
#[cfg(feature = "migrations")]
pub use embedded::MIGRATIONS;
pub use error::{Error, Result};
pub use lock_mode::LockMode;
pub use lock_target::LockTarget;
pub use lock_type::LockType;
pub use lockable_table::LockableTable;
#[cfg(feature = "migrations")]
pub use migration_event::MigrationEvent;
#[cfg(feature = "migrations")]
pub use migration_report::{HarnessReport, MigrationReport, TakenLock};
pub use pg_activity::{BlockingActivityColumns, PgActivity, PgActivityQuery};
pub use pg_lock::{LockedRelation, PgLock, PgLockQuery, PgLockTables};
pub use pg_lock_dsl::PgLockDsl;
pub use policy::Policy::{Cancel, CancelThenTerminate, Observe, Terminate};
pub use policy::{Decision, Policy};
pub use prepared_transaction::{PreparedTransaction, PreparedTransactionQuery};
#[cfg(feature = "migrations")]
pub use prioritized_harness::PrioritizedHarness;
pub use prioritizer::{Prioritizer, Victims};
pub use prioritizer_event::PrioritizerEvent;
pub use prioritizer_report::{Blocker, PrioritizerReport};
pub use protection::Protection;
pub use relation_kind::RelationKind;
pub use signal::{Signal, SignalKind, SignalOutcome};
pub use table_lock::TableLock;
pub use table_lock_mode::{ParseTableLockModeError, TableLockMode};
pub use wait_graph::WaitGraph;
pub use wait_node::{BlockKind, Wait, WaitBlocker, WaitNode};
pub use watcher_source::WatcherSource;

/// What the command shares with the library, and no other program should use.
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod internal {
    pub use crate::conninfo::{pairs, url};
    pub use crate::fmt::{format_duration, with_sources};
    pub use crate::relation_oid::{BEFORE_NAME, BEHIND_NAME};
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
