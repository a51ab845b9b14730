//! The prioritized harness and its options.

use std::fmt;
use std::time::Duration;

use super::harness_options::harness_options;
use super::history::HistoryPlace;
use super::report::HarnessReport;
use super::settings::{Settings, WAIT_FOR_INSTANCES};
use crate::prioritize::Prioritizer;
use crate::types::AdvisoryKey;

/// A [`MigrationHarness`](diesel_migrations::MigrationHarness) that prioritizes migrations, and runs them in one instance at a time.
///
/// It decorates a connection:
///
/// * Instances that start together take turns. A session-level [advisory lock], the migration
///   lock, is held while pending migrations are found and run. Each migration is applied once.
/// * Each migration is [prioritized](Prioritizer): sessions that block it for longer than the
///   grace period are signalled.
/// * Each migration runs under a `lock_timeout`, so that it does not block the application's
///   queries for long. After a lock timeout or a deadlock it is tried again. Behind a blocker that
///   cannot be signalled it waits in the queue once, and then outside of it. A migration that
///   has ended its transaction may have committed a part of itself, and is not tried again.
///
/// The history of migrations is read like a migration is run: prioritized, under the
/// `lock_timeout`, and again after a lock failure. Questions such as
/// [`pending_migrations`](diesel_migrations::MigrationHarness::pending_migrations) signal no session, and write nothing.
///
/// The harness applies what Diesel's own harness applies, with the same history. It keeps to the
/// history that it found first, even if a migration changes the `search_path` or the role.
///
/// Of migrations with one version, the last by name is run, and a warning names the others.
///
/// A migration with `run_in_transaction = false` is prioritized too, but has no
/// `lock_timeout` and one attempt: a `CREATE INDEX CONCURRENTLY` that is cancelled
/// leaves an invalid index behind.
///
/// [advisory lock]: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
///
/// # Errors
///
/// Errors are boxed. [`Error::from`](crate::Error) takes an error of this crate out of its box:
/// [`NotAcquired`](crate::Error::NotAcquired) after
/// [`wait_for_instances`](Self::wait_for_instances),
/// [`InTransaction`](crate::Error::InTransaction) inside a transaction,
/// [`Watcher`](crate::Error::Watcher) without a connection for the watcher,
/// [`NeverSignals`](crate::Error::NeverSignals) if the lock timeouts leave the watcher no time,
/// [`Unsignallable`](crate::Error::Unsignallable) after a wait for a blocker that cannot be signalled, and
/// [`History`](crate::Error::History) if the history cannot be read.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let mut conn = connection();
/// use diesel_migrations::MigrationHarness;
/// use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
///
/// let mut harness = PrioritizedHarness::new(&mut conn, Prioritizer::new(database_url()));
/// harness.run_pending_migrations(MIGRATIONS)?;
/// assert!(harness.report().migrations.iter().all(|it| it.succeeded));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct PrioritizedHarness<'c, C, S> {
    pub(crate) conn: &'c mut C,
    pub(crate) prioritizer: Prioritizer<S>,
    pub(crate) settings: Settings,
    pub(crate) lock_key: Option<AdvisoryKey>,
    pub(crate) wait_limit: Option<Duration>,
    pub(crate) report: HarnessReport,
    /// The history, once it was found.
    pub(crate) history: Option<HistoryPlace>,
}

impl<'c, C, S> PrioritizedHarness<'c, C, S> {
    /// Creates a harness that runs migrations on `conn`, and prioritizes them with `prioritizer`.
    pub fn new(conn: &'c mut C, prioritizer: Prioritizer<S>) -> Self {
        Self {
            conn,
            prioritizer,
            settings: Settings::default(),
            lock_key: None,
            wait_limit: Some(WAIT_FOR_INSTANCES),
            report: HarnessReport::default(),
            history: None,
        }
    }

    /// Returns the report of all runs so far, even if the last one failed.
    pub fn report(&self) -> HarnessReport {
        self.report.clone()
    }
}

harness_options!(PrioritizedHarness<'c, C, S>);

/// Shows all but the connection.
impl<C, S> fmt::Debug for PrioritizedHarness<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrioritizedHarness")
            .field("prioritizer", &self.prioritizer)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
