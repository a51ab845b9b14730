//! The blockers of some processes, read without a catalog.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer};

use crate::session::{ColumnsOf, query};
use crate::views::{BlockedPgLock, NAMELESS_ACTIVITY, NAMELESS_LOCK, NO_ACTIVITY};

/// Reads the locks that `processes` await and `blockers` block, as [`BlockedPgLock::query`] does,
/// but without the names of relations and databases of the locks, and the waiter's activity.
#[derive(Debug)]
pub(super) struct NamelessRows {
    pub(super) processes: Vec<i32>,
    pub(super) blockers: Vec<i32>,
}

query!(NamelessRows => ColumnsOf<BlockedPgLock>, BlockedPgLock);

const FROM: &str = " FROM pg_catalog.pg_lock_status() AS l CROSS JOIN LATERAL (SELECT DISTINCT b.pid \
    FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(l.pid)) AS b(pid)) AS blocking \
    LEFT JOIN LATERAL pg_catalog.pg_stat_get_activity(blocking.pid) AS a ON true \
    WHERE NOT l.granted AND l.pid = ANY (";

impl QueryFragment<Pg> for NamelessRows {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        for part in [
            "SELECT ",
            NAMELESS_LOCK,
            ", ",
            NO_ACTIVITY,
            ", blocking.pid, ",
        ] {
            out.push_sql(part);
        }
        out.push_sql(NAMELESS_ACTIVITY);
        out.push_sql(FROM);
        out.push_bind_param::<Array<Integer>, _>(&self.processes)?;
        out.push_sql(") AND blocking.pid = ANY (");
        out.push_bind_param::<Array<Integer>, _>(&self.blockers)?;
        out.push_sql(") ORDER BY blocking.pid, l.pid");
        Ok(())
    }
}
