//! Locks that a migration takes before its own statements: all or none.
//!
//! A session that holds one lock while it waits for the next can deadlock with a session that
//! takes them in another order, and blocks others for longer. So it waits for one table with no
//! other lock, and takes the others only if they are free; else it releases the first, and waits
//! for the missing one.

use std::fmt;
use std::time::{Duration, Instant};
use std::{error, thread};

use diesel::Connection;
use diesel::pg::Pg;
use diesel::result::{Error as DieselError, QueryResult};

use super::applied_migrations::BoxedError;
use super::backoff::fraction;
use super::identifier::{parse_name, render};
use crate::types::{RelationKind, TableLockMode};
use crate::views::PgLock;

/// The mean pause after a table was found locked, so that two sessions do not take turns forever.
const PAUSE: Duration = Duration::from_millis(5);

/// A table lock that a migration takes first.
#[derive(Clone, Debug)]
pub(crate) struct FirstLock {
    /// The table as SQL, or the reason why it has no name.
    table: Result<String, String>,
    mode: TableLockMode,
}

impl FirstLock {
    pub(crate) fn rendered(table: QueryResult<String>, mode: TableLockMode) -> Self {
        let table = table.map_err(|error| error.to_string());
        Self { table, mode }
    }

    /// Reads a name as SQL does: `table` or `schema.table`, in lower case unless quoted.
    pub(crate) fn named(name: &str, mode: TableLockMode) -> Self {
        let parts = parse_name(name).ok_or_else(|| format!("`{name}` is not the name of a table"));
        let parts = parts.map(|parts| render(parts.iter().map(String::as_str)));
        let table = parts.and_then(|table| table.map_err(|error| error.to_string()));
        Self { table, mode }
    }

    /// Returns the same lock again; `None` unless it is on a table that can be locked.
    fn like(lock: &PgLock) -> Option<Self> {
        use RelationKind::{PartitionedTable, Table};
        let relation = lock.relation.as_ref();
        let relation = relation.filter(|it| matches!(it.kind, Table | PartitionedTable))?;
        let name = render([&*relation.schema, &*relation.name].into_iter());
        Some(Self::rendered(name, lock.mode.table_lock_mode()?))
    }

    fn statement(&self, nowait: &str) -> QueryResult<String> {
        let table = self.table.as_ref();
        let table = table.map_err(|error| DieselError::QueryBuilderError(error.clone().into()))?;
        Ok(format!("LOCK TABLE {table} IN {} MODE{nowait}", self.mode))
    }
}

/// The locks of one attempt at a migration.
#[derive(Debug, Default)]
pub(crate) struct LocksFirst {
    locks: Vec<FirstLock>,
    /// The limit of all rounds together; `None`: no limit.
    timeout: Option<Duration>,
}

/// One transaction that takes the locks: the first with a wait, the others without.
#[derive(Clone, Copy)]
pub(crate) struct Round<'l> {
    locks: &'l [FirstLock],
    first: usize,
}

/// The error of a round.
pub(crate) enum RoundError {
    /// A table is locked, and the transaction rolled back.
    Busy(usize),
    Failed(BoxedError),
}

impl From<DieselError> for RoundError {
    fn from(error: DieselError) -> Self {
        Self::Failed(error.into())
    }
}

impl LocksFirst {
    pub(crate) fn new(locks: Vec<FirstLock>, timeout: Option<Duration>) -> Self {
        Self { locks, timeout }
    }

    /// Sets the limit of all rounds together.
    pub(crate) fn limit(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.locks.is_empty()
    }

    /// Adds locks on further tables.
    pub(crate) fn add<'l>(&mut self, locks: impl Iterator<Item = &'l PgLock>) {
        for lock in locks.filter_map(FirstLock::like) {
            match self.locks.iter_mut().find(|it| it.table == lock.table) {
                Some(known) => known.mode = known.mode.max(lock.mode),
                None => self.locks.push(lock),
            }
        }
    }

    /// Runs rounds until one has got all locks.
    pub(crate) fn rounds<T>(
        &self,
        mut round: impl FnMut(Round<'_>) -> Result<T, RoundError>,
    ) -> Result<T, BoxedError> {
        let (started, mut first) = (Instant::now(), 0);
        loop {
            let locks = &self.locks[..];
            match round(Round { locks, first }) {
                Ok(value) => return Ok(value),
                Err(RoundError::Failed(error)) => return Err(error),
                Err(RoundError::Busy(busy)) => first = busy,
            }
            if self
                .timeout
                .is_some_and(|timeout| started.elapsed() >= timeout)
            {
                return Err(LocksBusy::after(started.elapsed(), &locks[first]).into());
            }
            thread::sleep(PAUSE.mul_f64(0.5 + fraction()));
        }
    }
}

impl Round<'_> {
    /// Takes the locks in an open transaction, which has to be rolled back after an error.
    pub(crate) fn take<C>(self, conn: &mut C) -> Result<(), RoundError>
    where
        C: Connection<Backend = Pg>,
    {
        let Some(first) = self.locks.get(self.first) else {
            return Ok(());
        };
        conn.batch_execute(&first.statement("")?)?;
        for (i, lock) in self.locks.iter().enumerate() {
            let statement = lock.statement(" NOWAIT")?;
            // If it failed for another reason, the wait for this table in the next round does too.
            if i != self.first && conn.batch_execute(&statement).is_err() {
                return Err(RoundError::Busy(i));
            }
        }
        Ok(())
    }
}

/// The locks could not be taken together in time.
#[derive(Debug)]
pub(crate) struct LocksBusy {
    waited: Duration,
    table: String,
}

impl LocksBusy {
    fn after(waited: Duration, lock: &FirstLock) -> Self {
        let table = lock.table.clone().unwrap_or_else(|error| error);
        Self { waited, table }
    }
}

impl fmt::Display for LocksBusy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { waited, table } = self;
        let millis = waited.as_millis();
        write!(
            f,
            "the tables to lock first were not free together within {millis} ms; `{table}` was locked last"
        )
    }
}

impl error::Error for LocksBusy {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_sql_reads_it() {
        let rendered = |name| FirstLock::named(name, TableLockMode::Share).table;
        assert_eq!(rendered("Users"), Ok("\"users\"".to_owned()));
        assert_eq!(rendered("ÄPFEL"), Ok("\"Äpfel\"".to_owned()));
        assert_eq!(
            rendered("shop.orders"),
            Ok("\"shop\".\"orders\"".to_owned())
        );
        assert_eq!(
            rendered("\"My.Shop\".\"a\"\"b\""),
            Ok("\"My.Shop\".\"a\"\"b\"".to_owned())
        );
        for wrong in ["", ".", "a.", "a.b.c", "\"a"] {
            assert!(rendered(wrong).is_err(), "{wrong}");
        }
    }
}
