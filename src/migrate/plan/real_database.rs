//! The real database beside the plan: sizes, and the sessions that hold locks. It is only read.

use std::collections::{BTreeSet, HashMap};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment};
use diesel::sql_types::{BigInt, Double, Nullable, Oid, Text};

use super::migration_plan::PlannedRelation;
use super::relations::Relation;
use crate::error::Result;
use crate::query_dsl::PgLockDsl;
use crate::session::{ColumnsOf, Driver, query, run_ready, uncached};
use crate::tables::{pg_locks, pg_stat_activity};
use crate::types::{LockMode, LockType, TableLockMode};
use crate::views::{PgActivity, PgLock, own_pid};

/// The schema and the name of a relation.
pub(super) type RelationName = (String, String);

/// The relations of a plan, as they are in the real database.
#[derive(Debug, Default)]
pub(super) struct RealDatabase {
    relations: HashMap<RelationName, RealRelation>,
    /// The locks that sessions hold or await on them.
    locks: Vec<PgLock>,
    pub(super) oldest_transaction: Option<PgActivity>,
}

/// A relation, its estimated number of rows, and its size.
#[derive(Clone, Debug, Queryable)]
struct RealRelation {
    oid: u32,
    rows: f64,
    size: i64,
}

impl RealDatabase {
    /// Reads catalogs and the lock table; this locks none of the relations.
    pub(super) fn read<C>(conn: &mut C, names: &BTreeSet<RelationName>, name: &str) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let mut database = Self::default();
        for name in names {
            let find = FindRelation(name.clone());
            type Columns = <FindRelation as Query>::SqlType;
            let found = run_ready(uncached(conn).load::<_, Columns, RealRelation>(find))?;
            let found = found.into_iter().map(|it| (name.clone(), it));
            database.relations.extend(found);
        }
        database.locks = database.read_locks(conn)?;
        database.oldest_transaction = oldest_transaction(conn, name)?;
        Ok(database)
    }

    fn read_locks<C>(&self, conn: &mut C) -> Result<Vec<PgLock>>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let oids: Vec<u32> = self.relations.values().map(|it| it.oid).collect();
        if oids.is_empty() {
            return Ok(Vec::new());
        }
        let query = PgLock::query()
            .current_database()
            .filter(pg_locks::locktype.eq(LockType::Relation))
            .filter(pg_locks::relation.eq_any(oids))
            .filter(pg_locks::pid.is_distinct_from(own_pid()));
        Ok(run_ready(
            uncached(conn).load::<_, ColumnsOf<PgLock>, PgLock>(query),
        )?)
    }

    /// Reads the sizes, which locks each relation for a moment, as a query does.
    ///
    /// A relation that is locked against queries keeps its estimate.
    pub(super) fn read_sizes<C>(&mut self, conn: &mut C) -> Result<()>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let exclusive = LockMode::AccessExclusive;
        let locked: Vec<Option<u32>> = self
            .locks
            .iter()
            .filter(|lock| lock.mode == exclusive)
            .map(|lock| lock.relation_oid)
            .collect();
        for relation in self.relations.values_mut() {
            if !locked.contains(&Some(relation.oid)) {
                let size = run_ready(uncached(conn).ask(RelationSize(relation.oid)))?;
                relation.size = size.unwrap_or(relation.size);
            }
        }
        Ok(())
    }

    pub(super) fn relation(&self, relation: &Relation) -> PlannedRelation {
        let (schema, name) = (relation.schema.clone(), relation.name.clone());
        let real = self.relations.get(&(schema.clone(), name.clone()));
        let rows = real.map(|it| it.rows).filter(|rows| *rows >= 0.0);
        PlannedRelation {
            schema,
            name,
            kind: relation.kind,
            exists: real.is_some(),
            size: real.and_then(|it| u64::try_from(it.size).ok()),
            rows: rows.map(|rows| rows as u64),
        }
    }

    /// Returns the locks that a lock in this mode would wait for.
    pub(super) fn holders(&self, relation: &Relation, mode: TableLockMode) -> Vec<PgLock> {
        let name = (relation.schema.clone(), relation.name.clone());
        let Some(real) = self.relations.get(&name) else {
            return Vec::new();
        };
        let conflicts = |lock: &&PgLock| {
            lock.granted
                && lock.relation_oid == Some(real.oid)
                && lock.mode.conflicts_with(&mode.into())
        };
        self.locks.iter().filter(conflicts).cloned().collect()
    }
}

fn oldest_transaction<C>(conn: &mut C, database: &str) -> Result<Option<PgActivity>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let query = PgActivity::query()
        .filter(pg_stat_activity::datname.eq(database.to_owned()))
        .filter(pg_stat_activity::xact_start.is_not_null())
        .filter(pg_stat_activity::pid.nullable().is_distinct_from(own_pid()))
        .order_by(pg_stat_activity::xact_start)
        .limit(1);
    let found = run_ready(uncached(conn).load::<_, ColumnsOf<PgActivity>, PgActivity>(query))?;
    Ok(found.into_iter().next())
}

/// Finds a relation by its name, with the server's estimates of its rows and its size.
#[derive(Debug)]
struct FindRelation(RelationName);

query!(FindRelation => (Oid, Double, BigInt), RealRelation);

impl QueryFragment<Pg> for FindRelation {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            // Before the first ANALYZE there are no pages, and on PostgreSQL 13 no rows.
            "SELECT c.oid, CASE WHEN c.relpages OPERATOR(pg_catalog.=) 0 THEN -1 \
             ELSE c.reltuples::pg_catalog.float8 END, coalesce(( \
             SELECT pg_catalog.sum(f.relpages::pg_catalog.int8) FROM pg_catalog.pg_class AS f \
             WHERE f.oid OPERATOR(pg_catalog.=) c.oid \
             OR f.oid OPERATOR(pg_catalog.=) c.reltoastrelid OR f.oid OPERATOR(pg_catalog.=) ANY ( \
             SELECT i.indexrelid FROM pg_catalog.pg_index AS i \
             WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid)), 0)::pg_catalog.int8 \
             OPERATOR(pg_catalog.*) pg_catalog.current_setting('block_size')::pg_catalog.int8 \
             FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
             ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE n.nspname OPERATOR(pg_catalog.=) ",
        );
        let (schema, name) = &self.0;
        out.push_bind_param::<Text, _>(schema)?;
        out.push_sql("::pg_catalog.name AND c.relname OPERATOR(pg_catalog.=) ");
        out.push_bind_param::<Text, _>(name)?;
        out.push_sql("::pg_catalog.name");
        Ok(())
    }
}

/// Reads the size of a relation, with its indexes and long values.
#[derive(Debug)]
struct RelationSize(u32);

query!(RelationSize => Nullable<BigInt>, Option<i64>);

impl QueryFragment<Pg> for RelationSize {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_total_relation_size(");
        out.push_bind_param::<Oid, _>(&self.0)?;
        out.push_sql(")");
        Ok(())
    }
}
