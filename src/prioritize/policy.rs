//! The policy: what is done about a blocker.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::views::BlockedPgLock;

/// A rule that decides about a session that has blocked for the grace period.
///
/// Any `Fn(&BlockedPgLock, Duration) -> Decision` is a policy too, see [`Policy::custom`].
///
/// A session receives each kind of signal once per block, which lasts while it blocks one
/// and the same wait.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use diesel_pglock::{Policy, Prioritizer};
///
/// let after = Duration::from_secs(3);
/// let prioritizer = Prioritizer::new("postgres://localhost/app")
///     .policy(Policy::CancelThenTerminate { after });
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
    /// Decides as [`Terminate`](Self::Terminate) does, and sends no signal. See
    /// [`Prioritizer::observe`](crate::Prioritizer::observe).
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
    /// Returns a policy that calls a closure.
    ///
    /// It is called at each poll from the end of the grace period on; in a deadlock with the
    /// prioritized session, from the start. Its arguments are the row with the blocked lock and
    /// the blocker, and the time for which the session has blocked. If it panics, the watcher
    /// signals no further session.
    ///
    /// Names of relations and databases are missing from the lock while a session locks a catalog,
    /// such as `pg_class`.
    ///
    /// A test of the closure makes its rows with [`BlockedPgLock::default`] and sets fields.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use diesel_pglock::{Decision, Policy, Prioritizer};
    ///
    /// let patient = Policy::custom(|blocked, blocked_for| {
    ///     let activity = blocked.blocking_activity.as_ref();
    ///     match activity.and_then(|activity| activity.application_name.as_deref()) {
    ///         Some("report") if blocked_for < Duration::from_secs(30) => Decision::Wait,
    ///         _ => Decision::Terminate,
    ///     }
    /// });
    /// let prioritizer = Prioritizer::new("postgres://localhost/app").policy(patient);
    /// # let _ = prioritizer;
    /// ```
    pub fn custom<F>(decide: F) -> Self
    where
        F: Fn(&BlockedPgLock, Duration) -> Decision + Send + Sync + 'static,
    {
        Self::Ask(Arc::new(decide))
    }

    /// Returns the time from the first signal to the last one.
    #[cfg(feature = "migrations")]
    pub(crate) fn duration(&self) -> Duration {
        match self {
            Self::CancelThenTerminate { after } => *after,
            _ => Duration::ZERO,
        }
    }

    /// Decides about a session. `since_cancel` is the time since it was cancelled, if it was.
    pub(crate) fn decide(
        &self,
        blocked: &BlockedPgLock,
        blocked_for: Duration,
        since_cancel: Option<Duration>,
    ) -> Decision {
        match (self, since_cancel) {
            (Self::Terminate | Self::Observe, _) => Decision::Terminate,
            (Self::Cancel, _) | (Self::CancelThenTerminate { .. }, None) => Decision::Cancel,
            (Self::CancelThenTerminate { after }, Some(since)) if since >= *after => {
                Decision::Terminate
            }
            (Self::CancelThenTerminate { .. }, _) => Decision::Wait,
            (Self::Ask(ask), _) => ask(blocked, blocked_for),
        }
    }
}

impl<F> From<F> for Policy
where
    F: Fn(&BlockedPgLock, Duration) -> Decision + Send + Sync + 'static,
{
    fn from(decide: F) -> Self {
        Self::custom(decide)
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
