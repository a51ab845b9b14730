//! Rows of the lock views, as Diesel queries that can be filtered, joined and counted.
//!
//! Each row type has a function `query`. Expressions and predicates serve its filters.

// First, because macros by example are in scope after their definition only.
#[macro_use]
mod join_macro;

mod activity_columns;
mod activity_context;
mod blocked_pg_lock;
pub mod blocking_table;
pub mod expression;
mod held_by;
mod lock_query;
mod lock_target;
mod nameless;
mod pg_activity;
mod pg_lock;
mod predicate;
mod prepared_transaction;
mod regclass;
mod row_wait;
mod sql_macro;

pub use activity_columns::BlockingActivityColumns;
pub use blocked_pg_lock::{BlockedPgLock, BlockedPgLockQuery, BlockedPgLockTables};
pub(crate) use expression::{InCurrentDatabase, LockedRelationIsHere, WaitDuration};
pub(crate) use held_by::HeldBy;
pub(crate) use lock_query::LockQuery;
pub use lock_target::LockTarget;
pub(crate) use nameless::{NAMELESS_ACTIVITY, NAMELESS_LOCK, NAMELESS_PREPARED, NO_ACTIVITY};
pub use pg_activity::{PgActivity, PgActivityQuery};
pub use pg_lock::{LockedRelation, PgLock, PgLockQuery, PgLockTables};
pub(crate) use predicate::{IsAdvisory, IsOn, IsRoot, own_pid};
pub use prepared_transaction::{PreparedTransaction, PreparedTransactionQuery};
pub use regclass::{REGCLASS_PREFIX, REGCLASS_SUFFIX};
pub(crate) use row_wait::ROW_WAITS;
pub(crate) use sql_macro::{BLOCKERS_OF_REPLAY, CURRENT_DATABASE_OID, optional};
