//! The locks that a migration has when its SQL has run.

use std::collections::BTreeMap;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::Query;

use super::attempt_start::AttemptEnd;
use super::history::HistoryPlace;
use super::history_statement::HistoryEntry;
use super::migration_lock::acquire_again;
use super::own_locks::{KEEP_TIMEOUTS, OwnLock, OwnLocks, RelationsWithOids};
use super::report::TakenLock;
use crate::advisory::AdvisoryTarget;
use crate::error::{Error, Result};
use crate::fmt::with_sources;
use crate::session::{Driver, SyncDriver, run_ready, uncached};
use crate::types::{RelationKind, TableLockMode};
use crate::views::LockedRelation;

/// Sets the recorder apart from settings of the migration, and from its transaction, which a
/// failure of the recorder must not abort.
pub(crate) const BEGIN: &str = "SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = '1s'; \
    SET LOCAL client_encoding = 'UTF8'";
pub(crate) const END: &str = "ROLLBACK TO SAVEPOINT diesel_pglock; RELEASE SAVEPOINT diesel_pglock";

/// Reads the locks of a migration, and the place of the history, before its transaction ends,
/// and records the migration in the history.
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
    /// The state of the session, with the migration lock; `None`: unknown.
    pub(crate) end: Option<AttemptEnd>,
    /// True if the migration released the migration lock, and it was acquired again.
    pub(crate) was_unlocked: bool,
    /// The reason why the rest is empty.
    pub(crate) failure: Option<String>,
}

impl<C> LockRecorder<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Records the locks and the migration; a failure to read the locks decides nothing.
    ///
    /// # Errors
    ///
    /// [`Error::NotAcquired`] if the migration lock was released, and is busy; that of the entry.
    pub(crate) fn record(
        mut self,
        entry: &HistoryEntry,
    ) -> diesel::migration::Result<RecordedLocks> {
        // After a migration outside a transaction, or one that has ended its own.
        if uncached(self.conn).depth()? == 0 {
            let schema = self.history_schema().map(|history_schema| RecordedLocks {
                history_schema,
                ..RecordedLocks::default()
            });
            let recorded = schema.unwrap_or_else(|error| RecordedLocks::failed(&error));
            return self.finish(recorded, "", entry);
        }
        let begin = format!("SAVEPOINT diesel_pglock; {KEEP_TIMEOUTS}; {BEGIN}");
        if let Err(error) = self.conn.batch_execute(&begin) {
            return self.finish(RecordedLocks::failed(&error.into()), "", entry);
        }
        let recorded = match self.read_in_savepoint() {
            Err(error) if error.is_not_acquired() => {
                self.conn.batch_execute(END)?;
                return Err(error.into());
            }
            recorded => recorded.unwrap_or_else(|error| RecordedLocks::failed(&error)),
        };
        if !(self.lock.xact && recorded.was_unlocked) {
            return self.finish(recorded, END, entry);
        }
        // In the savepoint it would have ended with that.
        self.conn.batch_execute(END)?;
        acquire_again(self.conn, self.lock)?;
        self.finish(recorded, "", entry)
    }

    /// Ends the savepoint, and records the migration, in one message.
    fn finish(
        self,
        recorded: RecordedLocks,
        end: &str,
        entry: &HistoryEntry,
    ) -> diesel::migration::Result<RecordedLocks> {
        let sql = entry.sql(recorded.history_schema.as_deref())?;
        match end {
            "" => self.conn.batch_execute(&sql)?,
            end => self.conn.batch_execute(&format!("{end}; {sql}"))?,
        }
        Ok(recorded)
    }

    fn read_in_savepoint(&mut self) -> Result<RecordedLocks> {
        let locks = self.own_locks()?;
        let key = self.lock.key;
        let was_unlocked = !locks.iter().any(|lock| lock.is_exclusive_lock_on(key));
        if was_unlocked && !self.lock.xact {
            // A session's lock outlives the savepoint.
            acquire_again(self.conn, self.lock)?;
        }
        Ok(RecordedLocks {
            history_schema: locks.first().and_then(OwnLock::history_schema),
            end: AttemptEnd::of(&locks).filter(|_| !was_unlocked),
            locks: self.table_locks(&locks)?,
            was_unlocked,
            failure: None,
        })
    }

    fn history_schema(&mut self) -> Result<Option<String>> {
        let Some(history) = self.history else {
            return Ok(None);
        };
        let current = history.current(self.conn)?;
        Ok(current.and_then(|place| place.schema().map(str::to_owned)))
    }

    /// Reads the locks by a cached statement, or anew if a migration has deallocated that.
    fn own_locks(&mut self) -> Result<Vec<OwnLock>> {
        type Columns = <OwnLocks as Query>::SqlType;
        let query = OwnLocks {
            history: self.history.and_then(HistoryPlace::oid),
        };
        let mut driver = SyncDriver(&mut *self.conn);
        if let Ok(locks) = run_ready(driver.load::<_, Columns, OwnLock>(query)) {
            return Ok(locks);
        }
        let again = format!("ROLLBACK TO SAVEPOINT diesel_pglock; {KEEP_TIMEOUTS}; {BEGIN}");
        self.conn.batch_execute(&again)?;
        let mut driver = uncached(self.conn);
        Ok(run_ready(driver.load::<_, Columns, OwnLock>(query))?)
    }

    /// Returns the strongest mode on each table, without system catalogs.
    fn table_locks(&mut self, locks: &[OwnLock]) -> Result<Vec<TakenLock>> {
        let mut modes = BTreeMap::<u32, TableLockMode>::new();
        for lock in locks {
            if let (Some(oid), Some(mode)) = (lock.relation(), lock.mode.table_lock_mode()) {
                let strongest = modes.entry(oid).or_insert(mode);
                *strongest = mode.max(*strongest);
            }
        }
        if modes.is_empty() {
            return Ok(Vec::new());
        }
        type Columns = <RelationsWithOids as Query>::SqlType;
        let query = RelationsWithOids(modes.keys().copied().collect());
        let mut driver = uncached(self.conn);
        let relations = run_ready(driver.load::<_, Columns, LockedRelation>(query))?;
        let tables = relations
            .into_iter()
            .filter(|it| is_table(&it.kind) && it.schema != "pg_catalog");
        let lock = |relation: LockedRelation| {
            let mode = *modes.get(&relation.oid)?;
            Some(TakenLock { relation, mode })
        };
        Ok(tables.filter_map(lock).collect())
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

pub(crate) fn is_table(kind: &RelationKind) -> bool {
    use RelationKind::*;
    matches!(
        kind,
        Table | PartitionedTable | ForeignTable | MaterializedView | View
    )
}
