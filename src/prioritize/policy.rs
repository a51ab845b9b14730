use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::views::BlockedPgLock;

/// What a [`Prioritizer`](crate::Prioritizer) does about a session that has been
/// in the way for the grace period.
///
/// Any `Fn(&BlockedPgLock, Duration) -> Decision` is a policy too. It is asked at
/// each look from the grace period on, with the row that shows whom the session
/// blocks and how, and with how long it has been in the way. The type of its first
/// parameter has to be written.
///
/// A session gets each kind of signal once in a block, that is, for as long as it stays in
/// the way of one and the same wait.
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
    /// Ends the session; its transaction is rolled back.
    #[default]
    #[doc(alias = "pg_terminate_backend")]
    Terminate,
    /// Cancels the running statement. A session that is idle in its transaction
    /// runs none, and keeps its locks.
    #[doc(alias = "pg_cancel_backend")]
    Cancel,
    /// Cancels, and terminates what is still in the way after `after`.
    CancelThenTerminate {
        /// How long the session may take to give way once it was cancelled.
        after: Duration,
    },
    /// Only looks: the report tells who was in the way.
    Observe,
    /// What a closure decides.
    #[doc(hidden)]
    Ask(Ask),
}

type Ask = Arc<dyn Fn(&BlockedPgLock, Duration) -> Decision + Send + Sync>;

/// What to do about one session now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decision {
    /// Leave it alone, and ask again at the next look.
    Wait,
    /// Cancel its running statement.
    Cancel,
    /// End it.
    Terminate,
}

impl Policy {
    /// `since_cancel`: how long ago the session was cancelled, if it was.
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
