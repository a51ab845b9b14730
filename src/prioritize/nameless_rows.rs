//! The blockers of some processes, read without a catalog.
//!
//! A session may lock a catalog, as `VACUUM FULL pg_class` does. The views of the lock query name
//! relations, and wait then even for the definitions of the views themselves. Functions do not.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer};

use crate::session::{ColumnsOf, query};
use crate::signal::WAIT_START;
use crate::views::{BlockedPgLock, QUERY_ID, UTF8_QUERY};

/// Reads the locks that `processes` await and `blockers` block, as [`BlockedPgLock::query`] does,
/// but without the names of relations and databases of the locks, and the waiter's activity.
#[derive(Debug)]
pub(super) struct NamelessRows {
    pub(super) processes: Vec<i32>,
    pub(super) blockers: Vec<i32>,
}

query!(NamelessRows => ColumnsOf<BlockedPgLock>, BlockedPgLock);

/// The columns of a [`PgLock`](crate::PgLock) from the lock `l`, before the start of its wait.
const LOCK: &str = "l.pid, l.locktype, l.mode, l.granted, l.fastpath, ";

/// The columns of a [`PgLock`](crate::PgLock) behind the duration of its wait.
const OBJECT: &str = ", NULL, l.database, NULL, NULL, NULL, NULL, l.relation, l.locktype, l.classid, \
    l.objid, l.objsubid, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, \
    l.objsubid, NULL, l.virtualtransaction, ";

/// The columns of a missing [`PgActivity`](crate::PgActivity).
const NO_ACTIVITY: &str = "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, \
    NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL";

/// The columns of a [`PgActivity`](crate::PgActivity) from the session `a`, up to its query.
///
/// The names of its role and its database come from the caches of the server. `spare` and policies
/// decide by them.
const ACTIVITY: &str = "a.pid, a.leader_pid, (SELECT o.object_names[1] \
    FROM pg_catalog.pg_identify_object_as_address(1262::pg_catalog.oid, a.datid, 0) AS o), \
    pg_catalog.pg_get_userbyid(a.usesysid), a.application_name, a.client_addr, a.client_hostname, \
    a.client_port, a.backend_type, a.backend_start, a.xact_start, a.query_start, a.state_change, \
    a.state, a.wait_event_type, a.wait_event, a.backend_xid, a.backend_xmin, ";

const FROM: &str = ", pg_catalog.clock_timestamp() - a.query_start, \
    pg_catalog.clock_timestamp() - a.xact_start \
    FROM pg_catalog.pg_lock_status() AS l CROSS JOIN LATERAL (SELECT DISTINCT b.pid \
    FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) AS b(pid)) AS blocking \
    LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(blocking.pid) AS a ON true \
    WHERE NOT l.granted AND l.pid = ANY (";

impl QueryFragment<Pg> for NamelessRows {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        walk_lock(out.reborrow());
        out.push_sql("blocking.pid, ");
        out.push_sql(ACTIVITY);
        out.push_sql(QUERY_ID);
        out.push_sql(", ");
        out.push_sql(UTF8_QUERY);
        out.push_sql(FROM);
        out.push_bind_param::<Array<Integer>, _>(&self.processes)?;
        out.push_sql(") AND blocking.pid = ANY (");
        out.push_bind_param::<Array<Integer>, _>(&self.blockers)?;
        out.push_sql(") ORDER BY blocking.pid, l.pid");
        Ok(())
    }
}

fn walk_lock(mut out: AstPass<'_, '_, Pg>) {
    out.push_sql(LOCK);
    out.push_sql(WAIT_START);
    out.push_sql(", pg_catalog.clock_timestamp() - ");
    out.push_sql(WAIT_START);
    out.push_sql(OBJECT);
    out.push_sql(NO_ACTIVITY);
    out.push_sql(", ");
}
