//! The events of a run.

use super::report::Blocker;
use crate::signal::Signal;

/// An event of a [`Prioritizer`](crate::Prioritizer) while its code runs.
///
/// Events arrive in the order in which they happen, on the watcher's thread. In an async run
/// they arrive on the task of the run.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PrioritizerEvent {
    /// A blocker was found for the first time in this run.
    Blocked(Blocker),
    /// A session was signalled, or could not be signalled.
    #[non_exhaustive]
    Signalled {
        /// The session, with its present block.
        blocker: Blocker,
        /// The signal and its outcome.
        signal: Signal,
    },
    /// The watcher lost its connection or could not poll. It tries again, after a longer time
    /// each time, see [`Prioritizer::interval`](crate::Prioritizer::interval).
    WatcherFailed(String),
}

impl PrioritizerEvent {
    /// Emits the event to the subscriber of `tracing`.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn trace(&self) {
        #[cfg(feature = "tracing")]
        match self {
            Self::Blocked(blocker) => {
                let gid = blocker.prepared.as_ref().map(|it| it.gid.as_str());
                tracing::info!(pid = blocker.pid, gid, %blocker, "a session blocks the run");
            }
            Self::Signalled { blocker, signal } => {
                let (kind, outcome) = (signal.kind, &signal.outcome);
                tracing::warn!(pid = signal.pid, %kind, %outcome, %blocker, "signalled a session");
            }
            Self::WatcherFailed(error) => {
                tracing::warn!(%error, "the watcher failed");
            }
        }
    }
}
