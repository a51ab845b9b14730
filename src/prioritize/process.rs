//! The waits that lead from the prioritized session to its blockers, as the server shows them.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::session::query;
use crate::signal::{AWAITED, CONCURRENT_INDEXES, IS_MARK, WAIT_START};

/// Reads the sessions that block one session, directly or through others, and their processes.
///
/// It follows `pg_blocking_pids` from that session, so that the waits of strangers cost
/// nothing. The function includes the waits of a session's parallel workers, which only a
/// role with the privilege can tell from other processes.
///
/// The locks are read first: a wait that still continues later had the blockers that were read
/// in between.
#[derive(Debug)]
pub(super) struct Processes {
    pub(super) prioritized: i32,
}

/// A session on the way to a root, a parallel worker of one, or a watcher.
#[derive(Debug, diesel::Queryable)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The session: the process itself, or the leader of its parallel query.
    pub(super) session: i32,
    /// The blockers; `None` unless the process is a session on the way.
    pub(super) blockers: Option<Vec<i32>>,
    /// The awaited lock, see [`AWAITED`].
    pub(super) awaited: Option<String>,
    pub(super) wait_start: Option<DateTime<Utc>>,
    /// The virtual transaction; `None` outside a transaction.
    pub(super) virtual_transaction: Option<String>,
    /// The sessions that it marks as prioritized, if it is a watcher.
    pub(super) marks: Vec<i64>,
    /// Is `true` if it builds an index concurrently, or may do so.
    pub(super) builds_index: bool,
}

type ProcessColumns = (
    Integer,
    Integer,
    Nullable<Array<Integer>>,
    Nullable<Text>,
    Nullable<Timestamptz>,
    Nullable<Text>,
    Array<BigInt>,
    Bool,
);

query!(Processes => ProcessColumns, Process);

impl QueryFragment<Pg> for Processes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH RECURSIVE locks AS MATERIALIZED (");
        LocksByProcess.walk_ast(out.reborrow())?;
        // Counting them reads the locks before the walk begins.
        out.push_sql(
            "), walk(pid) AS (SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM locks) >= 0::pg_catalog.int8 THEN ",
        );
        out.push_bind_param::<Integer, _>(&self.prioritized)?;
        out.push_sql(
            " END UNION SELECT b.pid FROM walk AS w CROSS JOIN LATERAL \
             pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(pid)), \
             edges AS MATERIALIZED (SELECT w.pid, pg_catalog.pg_blocking_pids(w.pid) AS blockers FROM walk AS w), \
             workers AS MATERIALIZED (SELECT a.pid, a.leader_pid FROM pg_catalog.pg_stat_get_activity(NULL) AS a \
             WHERE a.backend_type = 'parallel worker' AND a.leader_pid IN (SELECT e.pid FROM edges AS e)) \
             SELECT coalesce(e.pid, p.pid), coalesce(w.leader_pid, e.pid, p.pid), e.blockers, p.awaited, \
             p.wait_start, p.virtualtransaction, coalesce(p.marks, '{}'), EXISTS (SELECT FROM ",
        );
        out.push_sql(CONCURRENT_INDEXES);
        out.push_sql(
            " AS i WHERE i.pid = e.pid) FROM (locks AS p LEFT JOIN workers AS w ON w.pid = p.pid) FULL JOIN edges AS e ON e.pid = p.pid \
             WHERE e.pid IS NOT NULL OR w.pid IS NOT NULL OR p.marks IS NOT NULL",
        );
        Ok(())
    }
}

/// Reads `pg_locks` once, and groups what matters of it by process.
///
/// A process waits for one lock, and shows one virtual transaction, which it holds a lock on.
struct LocksByProcess;

impl QueryFragment<Pg> for LocksByProcess {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT l.pid, pg_catalog.min(");
        out.push_sql(AWAITED);
        out.push_sql(") FILTER (WHERE NOT l.granted) AS awaited, pg_catalog.min(");
        out.push_sql(WAIT_START);
        out.push_sql(
            ") FILTER (WHERE NOT l.granted) AS wait_start, pg_catalog.min(l.virtualtransaction) \
             FILTER (WHERE NOT l.granted OR l.locktype = 'virtualxid') AS virtualtransaction, \
             pg_catalog.array_agg(l.objid::pg_catalog.int8) FILTER (WHERE ",
        );
        out.push_sql(IS_MARK);
        out.push_sql(
            ") AS marks FROM pg_catalog.pg_locks AS l WHERE l.pid IS NOT NULL \
             AND (NOT l.granted OR l.locktype = 'virtualxid' OR ",
        );
        out.push_sql(IS_MARK);
        out.push_sql(") GROUP BY l.pid");
        Ok(())
    }
}
