use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::event::PrioritizerEvent;
use super::policy::Policy;
use super::report::PrioritizerReport;

/// Moves sessions out of the way of the code that it [prioritizes][run].
///
/// While that code runs, a watcher on a connection of its own looks whether it
/// waits for a lock, of whatever kind. A session that has been in the way of one wait for the
/// [grace period](Self::grace) is [terminated, or what the policy says](Policy).
/// The watcher has stopped before the run returns.
///
/// Some sessions are spared whatever the policy says, see [`Protection`](crate::Protection);
/// among them other prioritized sessions. The watcher makes them known to each other by a
/// shared advisory lock on the pair of −670405408 and the session's pid.
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
/// // Somebody left a transaction open …
/// other.batch_execute("BEGIN; UPDATE users SET name = 'x'")?;
///
/// // … and is not waited for longer than 100 ms.
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
#[must_use]
pub struct Prioritizer<S> {
    source: Arc<S>,
    settings: Settings,
    report: Arc<Mutex<PrioritizerReport>>,
}

/// What the watcher goes by.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) interval: Duration,
    pub(crate) grace: Duration,
    pub(crate) policy: Policy,
    pub(crate) victims: Victims,
    pub(crate) once: bool,
    pub(crate) max_victims: Option<usize>,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) audit: bool,
    pub(crate) on_event: Option<OnEvent>,
}

pub(crate) type OnEvent = Arc<dyn Fn(&PrioritizerEvent) + Send + Sync>;

/// Which of the sessions in the way are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Victims {
    /// Those at the root: they block us, or somebody who blocks us, and wait for
    /// nobody. Sessions that merely stand in the queue before us survive.
    #[default]
    Roots,
    /// Whoever blocks us directly, waiting or not.
    All,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            grace: Duration::from_secs(1),
            policy: Policy::default(),
            victims: Victims::default(),
            once: false,
            max_victims: None,
            lock_timeout: None,
            audit: false,
            on_event: None,
        }
    }
}

impl<S> Prioritizer<S> {
    /// Watches over connections from `source`: a database URL, a pool, or a
    /// closure that connects.
    ///
    /// See [`WatcherSource`](crate::WatcherSource) for sync runs.
    pub fn new(source: S) -> Self {
        Self {
            source: Arc::new(source),
            settings: Settings::default(),
            report: Arc::default(),
        }
    }

    /// How often the watcher looks; 100 ms unless said. The first look comes after
    /// one interval at the latest, and one comes when a grace period ends.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval;
        self
    }

    /// How long one block may last before its session is signalled; 1 s unless said.
    ///
    /// A block is one session in the way of one wait of ours. The next wait is another block,
    /// with a grace period of its own, so that sessions which often block for a moment are
    /// left alone. The transactions of the other session do not matter, since a lock may
    /// outlive them; except on PostgreSQL 13, which does not show when a wait began: there a
    /// new transaction on either side begins another block.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.settings.grace = grace;
        self
    }

    /// What is done about a session in the way; [`Policy::Terminate`] unless said.
    pub fn policy(mut self, policy: impl Into<Policy>) -> Self {
        self.settings.policy = policy.into();
        self
    }

    /// Who is moved; [`Victims::Roots`] unless said.
    pub fn victims(mut self, victims: Victims) -> Self {
        self.settings.victims = victims;
        self
    }

    /// Signals at one look only, the first at which somebody has been in the way
    /// for the grace period. Who comes in the way later stays there.
    pub fn once(mut self) -> Self {
        self.settings.once = true;
        self
    }

    /// Signals no more than `most` sessions per run.
    pub fn max_victims(mut self, most: usize) -> Self {
        self.settings.max_victims = Some(most);
        self
    }

    /// Runs the code under this `lock_timeout`, 1 ms to `i32::MAX` ms.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = Some(timeout);
        self
    }

    #[cfg(feature = "migrations")]
    pub(crate) fn for_one_migration(mut self) -> Self {
        self.settings.lock_timeout = None;
        self.report = Arc::default();
        self
    }

    /// Records each signal in the table `pglock.signal_log`, which the crate's own
    /// migrations make (`diesel_pglock::MIGRATIONS`, feature `migrations`).
    ///
    /// Without the table a run is refused before anything happens.
    pub fn audit(mut self, audit: bool) -> Self {
        self.settings.audit = audit;
        self
    }

    /// Calls `on_event` when somebody is found in the way, when a signal is sent,
    /// and when the watcher fails. It is called on the watcher's thread; what it
    /// does holds the watcher up.
    pub fn on_event(
        mut self,
        on_event: impl Fn(&PrioritizerEvent) + Send + Sync + 'static,
    ) -> Self {
        self.settings.on_event = Some(Arc::new(on_event));
        self
    }

    /// What the last run did, of this prioritizer or a clone of it.
    pub fn report(&self) -> PrioritizerReport {
        self.last().clone()
    }

    pub(crate) fn set_report(&self, report: PrioritizerReport) {
        *self.last() = report;
    }

    fn last(&self) -> std::sync::MutexGuard<'_, PrioritizerReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

/// Clones share the source, which need not be `Clone`, and the report.
impl<S> Clone for Prioritizer<S> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            settings: self.settings.clone(),
            report: Arc::clone(&self.report),
        }
    }
}

/// The source may hold a password, and is left out.
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
