//! The statement behind [`WaitGraph`](crate::WaitGraph).

use diesel::expression::Selectable;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryBuilder, QueryFragment};
use diesel::sql_types::{Array, Integer, Nullable, Text};

use crate::session::ColumnsOf;
use crate::session::query;
use crate::types::LossyText;
use crate::views::PgLock;

/// Reads the locks on all things that somebody waits for, in one snapshot.
///
/// `pg_locks` is copied once, and not at all when nobody waits. Who waits is told
/// by `pg_stat_activity`, which is cheap; but where this role may not look at a
/// session it does not tell, and `pg_locks` has to.
#[derive(Clone, Copy, Debug)]
pub struct ContestedLocks;

/// A lock with its session, for a worker of a parallel query its leader's, the sessions in its way if it is awaited, and the name of the prepared transaction that holds it.
#[derive(Debug, Queryable)]
pub struct ContestedLock {
    pub lock: PgLock,
    pub blocking_pids: Option<Vec<i32>>,
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub gid: Option<String>,
}

/// The SQL types of a [`ContestedLock`].
pub type Columns = (ColumnsOf<PgLock>, Nullable<Array<Integer>>, Nullable<Text>);

query!(ContestedLocks => Columns, ContestedLock);

/// What makes two locks be on the same thing. NULLs go with the type, so that a 0 for them mistakes nothing.
const THING: &str = "locktype, COALESCE(database, 0), COALESCE(relation, 0), COALESCE(page, 0), \
    COALESCE(tuple, 0), COALESCE(virtualxid, ''), COALESCE(transactionid::text, ''), \
    COALESCE(classid, 0), COALESCE(objid, 0), COALESCE(objsubid, 0)";

impl QueryFragment<Pg> for ContestedLocks {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "WITH sessions AS MATERIALIZED (SELECT * FROM pg_catalog.pg_stat_activity), \
             locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks WHERE EXISTS \
             (SELECT FROM sessions WHERE wait_event_type = 'Lock' OR backend_type IS NULL)), \
             prepared AS MATERIALIZED (SELECT virtualtransaction, gid FROM locks \
             JOIN pg_catalog.pg_prepared_xacts ON transaction = transactionid \
             WHERE pid IS NULL AND locktype = 'transactionid' AND granted) SELECT ",
        );
        out.push_sql(&columns()?);
        out.push_sql(
            ", CASE WHEN NOT locks.granted THEN pg_catalog.pg_blocking_pids(locks.pid) END, prepared.gid \
             FROM locks LEFT JOIN pg_catalog.pg_database ON pg_database.oid = locks.database \
             LEFT JOIN pg_catalog.pg_class ON pg_class.oid = locks.relation \
             AND (locks.database = 0::pg_catalog.oid OR pg_database.datname = pg_catalog.current_database()) \
             LEFT JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pg_class.relnamespace \
             LEFT JOIN sessions AS process ON process.pid = locks.pid \
             LEFT JOIN sessions ON sessions.pid = CASE process.backend_type \
             WHEN 'parallel worker' THEN process.leader_pid ELSE locks.pid END \
             LEFT JOIN prepared ON locks.pid IS NULL \
             AND prepared.virtualtransaction = locks.virtualtransaction WHERE (",
        );
        out.push_sql(THING);
        out.push_sql(") IN (SELECT ");
        out.push_sql(THING);
        out.push_sql(" FROM locks WHERE NOT granted)");
        Ok(())
    }
}

/// The columns of a [`PgLock`], taken from the snapshot instead of the views.
fn columns() -> QueryResult<String> {
    let mut sql = PgQueryBuilder::new();
    PgLock::construct_selection().to_sql(&mut sql, &Pg)?;
    Ok(sql
        .finish()
        .replace(r#""pg_catalog"."pg_locks""#, "locks")
        .replace(r#""pg_catalog"."pg_stat_activity""#, "sessions"))
}
