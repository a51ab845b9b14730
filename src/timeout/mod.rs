//! Limits of waiting: those of a lock request, and timeouts that are set for a scope.
//!
//! [`LockRequest`] is the flow that all kinds of locks share.

#[cfg(feature = "async")]
mod async_lock_request;
mod builder_options;
mod lock_block;
pub(crate) mod lock_request;
pub(crate) mod scoped_timeout;
mod wait;

#[cfg(feature = "async")]
pub(crate) use async_lock_request::{run_in_transaction, try_run_in_transaction};
pub(crate) use builder_options::{advisory_lock_options, lock_options};
pub(crate) use lock_block::{LockBlock, Reply, can_check_client, is_busy, with_client_check};
pub(crate) use lock_request::LockRequest;
pub(crate) use scoped_timeout::TimeoutSetting;
#[cfg(feature = "migrations")]
pub(crate) use wait::millis;
pub(crate) use wait::{WaitLimit, WaitOption, jitter};
