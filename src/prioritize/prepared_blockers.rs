//! The prepared transactions that block a session.
//!
//! `pg_blocking_pids` lists each of them as a 0. Their locks in `pg_locks` tell them apart.

use diesel::expression::Selectable;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer, Text};

use crate::error::Result;
use crate::session::{ColumnsOf, Driver, query, render};
use crate::signal::OBJECT;
use crate::tables::pg_locks;
use crate::types::LockMode;
use crate::views::{PgLock, PreparedTransaction};

/// Returns the prepared transactions that block one of these processes, each once, with the lock
/// that the process waits for.
pub(super) async fn read_prepared_blockers(
    driver: &mut impl Driver,
    processes: Vec<i32>,
) -> Result<Vec<(PgLock, PreparedTransaction)>> {
    let awaited = PgLock::query()
        .filter(pg_locks::pid.eq_any(processes.clone()))
        .filter(diesel::dsl::not(pg_locks::granted))
        .order_by(pg_locks::pid);
    let awaited = driver.load::<_, ColumnsOf<PgLock>, PgLock>(awaited).await?;
    let held = driver.load::<_, Columns, HeldLock>(ReadPreparedBlockers { processes });
    let held = held.await?;
    let mut blockers: Vec<(PgLock, PreparedTransaction)> = Vec::new();
    for lock in awaited {
        for prepared in held.iter().filter_map(|it| it.blocker_of(&lock)) {
            let is_same = |it: &(_, PreparedTransaction)| it.1.is_same(prepared);
            if !blockers.iter().any(is_same) {
                blockers.push((lock.clone(), prepared.clone()));
            }
        }
    }
    Ok(blockers)
}

/// Reads the locks of prepared transactions on what some processes wait for.
#[derive(Debug)]
struct ReadPreparedBlockers {
    processes: Vec<i32>,
}

/// A lock of a prepared transaction on what a process waits for.
#[derive(Debug, Queryable)]
struct HeldLock {
    process: i32,
    awaited: LockMode,
    held: LockMode,
    prepared: PreparedTransaction,
}

type Columns = (Integer, Text, Text, ColumnsOf<PreparedTransaction>);

query!(ReadPreparedBlockers => Columns, HeldLock);

impl HeldLock {
    /// Returns the prepared transaction if its lock blocks this awaited lock.
    fn blocker_of(&self, lock: &PgLock) -> Option<&PreparedTransaction> {
        let is_awaited = lock.pid == Some(self.process) && lock.mode == self.awaited;
        (is_awaited && self.awaited.conflicts_with(&self.held)).then_some(&self.prepared)
    }
}

impl QueryFragment<Pg> for ReadPreparedBlockers {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "WITH locks AS MATERIALIZED (SELECT l.pid, l.granted, l.mode, l.locktype, \
             l.virtualtransaction, l.transactionid, ",
        );
        out.push_sql(OBJECT);
        out.push_sql(
            " AS object FROM pg_catalog.pg_lock_status() AS l), \
             held AS (SELECT l.* FROM locks AS l WHERE l.granted AND l.pid IS NULL) \
             SELECT w.pid, w.mode, h.mode, ",
        );
        out.push_sql(&render(
            &<PreparedTransaction as Selectable<Pg>>::construct_selection(),
        )?);
        out.push_sql(
            " FROM locks AS w JOIN held AS h ON h.object OPERATOR(pg_catalog.=) w.object \
             JOIN held AS x ON x.locktype OPERATOR(pg_catalog.=) 'transactionid' \
             AND x.virtualtransaction OPERATOR(pg_catalog.=) h.virtualtransaction \
             JOIN pg_catalog.pg_prepared_xacts \
             ON pg_prepared_xacts.transaction OPERATOR(pg_catalog.=) x.transactionid \
             WHERE NOT w.granted AND w.pid OPERATOR(pg_catalog.=) ANY (",
        );
        out.push_bind_param::<Array<Integer>, _>(&self.processes)?;
        out.push_sql(")");
        Ok(())
    }
}
