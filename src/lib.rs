//! PostgreSQL lock management for Diesel.

mod advisory_key;
mod table_lock_mode;

pub use advisory_key::AdvisoryKey;
pub use table_lock_mode::{ParseTableLockModeError, TableLockMode};
