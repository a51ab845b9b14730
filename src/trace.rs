//! Events for the feature `tracing`; without it these functions do nothing.

#![cfg_attr(not(feature = "tracing"), allow(unused_variables))]

use std::fmt::Display;
use std::time::Duration;

use crate::PrioritizerEvent;

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

/// What a prioritizer tells.
pub(crate) fn prioritizer(event: &PrioritizerEvent) {
    #[cfg(feature = "tracing")]
    match event {
        PrioritizerEvent::Blocked(blocker) => {
            tracing::info!(pid = blocker.pid, %blocker, "somebody is in the way");
        }
        PrioritizerEvent::Signalled { blocker, signal } => {
            let (kind, outcome) = (signal.kind, &signal.outcome);
            tracing::warn!(pid = signal.pid, %kind, %outcome, %blocker, "signalled a session");
        }
        PrioritizerEvent::WatcherFailed(error) => {
            tracing::warn!(%error, "the watcher failed");
        }
    }
}

/// What a harness tells; the prioritizer's events have been told already.
#[cfg(feature = "migrations")]
pub(crate) fn migration(event: &crate::MigrationEvent) {
    #[cfg(feature = "tracing")]
    match event {
        crate::MigrationEvent::WaitingForRunner => {
            tracing::info!("another runner is at the migrations; waiting for it");
        }
        crate::MigrationEvent::ReadingHistory { attempt } => {
            tracing::info!(
                attempt,
                "the history of migrations is locked; waiting for it"
            );
        }
        crate::MigrationEvent::Running { name, attempt } => {
            tracing::info!(%name, attempt, "running a migration");
        }
        crate::MigrationEvent::Prioritizer(_) => {}
        crate::MigrationEvent::Retrying { name, after, error } => {
            tracing::warn!(%name, ?after, %error, "a migration failed for want of a lock; trying it again");
        }
        crate::MigrationEvent::Warning(warning) => {
            tracing::warn!(%warning, "something went wrong beside the migrations");
        }
        crate::MigrationEvent::Finished(report) => {
            tracing::info!(name = %report.name, succeeded = report.succeeded, %report, "a migration has ended");
        }
    }
}
