//! The locks that a migration has when its SQL has run.

use std::collections::BTreeMap;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::{Connection, ExpressionMethods, QueryDsl};

use super::history::HistoryPlace;
use super::migration_lock::acquire_again;
use super::report::TakenLock;
use crate::advisory::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::fmt::with_sources;
use crate::session::{BackendPid, ColumnsOf, Driver, run_ready, uncached};
use crate::tables::pg_locks;
use crate::types::{LockMode, RelationKind};
use crate::views::PgLock;

/// Sets the recorder apart from settings of the migration, and from its transaction, which a
/// failure of the recorder must not abort.
const BEGIN: &str = "SAVEPOINT diesel_pglock; SET LOCAL statement_timeout = 0; \
    SET LOCAL lock_timeout = '1s'; SET LOCAL client_encoding = 'UTF8'";
const END: &str = "ROLLBACK TO SAVEPOINT diesel_pglock; RELEASE SAVEPOINT diesel_pglock";

/// Reads the locks of a migration, and the place of the history, before its transaction ends.
pub(crate) struct LockRecorder<'r, C> {
    pub(crate) conn: &'r mut C,
    pub(crate) lock: AdvisoryTarget,
    pub(crate) history: Option<&'r HistoryPlace>,
}

/// The state of the session when a migration has run.
#[derive(Default)]
pub(crate) struct RecordedLocks {
    pub(crate) locks: Vec<TakenLock>,
    pub(crate) history_schema: Option<String>,
    /// True if the migration released the migration lock, and it was acquired again.
    pub(crate) was_unlocked: bool,
    /// The reason why the rest is empty.
    pub(crate) failure: Option<String>,
}

impl<C> LockRecorder<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Records the locks; a failure to read them decides nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`] if the migration lock was released, and is busy.
    pub(crate) fn record(mut self) -> Result<RecordedLocks> {
        match self.read() {
            Err(error) if !error.is_not_acquired() => Ok(RecordedLocks::failed(&error)),
            recorded => recorded,
        }
    }

    fn read(&mut self) -> Result<RecordedLocks> {
        // After a migration outside a transaction, or one that has ended its own.
        if uncached(self.conn).depth()? == 0 {
            return Ok(RecordedLocks {
                history_schema: self.history_schema()?,
                ..RecordedLocks::default()
            });
        }
        self.conn.batch_execute(BEGIN)?;
        let recorded = self.read_in_savepoint();
        self.conn.batch_execute(END)?;
        if self.lock.xact && recorded.as_ref().is_ok_and(|it| it.was_unlocked) {
            // In the savepoint it would have ended with that.
            acquire_again(self.conn, self.lock)?;
        }
        recorded
    }

    fn read_in_savepoint(&mut self) -> Result<RecordedLocks> {
        let locks = self.own_locks()?;
        let was_unlocked = !locks.iter().any(|lock| self.is_migration_lock(lock));
        if was_unlocked && !self.lock.xact {
            // A session's lock outlives the savepoint.
            acquire_again(self.conn, self.lock)?;
        }
        Ok(RecordedLocks {
            locks: strongest(locks),
            history_schema: self.history_schema()?,
            was_unlocked,
            failure: None,
        })
    }

    fn is_migration_lock(&self, lock: &PgLock) -> bool {
        lock.advisory_key == Some(self.lock.key) && lock.mode == LockMode::Exclusive
    }

    fn history_schema(&mut self) -> Result<Option<String>> {
        let Some(history) = self.history else {
            return Ok(None);
        };
        let current = history.current(self.conn)?;
        Ok(current.and_then(|place| place.schema().map(str::to_owned)))
    }

    fn own_locks(&mut self) -> Result<Vec<PgLock>> {
        let mut driver = uncached(self.conn);
        let pid = run_ready(driver.ask(BackendPid))?;
        let query = PgLock::query().filter(pg_locks::pid.eq(pid));
        Ok(run_ready(
            driver.load::<_, ColumnsOf<PgLock>, PgLock>(query),
        )?)
    }
}

impl RecordedLocks {
    fn failed(error: &Error) -> Self {
        let error = with_sources(error);
        Self {
            failure: Some(format!("its locks could not be read: {error}")),
            ..Self::default()
        }
    }
}

/// Returns the strongest mode on each table, without system catalogs.
fn strongest(locks: Vec<PgLock>) -> Vec<TakenLock> {
    let mut strongest = BTreeMap::new();
    for lock in locks.into_iter().filter_map(taken_lock) {
        let mode = lock.mode;
        let taken = strongest.entry(lock.relation.oid).or_insert(lock);
        taken.mode = taken.mode.max(mode);
    }
    strongest.into_values().collect()
}

fn taken_lock(lock: PgLock) -> Option<TakenLock> {
    let mode = lock.mode.table_lock_mode()?;
    let relation = lock.relation?;
    let is_reported = is_table(&relation.kind) && relation.schema != "pg_catalog";
    is_reported.then_some(TakenLock { relation, mode })
}

fn is_table(kind: &RelationKind) -> bool {
    use RelationKind::*;
    matches!(
        kind,
        Table | PartitionedTable | ForeignTable | MaterializedView | View
    )
}
