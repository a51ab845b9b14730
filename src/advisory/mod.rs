//! Advisory locks: acquired, held while a closure runs or by a guard, and released.

pub(crate) mod acquire;
#[cfg(feature = "async")]
mod async_lock;
#[cfg(feature = "async")]
mod async_monitored_closure;
#[cfg(feature = "async")]
mod async_monitored_lock;
#[cfg(feature = "async")]
mod async_owned_guard;
#[cfg(feature = "async")]
mod async_owned_lock;
#[cfg(feature = "async")]
mod async_xact_lock;
mod fencing_token;
mod guard;
mod held;
mod hold;
mod holders;
mod lock;
mod lock_watch;
mod monitor;
mod monitor_thread;
mod monitored_lock;
mod owned_guard;
mod owned_lock;
mod statement;
mod xact_lock;

#[cfg(all(test, feature = "postgres"))]
mod lock_watch_tests;

#[cfg(feature = "async")]
pub use async_lock::AsyncAdvisoryLock;
#[cfg(feature = "async")]
pub use async_monitored_closure::{AsyncFunc2, AsyncMonitoredClosure};
#[cfg(feature = "async")]
pub use async_monitored_lock::AsyncMonitoredLock;
#[cfg(feature = "async")]
pub use async_owned_guard::AsyncOwnedAdvisoryGuard;
#[cfg(feature = "async")]
pub use async_owned_lock::AsyncOwnedAdvisoryLock;
#[cfg(feature = "async")]
pub use async_xact_lock::AsyncAdvisoryXactLock;
pub use fencing_token::FencingToken;
pub use guard::AdvisoryGuard;
pub use held::Held;
#[cfg(feature = "migrations")]
pub(crate) use hold::AdvisoryHold;
pub use lock::AdvisoryLock;
pub use monitor::LockMonitor;
pub use monitored_lock::MonitoredLock;
pub use owned_guard::OwnedAdvisoryGuard;
pub use owned_lock::OwnedAdvisoryLock;
#[cfg(feature = "migrations")]
pub(crate) use statement::AdvisoryTarget;
pub use xact_lock::AdvisoryXactLock;
