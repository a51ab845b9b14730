//! The policy: what is done about a blocker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::views::BlockedPgLock;

/// A rule that decides about a session that has blocked for the grace period.
///
/// Any `Fn(&BlockedPgLock, Duration) -> Decision` is a policy too. It is called at each poll
/// from the end of the grace period on; in a deadlock with the prioritized session, from the
/// start. Its arguments are the row with the blocked lock and
/// the blocker, and the time for which the session has blocked. The type of the first
/// parameter must be written.
///
/// A session receives each kind of signal once per block, which lasts while it blocks one
/// and the same wait.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use diesel_pglock::{BlockedPgLock, Decision, Prioritizer};
///
/// let spare_the_workers = |blocked: &BlockedPgLock, _blocked_for: Duration| {
///     let activity = blocked.blocking_activity.as_ref();
///     match activity.and_then(|activity| activity.application_name.as_deref()) {
///         Some("worker") => Decision::Wait,
///         _ => Decision::Terminate,
///     }
/// };
/// let prioritizer = Prioritizer::new("postgres://localhost/app").policy(spare_the_workers);
/// # let _ = prioritizer;
/// ```
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Policy {
    /// Terminates the session; its transaction is rolled back.
    #[default]
    #[doc(alias = "pg_terminate_backend")]
    Terminate,
    /// Cancels the running statement. A session that is idle in a transaction runs no
    /// statement and keeps its locks.
    #[doc(alias = "pg_cancel_backend")]
    Cancel,
    /// Cancels the statement, and terminates the session if it still blocks after `after`.
    CancelThenTerminate {
        /// The time from the cancel to the termination.
        after: Duration,
    },
    /// Signals no session: only the report names the blockers.
    Observe,
    /// Calls a closure that decides.
    #[doc(hidden)]
    Ask(Rule),
}

/// A closure as a policy.
type Rule = Arc<dyn Fn(&BlockedPgLock, Duration) -> Decision + Send + Sync>;

/// The decision about one session at one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Sends no signal; the policy is asked again at the next poll.
    Wait,
    /// Cancels the running statement of the session.
    Cancel,
    /// Terminates the session.
    Terminate,
}

impl Policy {
    /// Decides about a session. `since_cancel` is the time since it was cancelled, if it was.
    pub(crate) fn decide(
        &self,
        blocked: &BlockedPgLock,
        blocked_for: Duration,
        since_cancel: Option<Duration>,
    ) -> Decision {
        match (self, since_cancel) {
            (Self::Terminate, _) => Decision::Terminate,
            (Self::Cancel, _) | (Self::CancelThenTerminate { .. }, None) => Decision::Cancel,
            (Self::CancelThenTerminate { after }, Some(since)) if since >= *after => {
                Decision::Terminate
            }
            (Self::CancelThenTerminate { .. } | Self::Observe, _) => Decision::Wait,
            (Self::Ask(ask), _) => ask(blocked, blocked_for),
        }
    }
}

impl<F> From<F> for Policy
where
    F: Fn(&BlockedPgLock, Duration) -> Decision + Send + Sync + 'static,
{
    fn from(ask: F) -> Self {
        Self::Ask(Arc::new(ask))
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminate => f.write_str("Terminate"),
            Self::Cancel => f.write_str("Cancel"),
            Self::CancelThenTerminate { after } => write!(f, "CancelThenTerminate({after:?})"),
            Self::Observe => f.write_str("Observe"),
            Self::Ask(_) => f.write_str("Ask(…)"),
        }
    }
}
