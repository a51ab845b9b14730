//! Invalid indexes, which a `CONCURRENTLY` leaves behind when it fails.

use std::fmt;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment};
use diesel::sql_types::{Oid, Text};
use diesel::{Connection, QueryResult};

use super::identifier::render;
use crate::error::Result;
use crate::session::{Driver, query, run_ready, uncached};

/// The repair of an invalid index, before the migration that left it is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexRepair {
    /// Drops the index, as `DROP INDEX CONCURRENTLY` does. The migration makes it again.
    Drop,
    /// Rebuilds the index, as `REINDEX INDEX CONCURRENTLY` does, for migrations with `IF NOT
    /// EXISTS`.
    ///
    /// The remains of a `REINDEX CONCURRENTLY` that failed are dropped.
    Reindex,
}

/// An index that is invalid: a `CREATE INDEX CONCURRENTLY` or `REINDEX CONCURRENTLY` failed.
///
/// Queries do not use it, but writes maintain it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct InvalidIndex {
    /// The `oid` of the index.
    pub oid: u32,
    /// The schema of the index and of its table.
    pub schema: String,
    /// The name of the index.
    pub name: String,
    /// The name of the table.
    pub table: String,
    /// True once the harness has dropped or rebuilt it.
    pub repaired: bool,
}

/// Writes the index as `schema.name`, without quotes.
impl fmt::Display for InvalidIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

impl InvalidIndex {
    /// Reads the invalid indexes of this database, without those that are being built.
    pub(crate) fn load<C>(conn: &mut C) -> Result<Vec<Self>>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        type Columns = <InvalidIndexes as Query>::SqlType;
        let rows = run_ready(uncached(conn).load::<_, Columns, Row>(InvalidIndexes))?;
        Ok(rows.into_iter().map(Self::from).collect())
    }

    /// Returns the statement that repairs the index.
    pub(crate) fn repair(&self, repair: IndexRepair) -> QueryResult<String> {
        let index = render([&*self.schema, &*self.name].into_iter())?;
        Ok(match repair {
            IndexRepair::Reindex if !self.is_remnant() => {
                format!("REINDEX INDEX CONCURRENTLY {index}")
            }
            _ => format!("DROP INDEX CONCURRENTLY IF EXISTS {index}"),
        })
    }

    /// Returns true for the second index of a `REINDEX CONCURRENTLY`.
    fn is_remnant(&self) -> bool {
        let name = self.name.trim_end_matches(|c: char| c.is_ascii_digit());
        name.ends_with("_ccnew") || name.ends_with("_ccold")
    }
}

/// A row of [`InvalidIndexes`].
type Row = (u32, String, String, String);

impl From<Row> for InvalidIndex {
    fn from((oid, schema, name, table): Row) -> Self {
        Self {
            oid,
            schema,
            name,
            table,
            repaired: false,
        }
    }
}

/// Reads the invalid indexes.
///
/// The index of a partitioned table is invalid until each partition has one. An index is invalid
/// too while another session builds it. If this role lacks the privilege to see which one a
/// session builds, it may be any, and none is read.
#[derive(Debug)]
struct InvalidIndexes;

query!(InvalidIndexes => (Oid, Text, Text, Text), Row);

impl QueryFragment<Pg> for InvalidIndexes {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT i.indexrelid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, \
             t.relname::pg_catalog.text FROM pg_catalog.pg_index AS i \
             JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid \
             JOIN pg_catalog.pg_class AS t ON t.oid OPERATOR(pg_catalog.=) i.indrelid \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE NOT i.indisvalid AND c.relkind OPERATOR(pg_catalog.=) 'i' AND NOT EXISTS ( \
             SELECT FROM pg_catalog.pg_stat_progress_create_index AS p \
             WHERE p.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
             AND (p.index_relid IS NULL OR p.index_relid OPERATOR(pg_catalog.=) i.indexrelid)) \
             ORDER BY i.indexrelid",
        );
        Ok(())
    }
}

#[cfg(all(test, feature = "postgres"))]
mod tests {
    use std::thread;

    use diesel::PgConnection;
    use diesel::connection::SimpleConnection;
    use diesel::prelude::*;
    use pglock_sandbox::Sandbox;

    use super::*;

    fn repair(name: &str, repair: IndexRepair) -> String {
        let row = (1, "public".to_owned(), name.to_owned(), "t".to_owned());
        InvalidIndex::from(row).repair(repair).unwrap()
    }

    #[test]
    fn an_index_is_dropped_or_rebuilt_and_a_remnant_is_always_dropped() {
        let reindex = IndexRepair::Reindex;
        assert_eq!(
            repair("a\"b", IndexRepair::Drop),
            "DROP INDEX CONCURRENTLY IF EXISTS \"public\".\"a\"\"b\""
        );
        assert_eq!(
            repair("name", reindex),
            "REINDEX INDEX CONCURRENTLY \"public\".\"name\""
        );
        for remnant in ["name_ccnew", "name_ccnew1", "name_ccold"] {
            assert!(repair(remnant, reindex).starts_with("DROP"), "{remnant}");
        }
    }

    #[test]
    fn an_index_that_another_role_builds_is_not_taken_for_an_invalid_one() {
        let server = Sandbox::start().unwrap();
        let url = server.url();
        let connect = |url: &str| PgConnection::establish(url).unwrap();
        let (mut admin, mut writer, mut builder) = (connect(&url), connect(&url), connect(&url));
        let scene = "CREATE ROLE plain LOGIN; CREATE TABLE built (i int)";
        admin.batch_execute(scene).unwrap();
        let write = "BEGIN; INSERT INTO built VALUES (1)";
        writer.batch_execute(write).unwrap();
        let build = "CREATE INDEX CONCURRENTLY ON built (i)";
        let building = thread::spawn(move || builder.batch_execute(build));
        let is_built = diesel::dsl::sql::<diesel::sql_types::Bool>(
            "SELECT EXISTS (SELECT FROM pg_stat_progress_create_index WHERE index_relid <> 0)",
        );
        while !is_built.clone().get_result::<bool>(&mut admin).unwrap() {
            thread::yield_now();
        }
        let mut plain = connect(&url.replacen("postgres@", "plain@", 1));
        assert_eq!(InvalidIndex::load(&mut plain).unwrap(), []);
        assert_eq!(InvalidIndex::load(&mut admin).unwrap(), []);
        writer.batch_execute("COMMIT").unwrap();
        building.join().unwrap().unwrap();
    }
}
