//! The migrations of one run, one after the other, under the migration lock.

use std::mem;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_migrations::MigrationHarness;

use super::apply::{DirectedMigration, Direction};
use super::attempt_start::{AttemptEnd, AttemptTimeouts};
use super::connection_check::ConnectionCheck;
use super::distinct::{DistinctMigrations, SkippedMigrations, warning};
use super::embedded::MIGRATIONS;
use super::history::HistoryPlace;
use super::report::HarnessReport;
use super::retry::LockFailures;
use super::settings::Settings;
use crate::advisory::AdvisoryTarget;
use crate::prioritize::Prioritizer;
use crate::prioritize::thread::WatcherThread;
use crate::source::WatcherSource;
use crate::timeout::scoped_timeout::Previous;

/// The harness of the instance that holds the migration lock.
pub(crate) struct MigrationRun<'r, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    pub(crate) conn: &'r mut C,
    pub(crate) prioritizer: &'r Prioritizer<S>,
    pub(crate) settings: &'r Settings,
    pub(crate) report: &'r mut HarnessReport,
    /// The migration lock, which this session holds.
    pub(crate) lock: AdvisoryTarget,
    check: ConnectionCheck,
    /// The history, once it was found: a migration may lead the `search_path` to another.
    pub(crate) history: &'r mut Option<HistoryPlace>,
    /// The lock timeout of the session, once an attempt has replaced it.
    pub(crate) replaced_timeout: Option<Previous>,
    /// The timeouts of the last attempt; `None`: unknown.
    pub(crate) timeouts: Option<AttemptTimeouts>,
    /// The state of the session, if no statement has followed an attempt.
    pub(crate) end: Option<AttemptEnd>,
    /// The watcher of the run, once a part of the run has started it.
    pub(crate) watcher: Option<WatcherThread>,
    pub(crate) lock_failures: LockFailures,
    /// The versions in the history, the last one first.
    pub(crate) applied: Vec<MigrationVersion<'static>>,
    /// The versions in the history that this run ignores.
    excluded: Vec<MigrationVersion<'static>>,
    /// The migrations that this run never runs, because another one has their version.
    skipped: SkippedMigrations,
    /// True once a migration has run, which may have changed settings.
    has_run: bool,
    /// True once the lock was released and acquired again: another instance may have run in between.
    pub(crate) was_unlocked: bool,
}

impl<C, S> MigrationHarness<Pg> for MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    fn run_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.migrate(DirectedMigration {
            migration,
            direction: Direction::Up,
        })
    }

    fn revert_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.migrate(DirectedMigration {
            migration,
            direction: Direction::Down,
        })
    }

    fn applied_migrations(&mut self) -> Result<Vec<MigrationVersion<'static>>> {
        let applied = self.applied.iter();
        let applied = applied.filter(|version| !self.excluded.contains(version));
        Ok(applied.map(MigrationVersion::as_owned).collect())
    }
}

impl<'r, C, S> MigrationRun<'r, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Begins a run under the migration lock, and reads once which migrations are applied.
    pub(crate) fn begin(
        conn: &'r mut C,
        lock: AdvisoryTarget,
        check: ConnectionCheck,
        prioritizer: &'r Prioritizer<S>,
        settings: &'r Settings,
        report: &'r mut HarnessReport,
        history: &'r mut Option<HistoryPlace>,
    ) -> Result<Self> {
        let mut run = Self {
            conn,
            prioritizer,
            settings,
            report,
            lock,
            check,
            history,
            replaced_timeout: None,
            timeouts: None,
            end: None,
            watcher: None,
            lock_failures: LockFailures::default(),
            applied: Vec::new(),
            excluded: Vec::new(),
            skipped: SkippedMigrations::new(),
            has_run: false,
            was_unlocked: false,
        };
        run.read_history()?;
        Ok(run)
    }

    /// Notes which migrations of the source are never run, and warns of exceptions for none.
    pub(crate) fn begin_source(&mut self, source: &mut DistinctMigrations) {
        self.skipped = mem::take(&mut source.skipped);
        let versions = source.versions();
        let mut unknown: Vec<_> = self.settings.exceptions.keys().collect();
        unknown.retain(|version| !versions.contains(&version.as_str().into()));
        unknown.sort_unstable();
        for version in unknown {
            let warning =
                format!("there are options for version `{version}`, which no migration has");
            self.report.warn(self.settings, warning);
        }
    }

    /// Excludes the crate's own migrations, unless the source has them.
    ///
    /// Diesel reverts a source only if that has all migrations that were ever applied.
    pub(crate) fn exclude_own_migrations(&mut self, source: &DistinctMigrations) -> Result<()> {
        let requested = source.versions();
        self.excluded = DistinctMigrations::of(&MIGRATIONS)?.versions();
        self.excluded.retain(|version| !requested.contains(version));
        Ok(())
    }

    fn migrate(&mut self, migration: DirectedMigration<'_>) -> Result<MigrationVersion<'static>> {
        let (version, direction) = (migration.version(), migration.direction);
        if self.is_done(&version, direction) {
            return Ok(version);
        }
        let limits = self.settings.limits_of(migration, self.prioritizer)?;
        if !migration.runs_in_transaction() {
            self.end = None; // what another session does meanwhile is not undone
        }
        let Some(start) = self.start_under_lock(migration, &limits)? else {
            return Ok(version);
        };
        if self.has_run && !migration.runs_in_transaction() {
            self.check.keep(self.conn);
        }
        if let Some(skipped) = self.skipped.get(&version) {
            let warning = warning(&migration.migration.name().to_string(), skipped);
            self.report.warn(self.settings, warning);
        }
        self.has_run = true;
        self.run_and_report(migration, limits, start)?;
        self.note(&version, direction);
        Ok(version)
    }

    /// Returns true if the migration is applied, or reverted, already.
    ///
    /// Another instance may have been faster, if the caller read the history without the lock.
    pub(crate) fn is_done(
        &self,
        version: &MigrationVersion<'static>,
        direction: Direction,
    ) -> bool {
        self.applied.contains(version) == (direction == Direction::Up)
    }

    fn note(&mut self, version: &MigrationVersion<'static>, direction: Direction) {
        self.applied.retain(|it| it != version);
        if direction == Direction::Up {
            self.applied.insert(0, version.as_owned());
        }
    }
}

/// Restores the lock timeout after a panic.
impl<C, S> Drop for MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn drop(&mut self) {
        let _ = self.restore_timeout(Ok(()));
    }
}
