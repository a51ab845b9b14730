//! The traits that add the methods of this crate to connections and queries.

#[cfg(feature = "async")]
pub use crate::async_connection::AsyncPgLockConnection;
pub use crate::connection::PgLockConnection;
pub use crate::query_dsl::BlockedPgLockDsl;
pub use crate::query_dsl::PgLockDsl;
