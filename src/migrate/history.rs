//! The place of Diesel's history of migrations, and the migration lock named after it.

use diesel::connection::LoadConnection;
use diesel::deserialize::Queryable;
use diesel::migration::MigrationVersion;
use diesel::pg::Pg;
use diesel::query_builder::Query;
use diesel::sql_types::Text;
use diesel::{Connection, ExpressionMethods, PgExpressionMethods, QueryDsl};

use super::history_statement::{FindHistory, HistoryWithOid, ReadHistory};
use crate::error::Result;
use crate::query_dsl::PgLockDsl;
use crate::session::{ColumnsOf, Driver, run_ready, uncached};
use crate::tables::pg_locks;
use crate::types::{AdvisoryKey, LockMode};
use crate::views::PgLock;
use crate::views::own_pid;

/// The name that Diesel gives the table.
pub(crate) const HISTORY: &str = "__diesel_schema_migrations";

/// The place of the history, or of the one that Diesel will create.
#[derive(Clone, Debug, Queryable)]
pub(crate) struct HistoryPlace {
    schema: Option<String>,
    /// `None` until the table is created.
    oid: Option<u32>,
}

impl HistoryPlace {
    /// Finds the history: the one that was found before, or else the one that Diesel would use.
    pub(crate) fn find<C>(conn: &mut C, known: Option<&Self>) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let current = known.map(|known| known.current(conn)).transpose()?;
        match current.flatten() {
            Some(place) => Ok(place),
            None => run_ready(uncached(conn).ask(FindHistory)),
        }
    }

    /// Finds the current place of the same history; `None` once it was dropped.
    pub(crate) fn current<C>(&self, conn: &mut C) -> Result<Option<Self>>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let Some(oid) = self.oid else { return Ok(None) };
        type Columns = <HistoryWithOid as Query>::SqlType;
        let places = run_ready(uncached(conn).load::<_, Columns, Self>(HistoryWithOid(oid)))?;
        Ok(places.into_iter().next())
    }

    /// Reads the versions that are applied; `None` without a history.
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

    /// Returns the key of the lock by which the instances of this schema take turns.
    pub(crate) fn key(&self) -> AdvisoryKey {
        let schema = self.schema.as_deref().unwrap_or_default();
        AdvisoryKey::named(&format!("diesel_pglock::migrations::{schema}"))
    }
}

/// Returns the locks that keep a table of this database from being read.
///
/// Empty if the locks cannot be read.
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
