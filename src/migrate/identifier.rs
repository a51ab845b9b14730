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

/// Splits a name into its parts: one or two.
pub(crate) fn parse_name(name: &str) -> Option<Vec<String>> {
    let mut parts = vec![String::new()];
    let mut is_quoted = false;
    let mut chars = name.chars().peekable();
    while let Some(c) = chars.next() {
        let part = parts.last_mut()?;
        match c {
            '"' if is_quoted && chars.next_if_eq(&'"').is_some() => part.push('"'),
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(String::new()),
            c if is_quoted => part.push(c),
            // The server folds no other letters.
            c => part.push(c.to_ascii_lowercase()),
        }
    }
    let is_name = !is_quoted && parts.len() <= 2 && parts.iter().all(|part| !part.is_empty());
    is_name.then_some(parts)
}
