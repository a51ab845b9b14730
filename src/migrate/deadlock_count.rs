//! The deadlocks that the server has counted in this database.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Bool, Integer};
use diesel::{Connection, QueryResult};

use crate::error::Result;
use crate::session::{Driver, query, run_ready, uncached};
use crate::views::CURRENT_DATABASE_OID;

/// The time after which the statistics show what a session has reported, before PostgreSQL 15:
/// sessions read a file that may be half a second old.
const REPORT_DELAY: Duration = Duration::from_millis(1200);

/// The pause between two reads of that file.
const POLL: Duration = Duration::from_millis(100);

/// Reads the number of deadlocks that the server has counted in this database.
pub(crate) fn deadlock_count<C>(conn: &mut C) -> Result<i64>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    run_ready(uncached(conn).ask(DeadlockCount))
}

/// Reads the same number, after this session has reported its own deadlocks.
///
/// Returns early once the number is higher than `previous`.
pub(crate) fn reported_deadlock_count<C>(conn: &mut C, previous: i64) -> Result<i64>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    if run_ready(uncached(conn).ask(CanForceReport))? {
        // The report follows the statement, so a second one reads the count.
        conn.batch_execute("SELECT pg_catalog.pg_stat_force_next_flush()")?;
        return deadlock_count(conn);
    }
    let started = Instant::now();
    let mut count = deadlock_count(conn)?;
    while count <= previous && started.elapsed() < REPORT_DELAY {
        thread::sleep(POLL);
        count = deadlock_count(conn)?;
    }
    Ok(count)
}

/// Reads the server's `deadlock_timeout`, in this session.
pub(crate) fn deadlock_timeout<C>(conn: &mut C) -> Result<Duration>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let millis = run_ready(uncached(conn).ask(DeadlockTimeout))?;
    Ok(Duration::from_millis(millis.unsigned_abs().into()))
}

/// The deadlocks in this database, also for roles without privileges.
#[derive(Debug)]
struct DeadlockCount;

query!(DeadlockCount => BigInt, i64);

impl QueryFragment<Pg> for DeadlockCount {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_stat_get_db_deadlocks(");
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(")");
        Ok(())
    }
}

/// True from PostgreSQL 15 on, where a session can report its statistics at once.
#[derive(Debug)]
struct CanForceReport;

query!(CanForceReport => Bool, bool);

impl QueryFragment<Pg> for CanForceReport {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.to_regprocedure('pg_catalog.pg_stat_force_next_flush()') IS NOT NULL",
        );
        Ok(())
    }
}

/// The `deadlock_timeout` in milliseconds.
#[derive(Debug)]
struct DeadlockTimeout;

query!(DeadlockTimeout => Integer, i32);

impl QueryFragment<Pg> for DeadlockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT (extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')\
             ::pg_catalog.interval) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int4",
        );
        Ok(())
    }
}
