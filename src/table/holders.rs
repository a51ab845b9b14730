//! The sessions that keep a table lock from being acquired.

use diesel::expression::{Expression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Array, Bool, Nullable, Text};

use super::statement::TableTarget;
use crate::error::Result;
use crate::session::{ColumnsOf, Driver};
#[cfg(feature = "cli")]
use crate::session::{SyncDriver, run_ready};
use crate::tables::pg_locks;
use crate::types::LockMode;
#[cfg(feature = "cli")]
use crate::types::TableLockMode;
use crate::views::PgLock;
use crate::views::own_pid;
use crate::views::{CURRENT_DATABASE_OID, REGCLASS_PREFIX, REGCLASS_SUFFIX};

/// Returns the locks that conflict with a table lock, held ones first; none if they cannot be read.
pub(crate) async fn holders(driver: &mut impl Driver, target: TableTarget) -> Result<Vec<PgLock>> {
    // An error here must not replace "not acquired".
    Ok(conflicting_locks(driver, target).await?.unwrap_or_default())
}

/// Returns the locks that conflict with a lock on a table, for the command.
#[cfg(feature = "cli")]
pub fn table_lock_conflicts(
    conn: &mut diesel::PgConnection,
    table: &str,
    mode: TableLockMode,
    only: bool,
) -> Result<Vec<PgLock>> {
    let target = TableTarget {
        tables: vec![table.to_owned()],
        mode,
        only,
    };
    Ok(run_ready(conflicting_locks(
        &mut SyncDriver(conn),
        target,
    ))??)
}

async fn conflicting_locks(
    driver: &mut impl Driver,
    target: TableTarget,
) -> Result<QueryResult<Vec<PgLock>>> {
    let modes: Vec<LockMode> = target.conflicts();
    let locks = PgLock::query()
        .filter(IsOnAny {
            tables: target.tables,
            only: target.only,
        })
        .filter(pg_locks::mode.eq_any(modes))
        .filter(pg_locks::pid.is_distinct_from(own_pid()))
        .order_by((pg_locks::granted.desc(), pg_locks::pid));
    let locks = driver.load_in_savepoint::<_, ColumnsOf<PgLock>, PgLock>(locks);
    locks.await
}

/// Holds for locks on the tables, those of a view, and unless `only` those that inherit from them.
#[derive(Debug)]
struct IsOnAny {
    /// As SQL spells them.
    tables: Vec<String>,
    only: bool,
}

// What it renders depends on its value.
impl QueryId for IsOnAny {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Expression for IsOnAny {
    type SqlType = Nullable<Bool>;
}

impl<QS> AppearsOnTable<QS> for IsOnAny where pg_locks::pid: AppearsOnTable<QS> {}

impl ValidGrouping<()> for IsOnAny {
    type IsAggregate = is_aggregate::No;
}

/// The tables and views in the definition of a view, which a lock on it takes too.
const OF_VIEW: &str = "SELECT d.refobjid AS id FROM pg_catalog.pg_rewrite AS r \
    JOIN pg_catalog.pg_depend AS d ON d.objid = r.oid \
    AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
    AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
    JOIN pg_catalog.pg_class AS v ON v.oid = r.ev_class AND v.relkind = 'v' \
    WHERE r.ev_class = those.id AND r.ev_type = '1'";

/// The tables that inherit directly.
const INHERITING: &str =
    "SELECT i.inhrelid FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = those.id";

// The array comes from a subquery, so that the tables are looked up once and not per lock.
impl QueryFragment<Pg> for IsOnAny {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "(\"pg_catalog\".\"pg_locks\".\"locktype\" = 'relation' AND \
             \"pg_catalog\".\"pg_locks\".\"database\" IN (0::pg_catalog.oid, ",
        );
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(
            ") AND \"pg_catalog\".\"pg_locks\".\"relation\" = ANY (ARRAY(\
             WITH RECURSIVE those(id) AS (SELECT ",
        );
        out.push_sql(REGCLASS_PREFIX);
        out.push_sql("names.name");
        out.push_sql(REGCLASS_SUFFIX);
        out.push_sql(" FROM pg_catalog.unnest(");
        out.push_bind_param::<Array<Text>, _>(&self.tables)?;
        out.push_sql(") AS names(name)");
        out.push_sql(" UNION SELECT more.id FROM those, LATERAL (");
        out.push_sql(OF_VIEW);
        if !self.only {
            out.push_sql(" UNION ALL ");
            out.push_sql(INHERITING);
        }
        out.push_sql(") AS more) SELECT id FROM those)))");
        Ok(())
    }
}
