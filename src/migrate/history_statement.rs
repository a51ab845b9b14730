//! The statements that find, read and write Diesel's history of migrations.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Nullable, Oid, Text};

use super::history::{HISTORY, HistoryPlace};
use super::identifier;
use crate::session::query;

/// Finds the history that Diesel would use.
///
/// Diesel creates the table in the first schema of the `search_path`, even if a later one has it.
#[derive(Debug)]
pub(crate) struct FindHistory;

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

/// Finds the current schema of a history: a migration may have renamed it.
#[derive(Debug)]
pub(crate) struct HistoryWithOid(pub(crate) u32);

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
pub(crate) struct ReadHistory {
    pub(crate) schema: String,
}

query!(ReadHistory => Text, String);

impl QueryFragment<Pg> for ReadHistory {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT version FROM ");
        if let Some(schema) = ascii(Some(&self.schema)) {
            out.push_identifier(schema)?;
            out.push_sql(".");
        }
        out.push_identifier(HISTORY)?;
        out.push_sql(" ORDER BY version DESC");
        Ok(())
    }
}

/// The entry of a migration in the history, which records that it was run or reverted.
#[derive(Debug)]
pub(crate) struct HistoryEntry {
    pub(crate) version: String,
    pub(crate) reverted: bool,
}

impl HistoryEntry {
    /// Returns the statement that records the migration. It has no parameters, so that it
    /// is one message, which can follow other statements.
    ///
    /// Without a `schema`, it changes the history that Diesel would find.
    pub(crate) fn sql(&self, schema: Option<&str>) -> QueryResult<String> {
        let table = identifier::render(ascii(schema).into_iter().chain([HISTORY]))?;
        let version = self.version_literal();
        Ok(match self.reverted {
            true => format!(
                "DELETE FROM {table} \
                 WHERE version::pg_catalog.text OPERATOR(pg_catalog.=) {version}"
            ),
            false => format!("INSERT INTO {table} (version) VALUES ({version})"),
        })
    }

    /// Quotes the version. A migration may have set `standard_conforming_strings`, on which the
    /// meaning of a backslash depends without the `E`.
    fn version_literal(&self) -> String {
        let quoted = self.version.replace('\\', r"\\").replace('\'', "''");
        format!("E'{quoted}'")
    }
}

/// Omits a name that is not ASCII: a migration may have changed `client_encoding`, and the name
/// would be sent in the wrong one.
fn ascii(schema: Option<&str>) -> Option<&str> {
    schema.filter(|schema| schema.is_ascii())
}
