//! Events for the feature `tracing`; without it these functions do nothing.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use std::fmt::Display;
use std::time::Duration;

/// Lets another thread tell to the subscriber of this one, in the same span.
pub(crate) fn in_this_context<T>(f: impl FnOnce() -> T + Send) -> impl FnOnce() -> T + Send {
    #[cfg(feature = "tracing")]
    let f = {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let span = tracing::Span::current();
        move || tracing::dispatcher::with_default(&dispatch, || span.in_scope(f))
    };
    f
}

/// A lock is not free, and is waited for.
pub(crate) fn waiting(lock: &impl Display) {
    #[cfg(feature = "tracing")]
    tracing::debug!(%lock, "waiting for a lock");
}

/// A lock was asked for, which may have taken a wait.
pub(crate) fn locked(lock: &impl Display, acquired: bool, waited: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(%lock, acquired, ?waited, "asked for a lock");
}
