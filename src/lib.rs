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
mod error;
pub mod expression;
mod lock_mode;
mod lock_type;
mod pg_activity;
mod pg_lock;
mod prepared_transaction;
mod relation_kind;
#[cfg(feature = "serde")]
mod seconds;
mod sql_value;
mod table_lock_mode;
mod text_enum;

pub use advisory_key::AdvisoryKey;
pub use backend_state::BackendState;
pub use blocked_pg_lock::{BlockedPgLock, BlockedPgLockQuery, BlockedPgLockTables};
pub use error::Error;
pub use lock_mode::LockMode;
pub use lock_type::LockType;
pub use pg_activity::{BlockingActivityColumns, PgActivity, PgActivityQuery};
pub use pg_lock::{LockedRelation, PgLock, PgLockQuery, PgLockTables};
pub use prepared_transaction::{PreparedTransaction, PreparedTransactionQuery};
pub use relation_kind::RelationKind;
pub use table_lock_mode::{ParseTableLockModeError, TableLockMode};

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
