//! The prioritized harness and its options.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::event::MigrationEvent;
use super::history::HistoryPlace;
use super::invalid_index::IndexRepair;
use super::options::MigrationOptions;
use super::report::HarnessReport;
use super::settings::{Settings, WAIT_FOR_INSTANCES};
use crate::prioritize::Prioritizer;
use crate::types::{AdvisoryKey, LockableTable, TableLockMode};

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

    /// Limits how long a statement may wait for a lock; `None`: no limit.
    ///
    /// It applies to the statements of a migration, and to those that read the history.
    /// Range: 1 ms to `i32::MAX` ms. Default: the prioritizer's
    /// [`lock_timeout`](Prioritizer::lock_timeout), or else 5 s. Migrations outside a transaction
    /// have no limit. See PostgreSQL's [`lock_timeout`].
    ///
    /// [`lock_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    pub fn lock_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.options = self.settings.options.lock_timeout(timeout);
        self
    }

    /// Limits the attempts at a migration that fails because of a lock; default: 3, at least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.options = self.settings.options.attempts(attempts);
        self
    }

    /// Limits the duration of each statement of a migration; `None`: no limit.
    ///
    /// Range: 1 ms to `i32::MAX` ms. Default: the session's own. Migrations outside a transaction
    /// keep the session's own. A statement that took too long is not tried again. See PostgreSQL's
    /// [`statement_timeout`].
    ///
    /// [`statement_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-STATEMENT-TIMEOUT
    pub fn statement_timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.options = self.settings.options.statement_timeout(timeout);
        self
    }

    /// Locks a table before the own statements of each migration in a transaction.
    ///
    /// Several tables are locked together or not at all. The migration waits for one of them while
    /// it holds no other, so it does not deadlock with sessions that take them in another order.
    /// If another one is locked, it releases the first, and waits for that. The
    /// [lock timeout](Self::lock_timeout) limits each wait, and the rounds together.
    ///
    /// After a deadlock the next attempts lock first, by themselves, the tables that the migration
    /// was found waiting for.
    pub fn lock_first<T: LockableTable>(mut self, mode: TableLockMode) -> Self {
        self.settings.options = self.settings.options.lock_first::<T>(mode);
        self
    }

    /// Locks tables before the own statements of each migration in a transaction.
    ///
    /// Names are read as in SQL: `table` or `schema.table`, in lower case unless quoted. See
    /// [`lock_first`](Self::lock_first).
    pub fn lock_first_named<N: AsRef<str>>(
        mut self,
        tables: impl IntoIterator<Item = N>,
        mode: TableLockMode,
    ) -> Self {
        self.settings.options = self.settings.options.lock_first_named(tables, mode);
        self
    }

    /// Runs migrations inside the caller's transaction, which must be open.
    ///
    /// Each migration is a savepoint in it, and its locks and the migration lock last until the
    /// transaction ends. An application can so migrate several schemas together, or undo a
    /// migration after a check. After an error the transaction is usable; it has the migrations
    /// before the one that failed.
    ///
    /// A migration must not end the transaction: the lock timeout and the migration lock end with it.
    /// It is tried again after a lock timeout, but not after a deadlock: the locks of the
    /// transaction would meet it again. Migrations with `run_in_transaction = false` run in the
    /// transaction too; a `CONCURRENTLY` fails there.
    ///
    /// Default: migrations open transactions of their own, and an open one is an
    /// [`Error::InTransaction`](crate::Error::InTransaction).
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let mut conn = connection();
    /// use diesel::Connection;
    /// use diesel_migrations::MigrationHarness;
    /// use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
    ///
    /// let migrated = conn.transaction(|conn| -> diesel::migration::Result<usize> {
    ///     let prioritizer = Prioritizer::new(database_url());
    ///     let mut harness = PrioritizedHarness::new(conn, prioritizer).within_transaction();
    ///     Ok(harness.run_pending_migrations(MIGRATIONS)?.len())
    /// })?;
    /// assert!(migrated > 0);
    /// # Ok(())
    /// # }
    /// ```
    pub fn within_transaction(mut self) -> Self {
        self.settings.within_transaction = true;
        self
    }

    /// Repairs the invalid indexes that a migration outside a transaction leaves when it fails.
    ///
    /// After a lock failure the migration is then tried again, as often as [`attempts`](Self::attempts)
    /// says. It should be a single `CREATE INDEX CONCURRENTLY` or `REINDEX CONCURRENTLY`: what
    /// else it did is done again. The repair is prioritized; a drop has the
    /// [lock timeout](Self::lock_timeout), a rebuild has none.
    ///
    /// Default: the indexes stay, and the report and [`Error::InvalidIndexes`](crate::Error) name them.
    pub fn repair_indexes(mut self, repair: IndexRepair) -> Self {
        self.settings.index_repair = Some(repair);
        self
    }

    /// Sets options for the migration with this version, beside those of the harness.
    ///
    /// `version` is the version, with or without dashes, or the name of the migration. A version
    /// that no migration has is reported in a warning.
    pub fn for_migration(
        mut self,
        version: &str,
        options: impl FnOnce(MigrationOptions) -> MigrationOptions,
    ) -> Self {
        self.settings.set_exception(version, options);
        self
    }

    /// Sets the pauses between attempts; default: [`Backoff::default`].
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.settings.backoff = backoff;
        self
    }

    /// Sets the key of the migration lock, the advisory lock by which instances take turns.
    ///
    /// Default: a key named after the schema that has, or will have, Diesel's history of
    /// migrations. Tenants with a `search_path` each do not wait for each other.
    pub fn lock_key(mut self, key: impl Into<AdvisoryKey>) -> Self {
        self.lock_key = Some(key.into());
        self
    }

    /// Limits how long to wait for other instances; `None`: no limit; default: 10 minutes.
    ///
    /// After that, runs fail with [`Error::NotAcquired`](crate::Error::NotAcquired), which names
    /// the session of the instance that holds the lock. Meanwhile events report the wait.
    pub fn wait_for_instances(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.wait_limit = timeout.into();
        self
    }

    /// Calls `on_event` with each event, for a progress display.
    ///
    /// Events of the watcher are emitted on the watcher's thread.
    pub fn on_event(mut self, on_event: impl Fn(&MigrationEvent) + Send + Sync + 'static) -> Self {
        self.settings.on_event = Some(Arc::new(on_event));
        self
    }

    /// Returns the report of all runs so far, even if the last one failed.
    pub fn report(&self) -> HarnessReport {
        self.report.clone()
    }
}

/// Shows all but the connection.
impl<C, S> fmt::Debug for PrioritizedHarness<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrioritizedHarness")
            .field("prioritizer", &self.prioritizer)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}
