use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::schema::{pg_class, pg_locks};
use diesel_pglock::{BlockedPgLock, LockType, PgLock, PreparedTransaction};

use crate::failure::Failure;
use crate::filter::Filter;
use crate::relation;
use crate::row::{Blocker, Row};

/// Which locks are meant.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    pub pids: Vec<i32>,
    pub on: Vec<String>,
    pub filters: Vec<Filter>,
    /// Those that are waited for, each with who is in its way.
    pub blocking: bool,
}

impl Selection {
    /// Finds them, those that are waited for first, and those of the longest wait first of all.
    pub fn load(&self, conn: &mut PgConnection) -> Result<Vec<Row>, Failure> {
        let on: Result<Vec<u32>, Failure> = self
            .on
            .iter()
            .map(|name| relation::find(conn, name))
            .collect();
        let mut rows = match self.blocking {
            true => self.blocked(conn, on?)?,
            false => self.locks(conn, on?)?,
        };
        name_prepared(conn, &mut rows)?;
        rows.retain(|row| self.filters.iter().all(|filter| filter.matches(row)));
        rows.sort_by_key(|row| {
            let (lock, activity) = (&row.lock, row.lock.activity.as_ref());
            // PostgreSQL 13 does not say since when a lock is waited for, but since when its query runs.
            let waits = lock.wait_duration.or(activity.and_then(|it| it.duration));
            let open = activity.and_then(|it| it.transaction_duration);
            let since = if lock.granted { open } else { waits };
            (
                lock.granted,
                Reverse(since),
                lock.pid,
                row.blocker.as_ref().map(|it| it.pid),
            )
        });
        Ok(rows)
    }

    /// All but those that looking takes itself.
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
        let row = |lock| Row {
            lock,
            prepared: None,
            blocker: None,
        };
        Ok(locks.into_iter().map(row).collect())
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
        let row = |blocked: BlockedPgLock| {
            let (pid, activity) = (blocked.blocking_pid, blocked.blocking_activity);
            Row {
                lock: blocked.lock,
                prepared: None,
                blocker: Some(Blocker {
                    pid,
                    prepared: None,
                    activity,
                }),
            }
        };
        Ok(blocked.into_iter().map(row).collect())
    }
}

/// Adds the names of the prepared transactions that hold locks, and of those in the way.
fn name_prepared(conn: &mut PgConnection, rows: &mut [Row]) -> Result<(), Failure> {
    let blocks = |row: &Row| row.blocker.as_ref().is_some_and(|it| it.pid == 0);
    if !rows.iter().any(|row| row.lock.pid.is_none() || blocks(row)) {
        return Ok(());
    }
    let names = prepared_names(conn)?;
    let held: Vec<PgLock> = PgLock::query().filter(pg_locks::pid.is_null()).load(conn)?;
    for row in rows {
        if row.lock.pid.is_none() {
            row.prepared = names.get(&row.lock.virtual_transaction).cloned();
        }
        if let Some(blocking) = row.blocker.as_mut().filter(|it| it.pid == 0) {
            let held = held.iter().filter(|it| is_in_the_way(it, &row.lock));
            let held = held.filter_map(|it| names.get(&it.virtual_transaction));
            let gids: BTreeSet<&str> = held.map(String::as_str).collect();
            let gids: Vec<&str> = gids.into_iter().collect();
            blocking.prepared = Some(gids.join(", ")).filter(|gids| !gids.is_empty());
        }
    }
    Ok(())
}

fn is_in_the_way(held: &PgLock, wanted: &PgLock) -> bool {
    let target = |lock: &PgLock| (lock.database.clone(), lock.target().to_string());
    target(held) == target(wanted) && held.mode.conflicts_with(&wanted.mode)
}

/// The names of prepared transactions, by what their locks have in common.
pub fn prepared_names(conn: &mut PgConnection) -> Result<HashMap<String, String>, Failure> {
    let locks: Vec<PgLock> = PgLock::query()
        .filter(pg_locks::pid.is_null())
        .lock_type(LockType::TransactionId)
        .load(conn)?;
    let prepared: Vec<PreparedTransaction> = PreparedTransaction::query().load(conn)?;
    let name = |lock: &PgLock| {
        let of_lock = |it: &&PreparedTransaction| Some(it.transaction_id) == lock.transaction_id;
        prepared.iter().find(of_lock).map(|it| it.gid.clone())
    };
    let names = locks
        .iter()
        .filter_map(|lock| Some((lock.virtual_transaction.clone(), name(lock)?)));
    Ok(names.collect())
}
