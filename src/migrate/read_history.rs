//! The reading of the history in a run.

use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::applied_migrations::{AppliedMigrations, BoxedError, unreadable_history};
use super::event::MigrationEvent;
use super::history::HISTORY;
use super::lock_timeout::with_lock_timeout;
use super::run::MigrationRun;
use super::settings::AT_ONCE;
use super::watched::Part;
use crate::source::WatcherSource;

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection + MigrationHarness<Pg> + 'static,
    S: WatcherSource,
{
    /// Reads the history, which Diesel creates if there is none.
    pub(crate) fn read_history(&mut self) -> Result<()> {
        let timeout = self.settings.lock_timeout(self.prioritizer);
        let at_once = timeout.map_or(AT_ONCE, |timeout| timeout.min(AT_ONCE));
        let known = self.history.clone();
        let report = &mut *self.report;
        let read = with_lock_timeout(self.conn, Some(at_once), report, self.settings, |conn| {
            AppliedMigrations::read_or_create(conn, known.as_ref())
        });
        let read = read.or_else(|_| self.wait_for_history(timeout))?;
        *self.history = Some(read.place);
        self.applied = read.versions;
        Ok(())
    }

    /// Reads the history as a migration is run: prioritized, and again after a lock failure.
    fn wait_for_history(&mut self, timeout: Option<Duration>) -> Result<AppliedMigrations> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            self.lock_failures.before_attempt(self.conn);
            let started = Instant::now();
            let error = match self.try_read_history(attempt, timeout) {
                Ok(read) => return Ok(read),
                Err(error) => error,
            };
            let is_last = attempt >= self.settings.attempts();
            let failure = self.lock_failure(error.as_ref(), started.elapsed());
            if is_last || failure.is_none() {
                return Err(self.unreadable_history(error));
            }
            self.pause(HISTORY, attempt, error.as_ref());
        }
    }

    fn try_read_history(
        &mut self,
        attempt: u32,
        timeout: Option<Duration>,
    ) -> Result<AppliedMigrations> {
        self.settings
            .emit(&MigrationEvent::ReadingHistory { attempt });
        let known = self.history.clone();
        let read = |conn: &mut C| AppliedMigrations::read_or_create(conn, known.as_ref());
        let part = Part {
            work: None,
            is_retry: attempt > 1,
        };
        let watched = self.watched(timeout, part, read);
        self.report.history_blockers.extend(watched.report.blockers);
        self.report.warnings.extend(watched.report.errors);
        watched.result
    }

    fn unreadable_history(&mut self, error: BoxedError) -> BoxedError {
        let (report, known) = (&mut *self.report, self.history.as_ref());
        unreadable_history(self.conn, known, report, self.settings, error)
    }
}
