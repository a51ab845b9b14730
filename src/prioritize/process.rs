//! The processes that hold or await locks.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, BigInt, Integer, Nullable, Text, Timestamptz};

use crate::session::query;
use crate::signal::IS_MARK;
use crate::signal::{AWAITED, WAIT_START};

/// Reads the locks of the server: a row for each process that holds or awaits one.
///
/// A row contains the session that the process works for, since blockers are sessions. The
/// waits come from `pg_locks`: `pg_stat_activity` shows them only to a role with
/// `pg_read_all_stats`.
#[derive(Debug)]
pub(super) struct Processes;

/// A process that holds or awaits a lock.
#[derive(Debug, diesel::Queryable)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The session: the process itself, or the leader of its parallel query.
    pub(super) session: i32,
    /// The blockers; empty if the process does not wait.
    pub(super) blockers: Vec<i32>,
    /// The awaited lock, see [`AWAITED`].
    pub(super) awaited: Option<String>,
    pub(super) wait_start: Option<DateTime<Utc>>,
    pub(super) virtual_transaction: String,
    /// The sessions that it marks as prioritized, if it is a watcher.
    pub(super) marks: Vec<i64>,
}

type ProcessColumns = (
    Integer,
    Integer,
    Array<Integer>,
    Nullable<Text>,
    Nullable<Timestamptz>,
    Text,
    Array<BigInt>,
);

query!(Processes => ProcessColumns, Process);

impl QueryFragment<Pg> for Processes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT p.pid, coalesce(a.leader_pid, p.pid), CASE WHEN p.awaited IS NULL THEN '{}' \
             ELSE pg_catalog.pg_blocking_pids(p.pid) END, p.awaited, p.wait_start, p.virtualtransaction, p.marks \
             FROM (",
        );
        LocksByProcess.walk_ast(out.reborrow())?;
        out.push_sql(
            " OFFSET 0) AS p LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = p.pid \
             AND a.backend_type = 'parallel worker'",
        );
        Ok(())
    }
}

/// Reads `pg_locks` once, and groups it by process.
///
/// It is grouped before `pg_blocking_pids` is called, since that function holds up the server's
/// whole lock table. A process waits for one lock, and shows one virtual transaction.
struct LocksByProcess;

impl QueryFragment<Pg> for LocksByProcess {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT l.pid, pg_catalog.min(");
        out.push_sql(AWAITED);
        out.push_sql(") FILTER (WHERE NOT l.granted) AS awaited, pg_catalog.min(");
        out.push_sql(WAIT_START);
        out.push_sql(
            ") FILTER (WHERE NOT l.granted) AS wait_start, \
             pg_catalog.min(l.virtualtransaction) AS virtualtransaction, \
             coalesce(pg_catalog.array_agg(l.objid::pg_catalog.int8) FILTER (WHERE ",
        );
        out.push_sql(IS_MARK);
        out.push_sql(
            "), '{}') AS marks FROM pg_catalog.pg_locks AS l WHERE l.pid IS NOT NULL GROUP BY l.pid",
        );
        Ok(())
    }
}
