//! The queries that the filters and actions apply to.

use diesel::internal::table_macro::{BoxedSelectStatement, FromClause, SelectStatement};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_source::AppearsInFromClause;

use crate::tables::pg_locks;

/// A query that reads `pg_locks`, alone or joined with other tables.
pub trait LockQuery {}

impl<F, S, D, W, O, L, G, H, LC> LockQuery
    for SelectStatement<FromClause<F>, S, D, W, O, L, G, H, LC>
where
    F: QuerySource + AppearsInFromClause<pg_locks::table>,
{
}

impl<F, ST, GB> LockQuery for BoxedSelectStatement<'_, ST, FromClause<F>, Pg, GB> where
    F: QuerySource + AppearsInFromClause<pg_locks::table>
{
}
