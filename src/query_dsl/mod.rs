//! Filters and actions on queries of the lock views.
//!
//! A filter returns a Diesel query again; an action sends signals.

mod blocked_pg_lock_dsl;
pub mod helper_types;
mod pg_lock_dsl;

pub use blocked_pg_lock_dsl::BlockedPgLockDsl;
pub use pg_lock_dsl::PgLockDsl;
