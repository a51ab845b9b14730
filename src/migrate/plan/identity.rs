//! The identity of a database, and what keeps one from being a scratch database.

use chrono::{DateTime, Utc};
use diesel::Connection;
use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Text, Timestamptz};

use crate::error::{Error, Result};
use crate::session::{Driver, query, run_ready, uncached};

/// A database of a server.
#[derive(Clone, Debug)]
pub(super) struct DatabaseIdentity {
    pub(super) name: String,
    server_start: DateTime<Utc>,
    /// The identifier of the cluster, which its standbys share; `None` without the privilege.
    system: Option<i64>,
}

impl DatabaseIdentity {
    pub(super) fn of<C>(conn: &mut C) -> Result<Self>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let (name, server_start) = run_ready(uncached(conn).ask(NameAndStart))?;
        let system =
            run_ready(uncached(conn).load_in_savepoint::<_, BigInt, i64>(SystemIdentifier));
        let system = system?.ok().and_then(|rows| rows.into_iter().next());
        Ok(Self {
            name,
            server_start,
            system,
        })
    }

    /// Returns true for the same database, also on a standby.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let is_same_system = self.system.is_some() && self.system == other.system;
        let is_same_server = is_same_system || self.server_start == other.server_start;
        is_same_server && self.name == other.name
    }
}

/// Refuses a database that has tables already: it may be in use.
pub(super) fn require_empty<C>(conn: &mut C) -> Result<()>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let tables = run_ready(uncached(conn).load::<_, Text, String>(FirstTable))?;
    match tables.first() {
        Some(table) => Err(Error::Scratch(format!(
            "it has the table `{table}`; a plan needs an empty database of its own"
        ))),
        None => Ok(()),
    }
}

#[derive(Debug)]
struct NameAndStart;

query!(NameAndStart => (Text, Timestamptz), (String, DateTime<Utc>));

impl QueryFragment<Pg> for NameAndStart {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.current_database()::pg_catalog.text, \
             pg_catalog.pg_postmaster_start_time()",
        );
        Ok(())
    }
}

#[derive(Debug)]
struct SystemIdentifier;

query!(SystemIdentifier => BigInt, i64);

impl QueryFragment<Pg> for SystemIdentifier {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT s.system_identifier FROM pg_catalog.pg_control_system() AS s");
        Ok(())
    }
}

/// Finds a table that belongs to no extension.
#[derive(Debug)]
struct FirstTable;

query!(FirstTable => Text, String);

impl QueryFragment<Pg> for FirstTable {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_catalog.concat(n.nspname, '.', c.relname) FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,m,f}'::pg_catalog.\"char\"[]) \
             AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_') \
             AND n.nspname OPERATOR(pg_catalog.<>) 'information_schema' AND NOT EXISTS ( \
             SELECT FROM pg_catalog.pg_depend AS d \
             WHERE d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
             AND d.objid OPERATOR(pg_catalog.=) c.oid AND d.deptype OPERATOR(pg_catalog.=) 'e') \
             ORDER BY c.oid LIMIT 1",
        );
        Ok(())
    }
}
