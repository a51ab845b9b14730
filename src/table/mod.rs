//! Table locks, which end with their transaction.

mod acquire;
#[cfg(feature = "async")]
mod async_lock;
mod holders;
mod lock;
mod statement;

#[cfg(feature = "async")]
pub use async_lock::AsyncTableLock;
#[cfg(feature = "cli")]
pub use holders::table_lock_conflicts;
pub use lock::TableLock;
