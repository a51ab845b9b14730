//! The statements of the watcher, cheapest first.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};

use crate::Result;
use crate::driver::Driver;
use crate::expression::optional;
use crate::mark::{IS_MARK, walk_mark};
use crate::statement::query;

/// Who we are: the pid alone could have been given to another by the time it is looked for.
#[derive(Debug)]
pub(crate) struct Identify;

query!(Identify => (Integer, Nullable<Timestamptz>), (i32, Option<DateTime<Utc>>));

impl QueryFragment<Pg> for Identify {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.pg_backend_pid(), (SELECT a.backend_start \
             FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = pg_catalog.pg_backend_pid())",
        );
        Ok(())
    }
}

/// The session that is let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Us {
    pub(crate) pid: i32,
    pub(crate) backend_start: Option<DateTime<Utc>>,
}

impl Us {
    pub(crate) async fn identify(driver: &mut impl Driver) -> Result<Self> {
        let (pid, backend_start) = driver.ask(Identify).await?;
        Ok(Self { pid, backend_start })
    }
}

/// Whether it is there, as far as this role may look.
impl QueryFragment<Pg> for Us {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS us WHERE us.pid = ");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        // A role that may not look sees NULL there.
        out.push_sql(" AND (us.backend_start IS NULL OR us.backend_start = coalesce(");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.backend_start)?;
        out.push_sql(", us.backend_start)))");
        Ok(())
    }
}

/// What the watcher has to know of its own session before it may signal anybody: whether
/// it sees us, on our server, and whether it may write to the signal log.
///
/// If it may go on it also marks us, and tells whether it did.
#[derive(Debug)]
pub(crate) struct CheckWatcher {
    pub(crate) us: Us,
    /// Whether it has to write to the signal log.
    pub(crate) audit: bool,
}

query!(CheckWatcher => (Bool, Bool, Nullable<Bool>), (bool, bool, Option<bool>));

impl QueryFragment<Pg> for CheckWatcher {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT c.sees_us, c.has_log, CASE WHEN c.sees_us AND (c.has_log OR NOT ");
        out.push_bind_param::<Bool, _>(&self.audit)?;
        out.push_sql(") THEN ");
        walk_mark(&self.us.pid, out.reborrow())?;
        out.push_sql(" END FROM (SELECT ");
        self.us.walk_ast(out.reborrow())?;
        out.push_sql(
            " AS sees_us, EXISTS (SELECT FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'pglock' AND c.relname = 'signal_log' \
             AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
             AND pg_catalog.has_table_privilege(c.oid, 'INSERT')) AS has_log OFFSET 0) AS c",
        );
        Ok(())
    }
}

/// Who is in the way of one session: all that is asked as long as it is nobody.
#[derive(Debug)]
pub(crate) struct BlockingPids(pub(crate) i32);

query!(BlockingPids => Array<Integer>, Vec<i32>);

impl QueryFragment<Pg> for BlockingPids {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_blocking_pids(");
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}

/// Tells an awaited lock from others: its mode, and all that names the thing.
pub(crate) const AWAITED: &str = "pg_catalog.format('%s %s %s %s %s %s %s %s %s %s %s', l.mode, l.locktype, \
    l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid)";

/// When the wait for the lock `l` began; NULL on PostgreSQL 13.
pub(crate) const WAIT_START: &str = optional!("l", "waitstart", "timestamptz");

/// Reads the locks of the server: a row for each process that holds or awaits one, with the
/// session that it works for, which alone others wait for.
///
/// Not from `pg_stat_activity`, which shows a role without `pg_read_all_stats`
/// nobody else's waits.
#[derive(Debug)]
pub(crate) struct Processes;

/// A process that holds or awaits a lock.
#[derive(Debug, diesel::Queryable)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Its own, unless it works for a parallel query.
    pub(crate) session: i32,
    /// Empty unless it waits.
    pub(crate) blockers: Vec<i32>,
    /// What it waits for; see [`AWAITED`].
    pub(crate) awaited: Option<String>,
    pub(crate) wait_start: Option<DateTime<Utc>>,
    pub(crate) virtual_transaction: String,
    /// The sessions that it marks, if it is a watcher's.
    pub(crate) marks: Vec<i64>,
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
        // pg_locks is read once, and grouped first: pg_blocking_pids holds up the server's
        // whole lock table. A process waits for one lock, and shows one virtual transaction.
        out.push_sql(
            "SELECT p.pid, coalesce(a.leader_pid, p.pid), CASE WHEN p.awaited IS NULL THEN '{}' \
             ELSE pg_catalog.pg_blocking_pids(p.pid) END, p.awaited, p.wait_start, p.virtualtransaction, p.marks \
             FROM (SELECT l.pid, pg_catalog.min(",
        );
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
            "), '{}') AS marks FROM pg_catalog.pg_locks AS l WHERE l.pid IS NOT NULL GROUP BY l.pid OFFSET 0) AS p \
             LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = p.pid \
             AND a.backend_type = 'parallel worker'",
        );
        Ok(())
    }
}

/// Whether commits wait for a standby. Asked only where the sessions that do so are not to be
/// told from others.
#[derive(Debug)]
pub(crate) struct HasSynchronousStandby;

query!(HasSynchronousStandby => Bool, bool);

impl QueryFragment<Pg> for HasSynchronousStandby {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(HAS_SYNCHRONOUS_STANDBY);
        Ok(())
    }
}

/// Every role may read this setting.
pub(crate) const HAS_SYNCHRONOUS_STANDBY: &str =
    "pg_catalog.current_setting('synchronous_standby_names') <> ''";

/// What a session holds, for the signal log: one `mode on thing` each, in alphabetical order.
#[derive(Debug)]
pub(crate) struct HeldBy(pub(crate) i32);

query!(HeldBy => Array<Text>, Vec<String>);

impl QueryFragment<Pg> for HeldBy {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT coalesce(pg_catalog.array_agg(h.held ORDER BY h.held), '{}') FROM (SELECT DISTINCT \
             pg_catalog.concat(l.mode, ' on ', CASE WHEN c.oid IS NOT NULL \
             THEN pg_catalog.concat(n.nspname, '.', c.relname) \
             WHEN l.relation IS NOT NULL THEN l.relation::text \
             WHEN l.locktype = 'advisory' \
             THEN pg_catalog.concat('advisory ', l.classid, ', ', l.objid, ', ', l.objsubid) \
             ELSE l.locktype END) AS held \
             FROM pg_catalog.pg_locks AS l \
             LEFT JOIN pg_catalog.pg_class AS c ON c.oid = l.relation AND l.database IN (0::pg_catalog.oid, \
             (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())) \
             LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE l.granted AND l.locktype <> 'virtualxid' AND l.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(") AS h");
        Ok(())
    }
}
