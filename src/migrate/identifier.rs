//! Names as SQL.

use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::QueryBuilder;
use diesel::result::QueryResult;

/// Renders a name with its schema, quoted.
pub(crate) fn render<'n>(parts: impl Iterator<Item = &'n str>) -> QueryResult<String> {
    let mut sql = PgQueryBuilder::new();
    for (i, part) in parts.enumerate() {
        if i > 0 {
            QueryBuilder::<Pg>::push_sql(&mut sql, ".");
        }
        QueryBuilder::<Pg>::push_identifier(&mut sql, part)?;
    }
    Ok(QueryBuilder::<Pg>::finish(sql))
}
