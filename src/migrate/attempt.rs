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
use super::attempt_start::AttemptStart;
use super::event::MigrationEvent;
use super::limits::MigrationLimits;
use super::lock_recorder::RecordedLocks;
use super::locks_first::{LocksFirst, Round, RoundError};
use super::migration_lock::{REACQUIRED, acquire_again, is_lost_lock};
use super::report::MigrationReport;
use super::retry::LockFailure;
use super::run::MigrationRun;
use super::unsignallable::Unsignallable;
use super::watched::Part;
use crate::fmt::with_sources;
use crate::prioritize::Blocker;
use crate::session::{BackendPid, Driver, run_ready, uncached};
use crate::source::WatcherSource;

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Runs or reverts a migration, in one attempt or more, and reports it.
    pub(crate) fn run_and_report(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: MigrationLimits,
        start: AttemptStart,
    ) -> Result<()> {
        let started = Instant::now();
        let mut report = migration.report();
        let result = self.try_repeatedly(migration, limits, start, &mut report);
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
        mut limits: MigrationLimits,
        mut start: AttemptStart,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let lock_timeout = limits.lock_timeout;
        loop {
            report.attempts += 1;
            if report.attempts >= limits.attempts {
                return self.try_last(migration, &limits, start, report);
            }
            self.lock_failures.deadlocks = start.deadlocks;
            let (started, mut extent) = (Instant::now(), Extent::Nothing);
            let blockers = report.blockers.len();
            let tried = self.try_once(migration, &limits, start, Some(&mut extent), report);
            let Err(error) = tried else { return Ok(()) };
            let failure = self.lock_failure(error.as_ref(), started.elapsed());
            if is_lost_lock(&error) || failure.is_none() {
                return Err(error);
            }
            report.not_retried = extent.refusal();
            if report.not_retried.is_some() {
                return Err(error);
            }
            if failure == Some(LockFailure::Deadlock) && migration.runs_in_transaction() {
                self.lock_first_next_time(&mut limits.locks, &report.blockers[blockers..]);
            }
            let unsignallable = Unsignallable::of(&report.blockers, blockers);
            let error = unsignallable.name_in(error, self.conn);
            self.pause(&report.name, report.attempts, error.as_ref());
            limits.limit_locks(unsignallable.wait(self.conn, lock_timeout));
            match self.start_under_lock(migration, &limits)? {
                Some(next) => start = next,
                None => return Ok(()),
            }
        }
    }

    /// Tries for the last time. The error names the blockers that could not be signalled.
    fn try_last(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        start: AttemptStart,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let (started, blockers) = (Instant::now(), report.blockers.len());
        let tried = self.try_once(migration, limits, start, None, report);
        let Err(error) = tried else { return Ok(()) };
        let unsignallable = Unsignallable::of(&report.blockers, blockers);
        if unsignallable.is_empty() {
            return Err(error);
        }
        match self.lock_failure(error.as_ref(), started.elapsed()) {
            Some(_) => Err(unsignallable.name_in(error, self.conn)),
            None => Err(error),
        }
    }

    /// Starts an attempt under the migration lock, which is acquired again if a migration has
    /// released it; `None` if another instance was faster meanwhile.
    pub(crate) fn start_under_lock(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
    ) -> Result<Option<AttemptStart>> {
        self.start_watcher()?; // it sends a statement, which must not follow the start
        let start = self.start_attempt(limits.lock_timeout)?;
        if start.has_migration_lock == Some(false) {
            acquire_again(self.conn, self.lock)?;
            self.report.warn(self.settings, REACQUIRED.to_owned());
        } else if !self.was_unlocked {
            return Ok(Some(start));
        }
        self.was_unlocked = false;
        self.read_history()?;
        if self.is_done(&migration.version(), migration.direction) {
            return Ok(None);
        }
        self.start_attempt(limits.lock_timeout).map(Some)
    }

    /// Adds the tables for which the migration waited: after a deadlock it locks them first.
    fn lock_first_next_time(&mut self, locks: &mut LocksFirst, blockers: &[Blocker]) {
        // A session that cannot answer fails in the next attempt too.
        let pid = run_ready(uncached(self.conn).ask(BackendPid)).ok();
        let own = blockers.iter().filter(|it| it.lock.pid == pid);
        locks.add(own.map(|blocker| &blocker.lock));
    }

    fn try_once(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        start: AttemptStart,
        extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        if migration.runs_in_transaction() {
            self.apply_once(migration, limits, Some(start), extent, report)
        } else {
            self.try_outside_transaction(migration, limits, extent, report)
        }
    }

    /// Applies the migration once; without a `start`, other statements have followed that.
    pub(crate) fn apply_once(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        start: Option<AttemptStart>,
        extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        self.settings.emit(&MigrationEvent::Running {
            name: report.name.clone(),
            attempt: report.attempts,
        });
        let part = Part {
            work: Some(&report.name),
            is_retry: report.attempts > 1,
        };
        let watched = self.watch(part, |run| {
            run.within_limits(migration, limits, start, extent)
        });
        report.add_watched(watched.report);
        let (recorded, warning) = watched.result?;
        report.locks = recorded.locks;
        // Other statements follow in the other cases.
        let is_last = !self.settings.within_transaction && limits.statement_timeout.is_none();
        self.end = recorded.end.filter(|_| is_last);
        if recorded.was_unlocked {
            self.was_unlocked = true;
            self.report.warn(self.settings, REACQUIRED.to_owned());
        }
        for failure in recorded.failure.into_iter().chain(warning) {
            let warning = format!("{}: {failure}", report.name);
            self.report.warn(self.settings, warning);
        }
        Ok(())
    }

    /// Applies the migration under its timeouts. The text is a warning.
    fn within_limits(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        start: Option<AttemptStart>,
        mut extent: Option<&mut Extent>,
    ) -> Result<(RecordedLocks, Option<String>)> {
        // The statement that sets the statement timeout follows the start.
        let mut start = start.filter(|_| limits.statement_timeout.is_none());
        let applied = self.with_statement_timeout(limits.statement_timeout, |run| {
            limits.locks.rounds(|round| {
                let start = start
                    .take()
                    .map_or_else(|| run.start_attempt(limits.lock_timeout), Ok);
                let start = start.map_err(RoundError::Failed)?;
                let applied = run.apply(migration, round);
                if let (Err(_), Some(extent)) = (&applied, &mut extent) {
                    **extent = Extent::since(run.conn, start.transaction.as_deref());
                }
                applied
            })
        });
        match self.settings.within_transaction {
            true => self.restore_timeout(applied),
            false => applied,
        }
    }

    fn apply(
        &mut self,
        migration: DirectedMigration<'_>,
        round: Round<'_>,
    ) -> std::result::Result<RecordedLocks, RoundError> {
        let (lock, history) = (self.lock, self.history.as_ref());
        let apply = |conn: &mut C| migration.apply(conn, round, lock, history);
        // A failure inside the caller's transaction leaves it usable.
        match self.settings.within_transaction {
            true => self.conn.transaction(apply),
            false => apply(self.conn),
        }
    }

    /// Returns the lock failure of an attempt that took this long; `None` if it failed otherwise.
    pub(crate) fn lock_failure(
        &mut self,
        error: &(dyn std::error::Error + 'static),
        took: Duration,
    ) -> Option<LockFailure> {
        let source = &**self.prioritizer.source();
        self.lock_failures.recognise(error, took, self.conn, source)
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
