//! Conditions on a lock that compare it with a given relation or key.

use diesel::expression::{Expression, ValidGrouping, is_aggregate};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::sql_types::{Bool, Nullable, Oid, SmallInt, Text};

use super::blocking_table as blocking;
use super::regclass::{REGCLASS_PREFIX, REGCLASS_SUFFIX};
use super::row_wait::ROW_WAITS;
use super::sql_macro::CURRENT_DATABASE_OID;
use crate::tables::pg_locks;
use crate::types::{AdvisoryKey, LockableTable};

#[diesel::declare_sql_function]
extern "SQL" {
    /// Returns the pid of the session that runs the query.
    #[sql_name = "pg_catalog.pg_backend_pid"]
    fn own_pid() -> Nullable<Integer>;
}

/// The condition that a lock is on a relation, on a page or row of it, or a wait for a row of it.
#[derive(Debug, Clone, QueryId)]
pub struct IsOn {
    /// The name in SQL, quoted where necessary.
    relation: String,
}

impl IsOn {
    pub(crate) fn named(relation: impl Into<String>) -> Self {
        let relation = relation.into();
        Self { relation }
    }

    /// Writes a subquery that returns the `oid` of the relation.
    fn walk_oid<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(REGCLASS_PREFIX);
        out.push_bind_param::<Text, _>(&self.relation)?;
        out.push_sql(REGCLASS_SUFFIX);
        Ok(())
    }

    pub(crate) fn table<T: LockableTable>() -> Self {
        // Only a handwritten table can fail to render; PostgreSQL refuses the empty name.
        Self::named(T::render().unwrap_or_default())
    }
}

// The name is in a subquery, so that it is looked up once, not per lock.
// In another database the same oid may be another relation.
// The locks are read once more, for the rows, only if a session awaits a transaction.
impl QueryFragment<Pg> for IsOn {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("(\"pg_catalog\".\"pg_locks\".\"relation\" = ");
        self.walk_oid(out.reborrow())?;
        out.push_sql(" AND \"pg_catalog\".\"pg_locks\".\"database\" IN (0::pg_catalog.oid, ");
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(
            ") OR (NOT \"pg_catalog\".\"pg_locks\".\"granted\" \
             AND \"pg_catalog\".\"pg_locks\".\"locktype\" = 'transactionid' \
             AND \"pg_catalog\".\"pg_locks\".\"pid\" = ANY (ARRAY(\
             WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks), ",
        );
        out.push_sql(ROW_WAITS);
        out.push_sql(" SELECT w.pid FROM row_waits AS w WHERE w.relation OPERATOR(pg_catalog.=) ");
        self.walk_oid(out.reborrow())?;
        out.push_sql(" AND w.database OPERATOR(pg_catalog.=) ");
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql("))))");
        Ok(())
    }
}

/// The condition that a lock is the advisory lock of a key, in this database.
#[derive(Debug, Clone, QueryId)]
pub struct IsAdvisory {
    classid: u32,
    objid: u32,
    objsubid: i16,
}

impl From<AdvisoryKey> for IsAdvisory {
    fn from(key: AdvisoryKey) -> Self {
        Self {
            classid: key.classid(),
            objid: key.objid(),
            objsubid: key.objsubid(),
        }
    }
}

impl QueryFragment<Pg> for IsAdvisory {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "(\"pg_catalog\".\"pg_locks\".\"locktype\" = 'advisory' \
             AND \"pg_catalog\".\"pg_locks\".\"classid\" = ",
        );
        out.push_bind_param::<Oid, _>(&self.classid)?;
        out.push_sql(" AND \"pg_catalog\".\"pg_locks\".\"objid\" = ");
        out.push_bind_param::<Oid, _>(&self.objid)?;
        out.push_sql(" AND \"pg_catalog\".\"pg_locks\".\"objsubid\" = ");
        out.push_bind_param::<SmallInt, _>(&self.objsubid)?;
        out.push_sql(" AND \"pg_catalog\".\"pg_locks\".\"database\" = ");
        out.push_sql(CURRENT_DATABASE_OID);
        out.push_sql(")");
        Ok(())
    }
}

/// The condition that a blocker does not wait itself.
///
/// The waiters are read once, from one copy of the locks. A process of a parallel query waits
/// for its leader.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct IsRoot;

impl QueryFragment<Pg> for IsRoot {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "(blocking.pid OPERATOR(pg_catalog.<>) ALL (ARRAY(\
             SELECT COALESCE(process.leader_pid, waiter.pid) \
             FROM pg_catalog.pg_locks AS waiter LEFT JOIN pg_catalog.pg_stat_activity AS process \
             ON process.pid OPERATOR(pg_catalog.=) waiter.pid \
             AND process.backend_type OPERATOR(pg_catalog.=) 'parallel worker' \
             WHERE NOT waiter.granted AND waiter.pid IS NOT NULL)))",
        );
        Ok(())
    }
}

impl Expression for IsRoot {
    type SqlType = Bool;
}

impl<QS> AppearsOnTable<QS> for IsRoot where blocking::pid: AppearsOnTable<QS> {}

impl<QS> SelectableExpression<QS> for IsRoot where blocking::pid: SelectableExpression<QS> {}

impl ValidGrouping<()> for IsRoot {
    type IsAggregate = is_aggregate::No;
}

macro_rules! condition_on_pg_locks {
    ($name:ident) => {
        impl Expression for $name {
            type SqlType = Nullable<Bool>;
        }

        impl<QS> AppearsOnTable<QS> for $name where pg_locks::pid: AppearsOnTable<QS> {}

        impl<QS> SelectableExpression<QS> for $name where pg_locks::pid: SelectableExpression<QS> {}

        impl ValidGrouping<()> for $name {
            type IsAggregate = is_aggregate::No;
        }
    };
}

condition_on_pg_locks!(IsOn);
condition_on_pg_locks!(IsAdvisory);
