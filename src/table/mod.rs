//! Table locks, which end with their transaction.

mod acquire;
#[cfg(feature = "async")]
mod async_lock;
mod holders;
mod lock;
mod statement;

#[cfg(feature = "async")]
pub use async_lock::AsyncTableLock;
pub use lock::TableLock;
