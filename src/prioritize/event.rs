use super::report::Blocker;
use crate::signal::Signal;

/// What a [`Prioritizer`](crate::Prioritizer) tells while it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PrioritizerEvent {
    /// A session was found in the way, for the first time in this run.
    Blocked(Blocker),
    /// Somebody was sent a signal, or was to be sent one.
    #[non_exhaustive]
    Signalled {
        /// Who it is.
        blocker: Blocker,
        /// What was sent, and what came of it.
        signal: Signal,
    },
    /// The watcher lost its connection or could not look; it tries again.
    WatcherFailed(String),
}

impl PrioritizerEvent {
    /// Emits the event to the subscriber of `tracing`.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn trace(&self) {
        #[cfg(feature = "tracing")]
        match self {
            Self::Blocked(blocker) => {
                tracing::info!(pid = blocker.pid, %blocker, "somebody is in the way");
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
