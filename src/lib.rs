//! PostgreSQL lock management for Diesel.

#[path = "../schema.rs"]
pub mod schema;

mod advisory_key;
#[cfg(feature = "async")]
mod async_driver;
mod backend_state;
mod blocked_pg_lock;
pub mod blocking;
mod driver;
pub mod dsl;
mod error;
pub mod expression;
mod lock_mode;
mod lock_type;
mod pg_activity;
mod pg_lock;
mod pg_lock_dsl;
mod predicate;
mod prepared_transaction;
mod relation_kind;
#[cfg(feature = "serde")]
mod seconds;
mod signal;
mod signal_plan;
mod sql_value;
mod table_lock_mode;
mod text_enum;

pub use advisory_key::AdvisoryKey;
pub use backend_state::BackendState;
pub use blocked_pg_lock::{BlockedPgLock, BlockedPgLockQuery, BlockedPgLockTables};
pub use driver::Session;
pub use error::Error;
pub use lock_mode::LockMode;
pub use lock_type::LockType;
pub use pg_activity::{BlockingActivityColumns, PgActivity, PgActivityQuery};
pub use pg_lock::{LockedRelation, PgLock, PgLockQuery, PgLockTables};
pub use pg_lock_dsl::{BlockedPgLockDsl, PgLockDsl};
pub use prepared_transaction::{PreparedTransaction, PreparedTransactionQuery};
pub use relation_kind::RelationKind;
pub use signal::{Signal, SignalKind, SignalOutcome};
pub use table_lock_mode::{ParseTableLockModeError, TableLockMode};

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
