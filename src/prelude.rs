//! The traits that put the crate's methods on connections and queries.

#[cfg(feature = "async")]
pub use crate::async_connection::AsyncPgLockConnection;
pub use crate::blocked_pg_lock_dsl::BlockedPgLockDsl;
pub use crate::connection::PgLockConnection;
pub use crate::pg_lock_dsl::PgLockDsl;
