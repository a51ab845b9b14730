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
use super::limits::MigrationLimits;
use super::lock_timeout::with_statement_timeout;
use super::lock_timeout_cap::cap_lock_timeout;
use super::locks_first::LocksFirst;
use super::migration_lock::{REACQUIRED, is_lost_lock};
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
        let mut limits = self.settings.limits_of(migration, self.prioritizer)?;
        let lock_timeout = limits.lock_timeout;
        loop {
            report.attempts += 1;
            if report.attempts >= limits.attempts {
                return self.try_last(migration, &limits, report);
            }
            self.lock_failures.before_attempt(self.conn);
            let (started, mut extent) = (Instant::now(), Extent::Nothing);
            let blockers = report.blockers.len();
            let tried = self.try_once(migration, &limits, Some(&mut extent), report);
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
            self.keep_migration_lock()?;
            if self.is_done(&migration.version(), migration.direction) {
                return Ok(());
            }
        }
    }

    /// Tries for the last time. The error names the blockers that could not be signalled.
    fn try_last(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        report: &mut MigrationReport,
    ) -> Result<()> {
        let (started, blockers) = (Instant::now(), report.blockers.len());
        let tried = self.try_once(migration, limits, None, report);
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
        extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        if migration.runs_in_transaction() {
            self.apply_once(migration, limits, extent, report)
        } else {
            self.try_outside_transaction(migration, limits, extent, report)
        }
    }

    pub(crate) fn apply_once(
        &mut self,
        migration: DirectedMigration<'_>,
        limits: &MigrationLimits,
        mut extent: Option<&mut Extent>,
        report: &mut MigrationReport,
    ) -> Result<()> {
        self.settings.emit(&MigrationEvent::Running {
            name: report.name.clone(),
            attempt: report.attempts,
        });
        let (lock, history) = (self.lock, self.history.clone());
        let mut apply = |conn: &mut C| {
            limits.locks.rounds(|round| {
                let apply = |conn: &mut C| migration.apply(conn, round, lock, history.as_ref());
                match extent.as_deref_mut() {
                    Some(extent) => extent.measure(conn, apply),
                    None => apply(conn),
                }
            })
        };
        let part = Part {
            work: Some(&report.name),
            is_retry: report.attempts > 1,
        };
        let watched = self.watched(limits.lock_timeout, part, |conn| {
            with_statement_timeout(conn, limits.statement_timeout, |conn| {
                if limits.lock_timeout.is_some() {
                    cap_lock_timeout(conn);
                }
                apply(conn)
            })
        });
        report.add_watched(watched.report);
        let (recorded, warning) = watched.result?;
        report.locks = recorded.locks;
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
