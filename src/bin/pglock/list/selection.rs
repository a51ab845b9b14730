//! The locks that a list selects.

use std::cmp::Reverse;

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{pg_class, pg_locks};
use diesel_pglock::{BlockedPgLock, PgLock};

use super::filter::Filter;
use super::prepared;
use super::relation;
use super::row::Row;
use crate::failure::Failure;

/// The locks to list.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub pids: Vec<i32>,
    pub on: Vec<String>,
    pub filters: Vec<Filter>,
    /// Selects only locks that sessions wait for, each with its blockers.
    pub blocking: bool,
}

impl Selection {
    /// Loads the rows: the longest waits first, held locks last.
    pub fn load(&self, conn: &mut PgConnection) -> Result<Vec<Row>, Failure> {
        let on = self.on.iter().map(|name| relation::find(conn, name));
        let on = on.collect::<Result<Vec<u32>, Failure>>()?;
        let mut rows = if self.blocking {
            self.blocked(conn, on)?
        } else {
            self.locks(conn, on)?
        };
        prepared::add_names(conn, &mut rows)?;
        rows.retain(|row| self.filters.iter().all(|filter| filter.matches(row)));
        sort(&mut rows);
        Ok(rows)
    }

    /// Leaves out the locks of the own session, which only this query takes.
    fn locks(&self, conn: &mut PgConnection, on: Vec<u32>) -> Result<Vec<Row>, Failure> {
        let own = conn.backend_pid()?;
        let mut query = PgLock::query()
            .filter(pg_locks::pid.is_distinct_from(own))
            .into_boxed();
        if !self.pids.is_empty() {
            query = query.filter(pg_locks::pid.eq_any(&self.pids));
        }
        if !on.is_empty() {
            query = query.filter(pg_class::oid.eq_any(on));
        }
        let locks: Vec<PgLock> = query.load(conn)?;
        Ok(locks.into_iter().map(Row::from).collect())
    }

    fn blocked(&self, conn: &mut PgConnection, on: Vec<u32>) -> Result<Vec<Row>, Failure> {
        let mut query = BlockedPgLock::query().into_boxed();
        if !self.pids.is_empty() {
            query = query.filter(pg_locks::pid.eq_any(&self.pids));
        }
        if !on.is_empty() {
            query = query.filter(pg_class::oid.eq_any(on));
        }
        let blocked: Vec<BlockedPgLock> = query.load(conn)?;
        Ok(blocked.into_iter().map(Row::from).collect())
    }
}

fn sort(rows: &mut [Row]) {
    rows.sort_by_key(|row| {
        let blocker = row.blocker.as_ref().map(|it| it.pid);
        let age = Reverse(age(&row.lock));
        (row.lock.granted, age, row.lock.pid, blocker)
    });
}

/// Returns how long a wait lasts, or the transaction that holds the lock.
fn age(lock: &PgLock) -> Option<chrono::TimeDelta> {
    let activity = lock.activity.as_ref();
    if lock.granted {
        return activity.and_then(|it| it.transaction_duration);
    }
    // PostgreSQL 13 has no `waitstart`: the age of the query is the best estimate.
    lock.wait_duration.or(activity.and_then(|it| it.duration))
}
