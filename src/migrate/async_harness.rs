//! The async prioritized harness and its options.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::async_run::{ThreadHarness, ThreadRun, lock};
use super::harness_options::harness_options;
use super::history::HistoryPlace;
use super::migration_harness::owned;
use super::report::HarnessReport;
use super::settings::{Settings, WAIT_FOR_INSTANCES};
use crate::prioritize::Prioritizer;
use crate::session::OwnedAsyncConnection;
use crate::source::AsyncWatcherSource;
use crate::types::AdvisoryKey;

/// A [`PrioritizedHarness`](crate::PrioritizedHarness) for async connections, without libpq.
///
/// It owns a connection: an `AsyncPgConnection`, or a handle of a bb8, deadpool or mobc pool. It
/// runs migrations as [`PrioritizedHarness`](crate::PrioritizedHarness) does, with the same
/// options, and its methods are those of Diesel's
/// [`MigrationHarness`], awaited. The watcher's
/// connection comes from an [`AsyncWatcherSource`].
///
/// Diesel runs a migration on a sync connection. A run has two threads of its own for it and its
/// watcher, so that no worker of the runtime is blocked, and works on every Tokio runtime with
/// I/O and timers. A migration in Rust gets a sync connection that must stay on its thread; it may
/// block, and may use `Handle::block_on`.
///
/// # Panics
///
/// Methods that send something panic outside of a Tokio runtime, and if a migration panics.
///
/// # Cancel safety
///
/// If the future of a run is dropped, the server cancels the running statement and ends the
/// session, and the migration lock is free. The migration that ran is rolled back if it is a
/// transaction and its commit has not begun; those before it stay applied. The harness has lost its connection; further
/// calls fail. A migration in Rust is not interrupted itself: its next statement fails. Events and
/// the [report](Self::report) follow once the thread has ended.
///
/// The cancel travels without TLS. If a server behind a proxy demands TLS for it, the server ends
/// the statement when it finds the connection closed, within about a second (from PostgreSQL 14 on).
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// use diesel_async::{AsyncConnection, AsyncPgConnection};
/// use diesel_pglock::{AsyncPrioritizedHarness, MIGRATIONS, Prioritizer};
///
/// let conn = AsyncPgConnection::establish(database_url()).await?;
/// let mut harness = AsyncPrioritizedHarness::new(conn, Prioritizer::new(database_url()));
/// harness.run_pending_migrations(MIGRATIONS).await?;
/// assert!(!harness.has_pending_migration(MIGRATIONS).await?);
///
/// let conn = harness.into_inner().expect("no run was dropped");
/// # drop(conn);
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct AsyncPrioritizedHarness<C, S> {
    /// `None` once the future of a run was dropped.
    conn: Option<C>,
    prioritizer: Prioritizer<S>,
    settings: Settings,
    lock_key: Option<AdvisoryKey>,
    wait_limit: Option<Duration>,
    history: Option<HistoryPlace>,
    report: Arc<Mutex<HarnessReport>>,
}

impl<C, S> AsyncPrioritizedHarness<C, S> {
    /// Creates a harness that runs migrations on `conn`, and prioritizes them with `prioritizer`.
    pub fn new(conn: C, prioritizer: Prioritizer<S>) -> Self {
        Self {
            conn: Some(conn),
            prioritizer,
            settings: Settings::default(),
            lock_key: None,
            wait_limit: Some(WAIT_FOR_INSTANCES),
            history: None,
            report: Arc::default(),
        }
    }

    /// Returns the connection; `None` if the future of a run was dropped.
    pub fn into_inner(self) -> Option<C> {
        self.conn
    }

    /// Returns the report of all runs that have ended, even if the last one failed.
    ///
    /// A run whose future was dropped ends with the next statement of its thread.
    pub fn report(&self) -> HarnessReport {
        lock(&self.report).clone()
    }
}

harness_options!(AsyncPrioritizedHarness<C, S>);

/// The methods of a [`MigrationHarness`], awaited.
///
/// A run is on a thread of its own, so sources and migrations must be `Send + 'static`.
impl<C, S> AsyncPrioritizedHarness<C, S>
where
    C: OwnedAsyncConnection,
    S: AsyncWatcherSource<Connection: 'static> + 'static,
{
    async fn run<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut ThreadHarness<'_, C, S>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let run = ThreadRun {
            prioritizer: self.prioritizer.clone(),
            settings: self.settings.clone(),
            lock_key: self.lock_key,
            wait_limit: self.wait_limit,
            history: self.history.clone(),
            report: Arc::clone(&self.report),
        };
        run.run(&mut self.conn, &mut self.history, work).await
    }

    /// Runs all pending migrations, in the order of their versions.
    ///
    /// # Errors
    ///
    /// See [`PrioritizedHarness`](crate::PrioritizedHarness#errors).
    pub async fn run_pending_migrations<M>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'static>>>
    where
        M: MigrationSource<Pg> + Send + 'static,
    {
        self.run(|harness| owned(harness.run_pending_migrations(source)?))
            .await
    }

    /// Runs these migrations, in the order of the list, unless they are applied.
    pub async fn run_migrations(
        &mut self,
        migrations: Vec<Box<dyn Migration<Pg> + Send>>,
    ) -> Result<Vec<MigrationVersion<'static>>> {
        self.run(|harness| {
            let migrations = migrations
                .into_iter()
                .map(|it| it as Box<dyn Migration<Pg>>);
            owned(harness.run_migrations(&migrations.collect::<Vec<_>>())?)
        })
        .await
    }

    /// Runs the first pending migration.
    pub async fn run_next_migration<M>(&mut self, source: M) -> Result<MigrationVersion<'static>>
    where
        M: MigrationSource<Pg> + Send + 'static,
    {
        self.run(|harness| Ok(harness.run_next_migration(source)?.as_owned()))
            .await
    }

    /// Reverts all applied migrations, except [`MIGRATIONS`](crate::MIGRATIONS) if the source lacks them.
    pub async fn revert_all_migrations<M>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'static>>>
    where
        M: MigrationSource<Pg> + Send + 'static,
    {
        self.run(|harness| owned(harness.revert_all_migrations(source)?))
            .await
    }

    /// Reverts the last applied migration.
    pub async fn revert_last_migration<M>(&mut self, source: M) -> Result<MigrationVersion<'static>>
    where
        M: MigrationSource<Pg> + Send + 'static,
    {
        self.run(|harness| harness.revert_last_migration(source))
            .await
    }

    /// Runs a migration, unless it is applied.
    pub async fn run_migration<M>(&mut self, migration: M) -> Result<MigrationVersion<'static>>
    where
        M: Migration<Pg> + Send + 'static,
    {
        self.run(move |harness| harness.run_migration(&migration))
            .await
    }

    /// Reverts a migration, if it is applied.
    pub async fn revert_migration<M>(&mut self, migration: M) -> Result<MigrationVersion<'static>>
    where
        M: Migration<Pg> + Send + 'static,
    {
        self.run(move |harness| harness.revert_migration(&migration))
            .await
    }

    /// Reads the history, and does not create it; the last version comes first.
    pub async fn applied_migrations(&mut self) -> Result<Vec<MigrationVersion<'static>>> {
        self.run(|harness| harness.applied_migrations()).await
    }

    /// Returns the versions that are not applied yet, in their order.
    pub async fn pending_migrations<M>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'static>>>
    where
        M: MigrationSource<Pg> + Send + 'static,
    {
        self.run(|harness| {
            let pending = harness.pending_migrations(source)?;
            let versions = pending.iter().map(|it| it.name().version().as_owned());
            Ok(versions.collect())
        })
        .await
    }

    /// Returns true if a migration is not applied yet.
    pub async fn has_pending_migration<M>(&mut self, source: M) -> Result<bool>
    where
        M: MigrationSource<Pg> + Send + 'static,
    {
        self.run(|harness| harness.has_pending_migration(source))
            .await
    }
}

/// Shows all but the connection.
impl<C, S> fmt::Debug for AsyncPrioritizedHarness<C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncPrioritizedHarness")
            .field("prioritizer", &self.prioritizer)
            .field("report", &self.report())
            .finish_non_exhaustive()
    }
}
