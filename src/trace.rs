//! Events for the feature `tracing`; without the feature these functions do nothing.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use std::fmt::Display;
use std::time::Duration;

/// Wraps a function so that its events on another thread reach this thread's subscriber and span.
pub(crate) fn in_this_context<T>(f: impl FnOnce() -> T + Send) -> impl FnOnce() -> T + Send {
    #[cfg(feature = "tracing")]
    let f = {
        let dispatch = tracing::dispatcher::get_default(Clone::clone);
        let span = tracing::Span::current();
        move || tracing::dispatcher::with_default(&dispatch, || span.in_scope(f))
    };
    f
}

/// Reports that the session starts to wait for a lock.
pub(crate) fn waiting(lock: &impl Display) {
    #[cfg(feature = "tracing")]
    tracing::debug!(%lock, "waiting for a lock");
}

/// Reports that a monitored lock was lost while its closure ran.
pub(crate) fn lost(lock: &impl Display) {
    #[cfg(feature = "tracing")]
    tracing::warn!(%lock, "lost a lock");
}

/// Reports that a watcher did not stop in time at the end of its run.
pub(crate) fn left_behind(reason: &str) {
    #[cfg(feature = "tracing")]
    tracing::warn!(reason, "left the watcher of a prioritized run behind");
}

/// Reports the outcome of a request for a lock, and the duration of its wait.
pub(crate) fn locked(lock: &impl Display, acquired: bool, waited: Duration) {
    #[cfg(feature = "tracing")]
    tracing::debug!(%lock, acquired, ?waited, "asked for a lock");
}
