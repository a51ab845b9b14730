//! What the signal log records about a blocker and the prioritized session.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer, Nullable, Text};

use crate::session::query;
use crate::views::CURRENT_DATABASE_OID;

/// Reads the locks of a blocker, as `mode on object` in alphabetical order, and the query of
/// the prioritized session.
#[derive(Debug)]
pub(super) struct HeldBy {
    pub(super) pid: i32,
    pub(super) prioritized: i32,
}

query!(HeldBy => (Array<Text>, Nullable<Text>), (Vec<String>, Option<String>));

impl QueryFragment<Pg> for HeldBy {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT coalesce(pg_catalog.array_agg(h.held ORDER BY h.held), '{}'), \
             (SELECT pg_catalog.min(a.query) FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.prioritized)?;
        out.push_sql(
            ") FROM (SELECT DISTINCT \
             pg_catalog.concat(l.mode, ' on ', CASE WHEN c.oid IS NOT NULL \
             THEN pg_catalog.concat(n.nspname, '.', c.relname) \
             WHEN l.relation IS NOT NULL THEN l.relation::text \
             WHEN l.locktype = 'advisory' \
             THEN pg_catalog.concat('advisory ', l.classid, ', ', l.objid, ', ', l.objsubid) \
             ELSE l.locktype END) AS held \
             FROM pg_catalog.pg_locks AS l \
             LEFT JOIN pg_catalog.pg_class AS c ON c.oid = l.relation AND l.database IN (0::pg_catalog.oid, ",
        );
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(
            ") LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE l.granted AND l.locktype <> 'virtualxid' AND l.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(") AS h");
        Ok(())
    }
}
