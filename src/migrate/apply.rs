//! One migration and its direction, applied as Diesel's own harness does it.

use std::time::Duration;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationVersion, Result};
use diesel::pg::Pg;

use super::history::HistoryPlace;
use super::history_statement::HistoryEntry;
use super::lock_recorder::{LockRecorder, RecordedLocks};
use super::locks_first::{Round, RoundError};
use super::report::MigrationReport;
use crate::advisory::AdvisoryTarget;

/// The direction of a migration.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Direction {
    Up,
    Down,
}

/// A migration that is run or reverted.
#[derive(Clone, Copy)]
pub(crate) struct DirectedMigration<'m> {
    pub(crate) migration: &'m dyn Migration<Pg>,
    pub(crate) direction: Direction,
}

impl DirectedMigration<'_> {
    pub(crate) fn version(&self) -> MigrationVersion<'static> {
        self.migration.name().version().as_owned()
    }

    /// Returns true if the migration is one transaction, so that it leaves nothing if it fails.
    pub(crate) fn runs_in_transaction(&self) -> bool {
        self.migration.metadata().run_in_transaction()
    }

    fn is_reverted(&self) -> bool {
        self.direction == Direction::Down
    }

    /// Returns the report of the migration before its first attempt.
    pub(crate) fn report(&self) -> MigrationReport {
        MigrationReport {
            name: self.migration.name().to_string(),
            reverted: self.is_reverted(),
            succeeded: false,
            attempts: 0,
            waited: Duration::ZERO,
            blockers: Vec::new(),
            locks: Vec::new(),
            invalid_indexes: Vec::new(),
            not_retried: None,
            watcher_errors: Vec::new(),
            duration: Duration::ZERO,
        }
    }

    /// Runs or reverts the migration, and records that in the history.
    ///
    /// # Errors
    ///
    /// The migration's own, or [`Error::NotAcquired`](crate::Error::NotAcquired) if it released the
    /// migration lock and another instance has it by now: then its transaction is rolled back.
    pub(crate) fn apply<C>(
        self,
        conn: &mut C,
        round: Round<'_>,
        lock: AdvisoryTarget,
        history: Option<&HistoryPlace>,
    ) -> std::result::Result<RecordedLocks, RoundError>
    where
        C: Connection<Backend = Pg> + LoadConnection + 'static,
    {
        let apply = |conn: &mut C| {
            let applied = self.apply_statements(conn, lock, history);
            applied.map_err(RoundError::Failed)
        };
        if !self.runs_in_transaction() {
            return apply(conn);
        }
        conn.transaction(|conn| {
            round.take(conn)?;
            apply(conn)
        })
    }

    fn apply_statements<C>(
        self,
        conn: &mut C,
        lock: AdvisoryTarget,
        history: Option<&HistoryPlace>,
    ) -> Result<RecordedLocks>
    where
        C: Connection<Backend = Pg> + LoadConnection + 'static,
    {
        match self.direction {
            Direction::Up => self.migration.run(conn)?,
            Direction::Down => self.migration.revert(conn)?,
        }
        let entry = HistoryEntry {
            version: self.version().to_string(),
            reverted: self.is_reverted(),
        };
        LockRecorder {
            conn,
            lock,
            history,
        }
        .record(&entry)
    }
}
