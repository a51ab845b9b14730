//! PostgreSQL lock management for Diesel.

mod advisory_key;
#[cfg(feature = "async")]
mod async_driver;
mod driver;
mod error;
mod table_lock_mode;

pub use advisory_key::AdvisoryKey;
pub use error::Error;
pub use table_lock_mode::{ParseTableLockModeError, TableLockMode};

/// A result whose error is this crate's.
pub type Result<T, E = Error> = std::result::Result<T, E>;
