//! The builder of a prioritized run.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::event::PrioritizerEvent;
use super::policy::Policy;
use super::report::PrioritizerReport;
use super::run_state::RunState;
use super::settings::{MIN_INTERVAL, Settings, Victims};
use crate::views::PgActivity;

/// Cancels or terminates the sessions that block the code that it [prioritizes][run].
///
/// While that code runs, a watcher on a connection of its own polls whether the code waits
/// for a lock of any kind. A session that has blocked one wait for the
/// [grace period](Self::grace) is terminated, or as the [policy](Policy) decides. The watcher
/// has stopped before the run returns.
///
/// Some sessions are always spared, see [`Protection`](crate::Protection). Other
/// prioritized sessions are among them: each watcher marks its own by a shared advisory lock
/// on the pair of −670405408 and the session's pid.
///
/// The server finds blockers with [`pg_blocking_pids`][pg].
///
/// A prioritizer is cheap to clone, and one serves many runs.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (mut conn, mut other) = (connection(), connection());
/// use std::time::Duration;
///
/// use diesel::connection::SimpleConnection;
/// use diesel_pglock::{Prioritizer, prelude::*};
///
/// // A session left a transaction open …
/// other.batch_execute("BEGIN; UPDATE users SET name = 'x'")?;
///
/// // … and is terminated after it has blocked for 100 ms.
/// let prioritizer = Prioritizer::new(database_url()).grace(Duration::from_millis(100));
/// conn.prioritize(&prioritizer, |conn| {
///     conn.batch_execute("ALTER TABLE users ADD COLUMN age int")
/// })?;
/// assert_eq!(prioritizer.report().victims().count(), 1);
/// # Ok(())
/// # }
/// ```
///
/// [run]: crate::PgLockConnection::prioritize
/// [pg]: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION
#[must_use]
pub struct Prioritizer<S> {
    source: Arc<S>,
    settings: Settings,
    /// The state of the last run of this prioritizer or a clone of it.
    run: Arc<Mutex<Arc<RunState>>>,
}

impl<S> Prioritizer<S> {
    /// Creates a prioritizer whose watcher connects through `source`: a database URL, a pool,
    /// or a closure that connects.
    ///
    /// See [`WatcherSource`](crate::WatcherSource) for sync runs, and
    /// `AsyncWatcherSource` (feature `async`) for async runs.
    pub fn new(source: S) -> Self {
        Self {
            source: Arc::new(source),
            settings: Settings::default(),
            run: Arc::default(),
        }
    }

    /// Sets the time between two polls (default: 100 ms). Values below 1 ms are raised to 1 ms.
    ///
    /// The first poll follows after one interval at the latest. A further one follows when a
    /// grace period ends. After a failed poll the time doubles up to 5 s, or stays at the
    /// interval if that is longer. After a successful one it is the interval again.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval.max(MIN_INTERVAL);
        self
    }

    /// Sets the time for which one block may last before its session is signalled
    /// (default: 1 s).
    ///
    /// A block is one session that blocks one wait of the prioritized session. The next wait
    /// is another block with a grace period of its own. So sessions that often block for a
    /// moment are not signalled. The transactions of the other session do not matter, since a
    /// lock may outlive them. PostgreSQL 13 does not show the start of a wait: there a new
    /// transaction on either side starts another block.
    ///
    /// There is no grace period in a deadlock, when a blocker waits for the prioritized session
    /// in its turn. The server would end one of the two after its
    /// [`deadlock_timeout`][deadlock] (default: 1 s). The watcher signals the blocker as soon
    /// as a poll finds the deadlock and a second read confirms it.
    ///
    /// [deadlock]: https://www.postgresql.org/docs/current/runtime-config-locks.html#GUC-DEADLOCK-TIMEOUT
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// Sets the policy: a [`Policy`], or a closure that decides (default:
    /// [`Policy::Terminate`]).
    pub fn policy(mut self, policy: impl Into<Policy>) -> Self {
        self.settings.policy = policy.into();
        self
    }

    /// Decides and reports, and sends no signal (default: signals are sent).
    ///
    /// The decisions are those of a run that signals: with its grace period, its policy, its
    /// limits, and the privileges of its role. A signal that would be sent has the outcome
    /// [`SignalOutcome::Observed`](crate::SignalOutcome::Observed). The code waits for its
    /// locks as if there were no prioritizer.
    pub fn observe(mut self) -> Self {
        self.settings.observe = true;
        self
    }

    /// Spares the sessions that a closure selects, in addition to those that are
    /// [always spared](crate::Protection).
    ///
    /// The report lists them as blockers with the reason
    /// [`Protection::Chosen`](crate::Protection::Chosen). Further calls spare further sessions.
    /// The closure sees each blocker at most once per poll; if it panics, the watcher signals no
    /// further session.
    ///
    /// # Examples
    ///
    /// ```
    /// use diesel_pglock::Prioritizer;
    ///
    /// let prioritizer = Prioritizer::new("postgres://localhost/app")
    ///     .spare(|activity| activity.user.as_deref() == Some("billing"));
    /// # let _ = prioritizer;
    /// ```
    pub fn spare(
        mut self,
        is_spared: impl Fn(&PgActivity) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.settings.spare.push(Arc::new(is_spared));
        self
    }

    /// Sets whether the sessions of `pg_dump` are spared (default: `true`).
    ///
    /// They are known by their application name.
    pub fn spare_pg_dump(mut self, is_spared: bool) -> Self {
        self.settings.spares_pg_dump = is_spared;
        self
    }

    /// Sets the blockers that are signalled (default: [`Victims::Roots`]).
    pub fn victims(mut self, victims: Victims) -> Self {
        self.settings.victims = victims;
        self
    }

    /// Signals at one poll only (default: at each poll).
    ///
    /// It is the first one at which a session has blocked for the grace period. Sessions that
    /// block later are not signalled.
    pub fn once(mut self) -> Self {
        self.settings.once = true;
        self
    }

    /// Limits the number of sessions that are signalled in a run (default: no limit).
    pub fn max_victims(mut self, most: usize) -> Self {
        self.settings.max_victims = Some(most);
        self
    }

    /// Runs the code under this `lock_timeout` (default: the setting of the session).
    ///
    /// The range is 1 ms to `i32::MAX` ms; the run refuses other values with
    /// [`Error::InvalidTimeout`](crate::Error::InvalidTimeout).
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = Some(timeout);
        self
    }

    /// Returns the same prioritizer, with another source.
    #[cfg(all(feature = "async", feature = "migrations"))]
    pub(crate) fn with_source<T>(&self, source: T) -> Prioritizer<T> {
        Prioritizer {
            source: Arc::new(source),
            settings: self.settings.clone(),
            run: Arc::clone(&self.run),
        }
    }

    #[cfg(feature = "migrations")]
    pub(crate) fn without_lock_timeout(mut self) -> Self {
        self.settings.lock_timeout = None;
        self
    }

    /// Records each signal in the table `pglock.signal_log` (default: `false`).
    ///
    /// The crate's own migrations create the table (`diesel_pglock::MIGRATIONS`, feature
    /// `migrations`). Without it a run fails with
    /// [`Error::NoSignalLog`](crate::Error::NoSignalLog) before its code runs.
    pub fn audit(mut self, audit: bool) -> Self {
        self.settings.audit = audit;
        self
    }

    /// Calls `on_event` when a blocker is found, when a signal is sent, and when the watcher
    /// fails (default: no handler).
    ///
    /// The watcher calls it and waits for it, so it should be short. A handler that panics is
    /// not called any more; the run continues.
    pub fn on_event(
        mut self,
        on_event: impl Fn(&PrioritizerEvent) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_event = Some(Arc::new(on_event));
        self
    }

    /// Returns the report of the last run of this prioritizer or a clone of it.
    ///
    /// While a run goes on, it is the report so far. It is empty before the first run. A run
    /// whose future is dropped leaves the report of its last poll.
    pub fn report(&self) -> PrioritizerReport {
        self.last_run().report()
    }

    /// Starts a run with a report of its own.
    pub(crate) fn start_run(&self) -> Arc<RunState> {
        let run = Arc::<RunState>::default();
        self.last_run().clone_from(&run);
        run
    }

    fn last_run(&self) -> MutexGuard<'_, Arc<RunState>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn source(&self) -> &Arc<S> {
        &self.source
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Clones the settings. Clones share the report and the source, which need not be `Clone`.
impl<S> Clone for Prioritizer<S> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            settings: self.settings.clone(),
            run: Arc::clone(&self.run),
        }
    }
}

/// Formats the settings without the source, which may contain a password.
impl<S> fmt::Debug for Prioritizer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prioritizer")
            .field("interval", &self.settings.interval)
            .field("grace", &self.settings.grace)
            .field("policy", &self.settings.policy)
            .field("victims", &self.settings.victims)
            .finish_non_exhaustive()
    }
}
