//! The attempts at one migration.

use std::thread;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::apply::DirectedMigration;
use super::attempt_extent::Extent;
use super::event::MigrationEvent;
use super::lock_timeout_cap::cap_lock_timeout;
use super::migration_lock::{REACQUIRED, is_lost_lock};
use super::report::MigrationReport;
use super::run::MigrationRun;
use super::watched::Part;
use crate::fmt::with_sources;
use crate::source::WatcherSource;

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Runs or reverts a migration, in one attempt or more, and reports it.
    pub(crate) fn run_and_report(&mut self, migration: DirectedMigration<'_>) -> Result<()> {
        let started = Instant::now();
        let mut report = migration.report();
        let result = self.try_repeatedly(migration, &mut report);
        report.succeeded = result.is_ok();
        report.duration = started.elapsed();
        let finished = MigrationEvent::Finished(report.clone());
        self.settings.emit(&finished);
        self.report.migrations.push(report);
        result
    }

    fn try_repeatedly(
        &mut self,
        migration: DirectedMigration<'_>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let attempts = self.max_attempts(migration);
        loop {
            report.attempts += 1;
            if report.attempts >= attempts {
                return self.try_once(migration, None, report);
            }
            self.lock_failures.before_attempt(self.conn);
            let (started, mut extent) = (Instant::now(), Extent::Nothing);
            let tried = self.try_once(migration, Some(&mut extent), report);
            let Err(error) = tried else { return Ok(()) };
            if is_lost_lock(&error) || !self.is_retryable(error.as_ref(), started.elapsed()) {
                return Err(error);
            }
            report.not_retried = extent.refusal();
            if report.not_retried.is_some() {
                return Err(error);
            }
            self.pause(&report.name, report.attempts, error.as_ref());
            self.keep_migration_lock()?;
            if self.is_done(&migration.version(), migration.direction) {
                return Ok(());
            }
        }
    }

    /// Returns 1 for a migration outside a transaction, which leaves something behind if it fails.
    fn max_attempts(&self, migration: DirectedMigration<'_>) -> u32 {
        if migration.runs_in_transaction() {
            self.settings.attempts
        } else {
            1
        }
    }

    /// Returns the lock timeout of the migration.
    fn lock_timeout(&self, migration: DirectedMigration<'_>) -> Option<Duration> {
        if migration.runs_in_transaction() {
            self.settings.lock_timeout(self.prioritizer)
        } else {
            // Not even the session's own: a cancelled index stays behind, invalid.
            None
        }
    }

    fn try_once(
        &mut self,
        migration: DirectedMigration<'_>,
        extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        self.settings.emit(&MigrationEvent::Running {
            name: report.name.clone(),
            attempt: report.attempts,
        });
        let (lock, history) = (self.lock, self.history.clone());
        let apply = |conn: &mut C| migration.apply(conn, lock, history.as_ref());
        let part = Part {
            work: Some(&report.name),
            is_retry: report.attempts > 1,
        };
        let timeout = self.lock_timeout(migration);
        let watched = self.watched(timeout, part, |conn| {
            if timeout.is_some() {
                cap_lock_timeout(conn);
            }
            match extent {
                Some(extent) => extent.measure(conn, apply),
                None => apply(conn),
            }
        });
        report.add_watched(watched.report);
        let recorded = watched.result?;
        report.locks = recorded.locks;
        if recorded.was_unlocked {
            self.was_unlocked = true;
            self.report.warn(self.settings, REACQUIRED.to_owned());
        }
        if let Some(failure) = recorded.failure {
            let warning = format!("{}: {failure}", report.name);
            self.report.warn(self.settings, warning);
        }
        Ok(())
    }

    /// Returns true if the attempt, which took this long, failed because of a lock.
    pub(crate) fn is_retryable(
        &mut self,
        error: &(dyn std::error::Error + 'static),
        took: Duration,
    ) -> bool {
        let source = &**self.prioritizer.source();
        self.lock_failures
            .is_retryable(error, took, self.conn, source)
    }

    /// Pauses before the next attempt.
    pub(crate) fn pause(
        &self,
        name: &str,
        attempts: u32,
        error: &(dyn std::error::Error + 'static),
    ) {
        let after = self.settings.backoff.pause_after(attempts);
        self.settings.emit(&MigrationEvent::Retrying {
            name: name.to_owned(),
            after,
            error: with_sources(error),
        });
        thread::sleep(after);
    }
}
