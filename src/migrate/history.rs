//! Where Diesel keeps the history of migrations, and the lock named after that.

use diesel::connection::LoadConnection;
use diesel::deserialize::Queryable;
use diesel::migration::MigrationVersion;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment};
use diesel::sql_types::{Nullable, Oid, Text};
use diesel::{Connection, ExpressionMethods, PgExpressionMethods, QueryDsl, QueryResult};

use crate::error::Result;
use crate::query_dsl::PgLockDsl;
use crate::session::run_ready;
use crate::session::uncached;
use crate::session::{ColumnsOf, Driver};
use crate::session::{command, query};
use crate::tables::pg_locks;
use crate::types::{AdvisoryKey, LockMode};
use crate::views::PgLock;
use crate::views::own_pid;

/// The name that Diesel gives the table.
pub(crate) const HISTORY: &str = "__diesel_schema_migrations";

/// The history that Diesel would use.
///
/// Diesel makes the table in the first schema of the `search_path`, even if a later one has it.
#[derive(Debug)]
struct FindHistory;

query!(FindHistory => (Nullable<Text>, Nullable<Oid>), HistoryPlace);

impl QueryFragment<Pg> for FindHistory {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.current_schema()::pg_catalog.text, (SELECT c.oid FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE n.nspname OPERATOR(pg_catalog.=) pg_catalog.current_schema() \
             AND c.relname OPERATOR(pg_catalog.=) ",
        );
        out.push_bind_param::<Text, _>(HISTORY)?;
        out.push_sql("::pg_catalog.name)");
        Ok(())
    }
}

/// The schema that has a history now: a migration may have renamed it.
#[derive(Debug)]
struct HistoryWithOid(u32);

query!(HistoryWithOid => (Nullable<Text>, Nullable<Oid>), HistoryPlace);

impl QueryFragment<Pg> for HistoryWithOid {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT n.nspname::pg_catalog.text, c.oid FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE c.oid OPERATOR(pg_catalog.=) ",
        );
        out.push_bind_param::<Oid, _>(&self.0)?;
        out.push_sql(" AND c.relname OPERATOR(pg_catalog.=) ");
        out.push_bind_param::<Text, _>(HISTORY)?;
        out.push_sql("::pg_catalog.name");
        Ok(())
    }
}

/// Reads the versions in a history, in Diesel's order: the last one first.
#[derive(Debug)]
struct ReadHistory {
    schema: String,
}

query!(ReadHistory => Text, String);

impl QueryFragment<Pg> for ReadHistory {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT version FROM ");
        push_table(Some(&self.schema), &mut out)?;
        out.push_sql(" ORDER BY version DESC");
        Ok(())
    }
}

/// Records in the history that a migration was run, or that it was reverted.
#[derive(Debug)]
pub(crate) struct RecordMigration {
    /// Without it, the history is the one that Diesel would find.
    pub(crate) schema: Option<String>,
    pub(crate) version: String,
    pub(crate) reverted: bool,
}

command!(RecordMigration);

impl QueryFragment<Pg> for RecordMigration {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let schema = self.schema.as_deref();
        if self.reverted {
            out.push_sql("DELETE FROM ");
            push_table(schema, &mut out)?;
            out.push_sql(" WHERE version::pg_catalog.text OPERATOR(pg_catalog.=) ");
            return out.push_bind_param::<Text, _>(&self.version);
        }
        out.push_sql("INSERT INTO ");
        push_table(schema, &mut out)?;
        out.push_sql(" (version) VALUES (");
        out.push_bind_param::<Text, _>(&self.version)?;
        out.push_sql(")");
        Ok(())
    }
}

fn push_table(schema: Option<&str>, out: &mut AstPass<'_, '_, Pg>) -> QueryResult<()> {
    // A migration may have changed `client_encoding`; other names would be sent in the wrong one.
    if let Some(schema) = schema.filter(|schema| schema.is_ascii()) {
        out.push_identifier(schema)?;
        out.push_sql(".");
    }
    out.push_identifier(HISTORY)
}

/// Where the history is, or will be.
#[derive(Clone, Debug, Queryable)]
pub(crate) struct HistoryPlace {
    schema: Option<String>,
    /// `None` as long as it is to be made.
    oid: Option<u32>,
}

impl HistoryPlace {
    /// Finds the history: the one that was found before, or else the one that Diesel would use.
    pub(crate) fn find<C>(conn: &mut C, known: Option<&Self>) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        match known.map(|known| known.now(conn)).transpose()?.flatten() {
            Some(place) => Ok(place),
            None => run_ready(uncached(conn).ask(FindHistory)),
        }
    }

    /// The same history, wherever it is now; `None` once it was dropped.
    pub(crate) fn now<C>(&self, conn: &mut C) -> Result<Option<Self>>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let Some(oid) = self.oid else { return Ok(None) };
        type Columns = <HistoryWithOid as Query>::SqlType;
        let places = run_ready(uncached(conn).load::<_, Columns, Self>(HistoryWithOid(oid)))?;
        Ok(places.into_iter().next())
    }

    /// Reads the versions that are applied; `None` if there is no history yet.
    pub(crate) fn read<C>(&self, conn: &mut C) -> Result<Option<Vec<MigrationVersion<'static>>>>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let (Some(_), Some(schema)) = (self.oid, self.schema.clone()) else {
            return Ok(None);
        };
        let versions = run_ready(uncached(conn).load::<_, Text, String>(ReadHistory { schema }))?;
        Ok(Some(versions.into_iter().map(Into::into).collect()))
    }

    pub(crate) fn oid(&self) -> Option<u32> {
        self.oid
    }

    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref()
    }

    /// The lock by which the runners of this schema take turns.
    pub(crate) fn key(&self) -> AdvisoryKey {
        let schema = self.schema.as_deref().unwrap_or_default();
        AdvisoryKey::named(&format!("diesel_pglock::migrations::{schema}"))
    }
}

/// Returns the locks that keep a table of this database from being read; none if they cannot be read.
pub(crate) async fn blockers_of_reading(driver: &mut impl Driver, table: u32) -> Vec<PgLock> {
    let locks = PgLock::query()
        .current_database()
        .filter(pg_locks::relation.eq(table))
        .filter(pg_locks::mode.eq(LockMode::AccessExclusive))
        .filter(pg_locks::pid.is_distinct_from(own_pid()))
        .order_by(pg_locks::granted.desc());
    let locks = driver.load_in_savepoint::<_, ColumnsOf<PgLock>, PgLock>(locks);
    locks.await.and_then(|locks| Ok(locks?)).unwrap_or_default()
}
