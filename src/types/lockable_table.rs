//! The trait of tables that can be locked.

use diesel::QueryResult;
use diesel::associations::HasTable;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{QueryBuilder, QueryFragment};

/// A table that [`lock_table`](crate::PgLockConnection::lock_table) locks: a table of
/// [`diesel::table!`], or a model struct that belongs to one.
#[diagnostic::on_unimplemented(
    message = "`{Self}` names no table that can be locked",
    label = "expected a table such as `users::table`, or a struct that derives `Identifiable` or `HasTable`",
    note = "the table of `diesel::table! {{ users {{ … }} }}` is `users::table`"
)]
pub trait LockableTable {
    #[doc(hidden)]
    fn render() -> QueryResult<String>;
}

impl<T> LockableTable for T
where
    T: HasTable,
    T::Table: QueryFragment<Pg>,
{
    fn render() -> QueryResult<String> {
        let mut sql = PgQueryBuilder::new();
        T::table().to_sql(&mut sql, &Pg)?;
        Ok(sql.finish())
    }
}
