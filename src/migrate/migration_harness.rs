//! The harness as a `MigrationHarness`: runs under the migration lock, and questions.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::applied_migrations::unreadable_history;
use super::connection_check::ConnectionCheck;
use super::distinct::{DistinctMigrations, NamedVersion};
use super::event::MigrationEvent;
use super::harness::PrioritizedHarness;
use super::history::HistoryPlace;
use super::lock_timeout::with_lock_timeout;
use super::migration_lock::LockWait;
use super::run::MigrationRun;
use super::settings::AT_ONCE;
use crate::advisory::AdvisoryTarget;
use crate::session::{Driver, SyncDriver, run_or_undo};
use crate::source::WatcherSource;
use crate::types::AdvisoryKey;

impl<C, S> PrioritizedHarness<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Runs `f` under the migration lock, to run the migrations with these names.
    fn with_migration_lock<T>(
        &mut self,
        names: &[NamedVersion],
        f: impl FnOnce(&mut MigrationRun<'_, C, S>) -> Result<T>,
    ) -> Result<T> {
        self.settings.refuse_slow_policy(&self.prioritizer)?;
        let within_transaction = self.settings.within_transaction;
        if within_transaction {
            SyncDriver(self.conn).require_transaction()?;
        } else {
            SyncDriver(self.conn).refuse_transaction()?;
        }
        let lock = AdvisoryTarget {
            xact: within_transaction,
            ..AdvisoryTarget::new(self.key()?)
        };
        let wait = LockWait {
            lock,
            limit: self.wait_limit,
            names,
            history: self.history.as_ref(),
            settings: &self.settings,
            report: &mut self.report,
        };
        let hold = wait.acquire(self.conn)?;
        let check = ConnectionCheck::begin(self.conn, &self.settings);
        let begin_and_run = |conn: &mut C| {
            let (report, history) = (&mut self.report, &mut self.history);
            let (prioritizer, settings) = (&self.prioritizer, &self.settings);
            let run =
                MigrationRun::begin(conn, lock, check, prioritizer, settings, report, history);
            let mut run = run?;
            let result = f(&mut run);
            run.end_watcher();
            run.restore_timeout(result)
        };
        let (result, hold) = run_or_undo(self.conn, hold, begin_and_run, |conn, hold| {
            check.end(conn);
            hold.leave(conn);
        });
        check.end(self.conn);
        let released = hold.release(self.conn, &mut self.report, &self.settings);
        result.and_then(|value| Ok(released.map(|()| value)?))
    }

    fn key(&mut self) -> Result<AdvisoryKey> {
        match self.lock_key {
            Some(key) => Ok(key),
            None => Ok(self.ask_history(HistoryPlace::find)?.key()),
        }
    }

    /// Asks a question about the history, without a watcher: questions signal no session.
    fn ask_history<T>(&mut self, ask: AskHistory<C, T>) -> Result<T> {
        let timeout = self.settings.lock_timeout(&self.prioritizer);
        let is_short = timeout.is_some_and(|timeout| timeout <= AT_ONCE);
        if !is_short {
            if let Ok(answer) = self.ask_within(Some(AT_ONCE), ask) {
                return Ok(answer);
            }
            self.settings
                .emit(&MigrationEvent::ReadingHistory { attempt: 1 });
        }
        self.ask_within(timeout, ask).map_err(|error| {
            let (report, known) = (&mut self.report, self.history.as_ref());
            unreadable_history(self.conn, known, report, &self.settings, error)
        })
    }

    fn ask_within<T>(&mut self, timeout: Option<Duration>, ask: AskHistory<C, T>) -> Result<T> {
        let (report, known) = (&mut self.report, self.history.as_ref());
        with_lock_timeout(self.conn, timeout, report, &self.settings, |conn| {
            Ok(ask(conn, known)?)
        })
    }
}

type AskHistory<C, T> = fn(&mut C, Option<&HistoryPlace>) -> crate::error::Result<T>;

impl<C, S> MigrationHarness<Pg> for PrioritizedHarness<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    fn run_pending_migrations<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'_>>> {
        let mut source = DistinctMigrations::of(&source)?;
        self.with_migration_lock(&source.names(), |run| {
            run.begin_source(&mut source);
            owned(run.run_pending_migrations(source)?)
        })
    }

    fn run_migrations(
        &mut self,
        migrations: &[Box<dyn Migration<Pg>>],
    ) -> Result<Vec<MigrationVersion<'_>>> {
        let names = NamedVersion::of(migrations);
        self.with_migration_lock(&names, |run| owned(run.run_migrations(migrations)?))
    }

    fn run_next_migration<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<MigrationVersion<'_>> {
        let mut source = DistinctMigrations::of(&source)?;
        self.with_migration_lock(&source.names(), |run| {
            run.begin_source(&mut source);
            Ok(run.run_next_migration(source)?.as_owned())
        })
    }

    /// Reverts all applied migrations, except [`MIGRATIONS`](crate::MIGRATIONS) if the source lacks them.
    fn revert_all_migrations<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<Vec<MigrationVersion<'_>>> {
        let mut source = DistinctMigrations::of(&source)?;
        self.with_migration_lock(&[], |run| {
            run.begin_source(&mut source);
            run.exclude_own_migrations(&source)?;
            owned(run.revert_all_migrations(source)?)
        })
    }

    fn revert_last_migration<M: MigrationSource<Pg>>(
        &mut self,
        source: M,
    ) -> Result<MigrationVersion<'static>> {
        let mut source = DistinctMigrations::of(&source)?;
        self.with_migration_lock(&[], |run| {
            run.begin_source(&mut source);
            run.exclude_own_migrations(&source)?;
            run.revert_last_migration(source)
        })
    }

    /// Runs a migration, unless another instance has run it since it was found pending.
    fn run_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        let names = [NamedVersion::new(migration)];
        self.with_migration_lock(&names, |run| run.run_migration(migration))
    }

    /// Reverts a migration, unless another instance has reverted it since it was found applied.
    fn revert_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        self.with_migration_lock(&[], |run| run.revert_migration(migration))
    }

    /// Reads the history, and does not create it.
    ///
    /// It writes nothing, locks only the history, and signals no session. It waits for a locked
    /// history up to the [lock timeout](PrioritizedHarness::lock_timeout).
    ///
    /// # Errors
    ///
    /// [`Error::History`](crate::Error::History) if the history cannot be read.
    fn applied_migrations(&mut self) -> Result<Vec<MigrationVersion<'static>>> {
        let (place, applied) = self.ask_history(|conn, known| {
            let place = HistoryPlace::find(conn, known)?;
            let applied = place.read(conn)?;
            Ok((place, applied))
        })?;
        self.history = applied.is_some().then_some(place);
        Ok(applied.unwrap_or_default())
    }
}

pub(crate) fn owned(versions: Vec<MigrationVersion<'_>>) -> Result<Vec<MigrationVersion<'static>>> {
    Ok(versions.iter().map(MigrationVersion::as_owned).collect())
}
