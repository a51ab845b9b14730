//! Where Diesel keeps the history of migrations, and the lock named after that.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Bool, Nullable, Text};

use crate::AdvisoryKey;
use crate::statement::query;

/// Asks which schema has the history, or will have it, and whether it is there.
#[derive(Debug)]
pub(crate) struct History;

query!(History => (Nullable<Text>, Bool), HistoryPlace);

impl QueryFragment<Pg> for History {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // Diesel makes the table in the first schema, even if a later one has it.
        out.push_sql(
            "SELECT pg_catalog.current_schema()::text, EXISTS (SELECT FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
             WHERE n.nspname = pg_catalog.current_schema() AND c.relname = '__diesel_schema_migrations')",
        );
        Ok(())
    }
}

/// The schema of the history, and whether the history is there.
#[derive(Debug, diesel::Queryable)]
pub(crate) struct HistoryPlace {
    schema: Option<String>,
    exists: bool,
}

impl HistoryPlace {
    pub(crate) fn exists(&self) -> bool {
        self.exists
    }

    /// The lock by which the runners of this schema take turns.
    pub(crate) fn key(&self) -> AdvisoryKey {
        let schema = self.schema.as_deref().unwrap_or_default();
        AdvisoryKey::named(&format!("diesel_pglock::migrations::{schema}"))
    }
}
