//! The statements that find, read and write Diesel's history of migrations.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Nullable, Oid, Text};

use super::history::{HISTORY, HistoryPlace};
use crate::session::{command, query};

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
        push_table(Some(&self.schema), &mut out)?;
        out.push_sql(" ORDER BY version DESC");
        Ok(())
    }
}

/// Records in the history that a migration was run or reverted.
#[derive(Debug)]
pub(crate) struct RecordMigration {
    /// `None`: the history that Diesel would find.
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
