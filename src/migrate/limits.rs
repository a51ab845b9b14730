//! The options in force for one migration.

use std::time::Duration;

use diesel::migration::Result;

use super::apply::DirectedMigration;
use super::locks_first::LocksFirst;
use super::settings::Settings;
use crate::error::Error;
use crate::prioritize::Prioritizer;

/// The limits of one migration.
#[derive(Debug)]
pub(crate) struct MigrationLimits {
    /// `None`: no limit.
    pub(crate) lock_timeout: Option<Duration>,
    /// `None`: the session's own; `Some(None)`: no limit.
    pub(crate) statement_timeout: Option<Option<Duration>>,
    pub(crate) attempts: u32,
    pub(crate) locks: LocksFirst,
}

impl MigrationLimits {
    /// Sets the lock timeout of the next attempt.
    pub(crate) fn limit_locks(&mut self, timeout: Option<Duration>) {
        self.lock_timeout = timeout;
        self.locks.limit(timeout);
    }
}

impl Settings {
    /// Returns the limits of a migration: its own exceptions, or else those of the harness.
    ///
    /// # Errors
    ///
    /// [`Error::NotInTransaction`] if locks are to be taken for a migration outside a transaction.
    pub(crate) fn limits_of<S>(
        &self,
        migration: DirectedMigration<'_>,
        prioritizer: &Prioritizer<S>,
    ) -> Result<MigrationLimits> {
        let exception = self.exception(migration.migration);
        if migration.runs_in_transaction() {
            let options = exception.or(&self.options);
            let default = || self.lock_timeout(prioritizer);
            let timeout = exception.lock_timeout.unwrap_or_else(default);
            let attempts = options.attempts.unwrap_or_else(|| self.attempts());
            return Ok(MigrationLimits {
                lock_timeout: timeout,
                statement_timeout: options.statement_timeout,
                attempts,
                locks: LocksFirst::new(options.locks_first, timeout),
            });
        }
        if !exception.locks_first.is_empty() {
            return Err(Error::NotInTransaction.into());
        }
        let attempts = match self.index_repair {
            Some(_) => self.attempts(),
            None => 1,
        };
        // A limit, even the session's own, would leave something behind, such as an invalid index.
        Ok(MigrationLimits {
            lock_timeout: exception.lock_timeout.unwrap_or(None),
            statement_timeout: exception.statement_timeout,
            attempts: exception.attempts.unwrap_or(attempts),
            locks: LocksFirst::default(),
        })
    }
}
