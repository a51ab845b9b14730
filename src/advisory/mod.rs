//! Advisory locks: acquired, held while a closure runs or by a guard, and released.

pub(crate) mod acquire;
#[cfg(feature = "async")]
mod async_lock;
#[cfg(feature = "async")]
mod async_xact_lock;
mod guard;
mod hold;
mod holders;
mod lock;
mod statement;
mod xact_lock;

#[cfg(feature = "async")]
pub use async_lock::AsyncAdvisoryLock;
#[cfg(feature = "async")]
pub use async_xact_lock::AsyncAdvisoryXactLock;
pub use guard::AdvisoryGuard;
#[cfg(feature = "migrations")]
pub(crate) use hold::{AdvisoryHold, might_hold};
pub use lock::AdvisoryLock;
#[cfg(feature = "migrations")]
pub(crate) use statement::AdvisoryTarget;
pub use xact_lock::AdvisoryXactLock;
