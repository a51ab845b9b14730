//! The waits that lead from the prioritized session to its blockers, as the server shows them.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Timestamptz};

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

/// A session on the way to a root, or a parallel worker of one.
#[derive(Debug, diesel::Queryable)]
pub(super) struct Process {
    pub(super) pid: i32,
    /// The session: the process itself, or the leader of its parallel query.
    pub(super) session: i32,
    /// The blockers; `None` for a parallel worker.
    pub(super) blockers: Option<Vec<i32>>,
    /// The awaited lock, see [`AWAITED`].
    pub(super) awaited: Option<String>,
    pub(super) wait_start: Option<DateTime<Utc>>,
    /// The virtual transaction; `None` outside a transaction.
    pub(super) virtual_transaction: Option<String>,
    /// Is `true` if it is prioritized too.
    pub(super) is_marked: bool,
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
    Bool,
    Bool,
);

query!(Processes => ProcessColumns, Process);

/// Follows the blockers from the first row of `walk` on.
const WALK: &str = " UNION SELECT b.pid FROM walk AS w CROSS JOIN LATERAL \
    pg_catalog.unnest(pg_catalog.pg_blocking_pids(w.pid)) AS b(pid)), \
    edges AS MATERIALIZED (SELECT w.pid, pg_catalog.pg_blocking_pids(w.pid) AS blockers FROM walk AS w)";

/// Adds the parallel workers to the sessions.
///
/// They are looked for only if the wait of a session is none of its own process.
const WORKERS: &str = ", workers AS MATERIALIZED (SELECT a.pid, a.leader_pid FROM (SELECT WHERE EXISTS (SELECT FROM edges AS e \
    WHERE pg_catalog.cardinality(e.blockers) > 0 \
    AND NOT EXISTS (SELECT FROM locks AS l WHERE l.pid = e.pid AND NOT l.granted))) AS hidden \
    CROSS JOIN LATERAL pg_catalog.pg_stat_get_activity(NULL) AS a \
    WHERE a.backend_type = 'parallel worker' AND a.leader_pid IN (SELECT e.pid FROM edges AS e)), \
    processes(pid, session, blockers) AS (SELECT e.pid, e.pid, e.blockers FROM edges AS e \
    UNION ALL SELECT w.pid, w.leader_pid, NULL FROM workers AS w) ";

impl QueryFragment<Pg> for Processes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "WITH RECURSIVE locks AS MATERIALIZED (SELECT l.* FROM pg_catalog.pg_lock_status() AS l \
             WHERE l.pid IS NOT NULL AND (NOT l.granted OR l.locktype = 'virtualxid' OR ",
        );
        out.push_sql(IS_MARK);
        // Counting them reads the locks before the walk begins.
        out.push_sql(
            ")), walk(pid) AS (SELECT CASE WHEN (SELECT pg_catalog.count(*) FROM locks) >= 0::pg_catalog.int8 THEN ",
        );
        out.push_bind_param::<Integer, _>(&self.prioritized)?;
        out.push_sql(" END");
        out.push_sql(WALK);
        out.push_sql(WORKERS);
        walk_columns(out.reborrow());
        out.push_sql(
            " FROM processes AS p LEFT JOIN locks AS l ON l.pid = p.pid GROUP BY p.pid, p.session, p.blockers",
        );
        Ok(())
    }
}

/// Reads the sessions on the way to the roots, each with its blockers, without their locks.
///
/// Its cost does not depend on the locks and waits of strangers.
#[derive(Debug)]
pub(super) struct ReadEdges {
    pub(super) prioritized: i32,
}

query!(ReadEdges => (Integer, Array<Integer>), (i32, Vec<i32>));

impl QueryFragment<Pg> for ReadEdges {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH RECURSIVE walk(pid) AS (SELECT ");
        out.push_bind_param::<Integer, _>(&self.prioritized)?;
        out.push_sql("::pg_catalog.int4");
        out.push_sql(WALK);
        out.push_sql(" SELECT e.pid, e.blockers FROM edges AS e");
        Ok(())
    }
}

/// Selects the columns of a [`Process`] from its row `p` and its locks `l`.
///
/// A process waits for one lock, and shows one virtual transaction, which it holds a lock on.
fn walk_columns(mut out: AstPass<'_, '_, Pg>) {
    out.push_sql("SELECT p.pid, p.session, p.blockers, pg_catalog.min(");
    out.push_sql(AWAITED);
    out.push_sql(") FILTER (WHERE NOT l.granted), pg_catalog.min(");
    out.push_sql(WAIT_START);
    out.push_sql(
        ") FILTER (WHERE NOT l.granted), pg_catalog.min(l.virtualtransaction) \
         FILTER (WHERE NOT l.granted OR l.locktype = 'virtualxid'), \
         EXISTS (SELECT FROM locks AS l WHERE l.objid::pg_catalog.int8 = p.pid AND ",
    );
    out.push_sql(IS_MARK);
    out.push_sql("), EXISTS (SELECT FROM ");
    out.push_sql(CONCURRENT_INDEXES);
    out.push_sql(" AS i WHERE i.pid = p.pid)");
}
