//! The blockers of each session, as a Diesel table.
//!
//! `pg_locks` joined with this table has a row per lock and session that
//! [`pg_blocking_pids`][pg] lists for it. The server calls that function, which locks its
//! whole lock table, once per row of `pg_locks`. Join on `NOT granted`: a session waits for
//! one lock at most, so it is called once per waiter.
//! [`BlockedPgLock::query`](crate::BlockedPgLock::query) does so.
//!
//! On a standby the table also has the sessions that hold up its replay, which the function
//! does not list.
//!
//! [pg]: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-SESSION

// `diesel::table!` uses one SQL name for a table, in FROM and in its columns. This table is
// a function call in FROM, and an alias in its columns, so the code of the macro is repeated.

use diesel::backend::Backend;
use diesel::dsl::Eq;
use diesel::expression::{
    AsExpression, Expression, IsContainedInGroupBy, ValidGrouping, is_aggregate,
    is_contained_in_group_by,
};
use diesel::internal::table_macro::{
    FromClause, Inner, Join, JoinOn, LeftOuter, NoFromClause, Pick, SelectStatement,
};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AsQuery, AstPass, QueryFragment, QueryId};
use diesel::query_source::{Alias, AliasSource, AppearsInFromClause, Never, Once};
use diesel::sql_types::{Bool, Integer};

use super::blocking_table as blocking;
use super::sql_macro::blockers_of_replay;

/// The blockers of the session in a row of `pg_locks`.
#[allow(non_camel_case_types)] // as `diesel::table!` names a table
#[derive(Debug, Clone, Copy, Default, QueryId)]
pub struct table;

impl QueryFragment<Pg> for table {
    // UNION removes duplicates: the leader of a parallel query is listed once per process, and each
    // prepared transaction is listed as a 0.
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(concat!(
            "LATERAL (SELECT pid FROM pg_catalog.unnest(\
             pg_catalog.pg_blocking_pids(\"pg_catalog\".\"pg_locks\".\"pid\")) AS pids(pid) UNION ",
            blockers_of_replay!(r#""pg_catalog"."pg_locks""#),
            ") AS blocking",
        ));
        Ok(())
    }
}

impl QuerySource for table {
    type FromClause = Self;
    type DefaultSelection = (pid,);

    fn from_clause(&self) -> Self {
        *self
    }

    fn default_selection(&self) -> (pid,) {
        (pid,)
    }
}

impl AsQuery for table {
    type SqlType = (Integer,);
    type Query = SelectStatement<FromClause<Self>>;

    fn as_query(self) -> Self::Query {
        SelectStatement::simple(self)
    }
}

impl Table for table {
    type PrimaryKey = pid;
    type AllColumns = (pid,);

    fn primary_key(&self) -> pid {
        pid
    }

    fn all_columns() -> (pid,) {
        (pid,)
    }
}

impl AppearsInFromClause<table> for table {
    type Count = Once;
}

impl AppearsInFromClause<table> for NoFromClause {
    type Count = Never;
}

impl<S: AliasSource> AppearsInFromClause<Alias<S>> for table {
    type Count = Never;
}

/// The process id of the blocker; 0 for a prepared transaction.
#[allow(non_camel_case_types)] // as `diesel::table!` names a column
#[derive(Debug, Clone, Copy, Default, QueryId)]
pub struct pid;

impl Expression for pid {
    type SqlType = Integer;
}

impl<DB: Backend> QueryFragment<DB> for pid {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("blocking.pid");
        Ok(())
    }
}

impl Column for pid {
    type Table = table;

    const NAME: &'static str = "pid";
}

impl<QS> AppearsOnTable<QS> for pid where QS: AppearsInFromClause<table, Count = Once> {}

impl SelectableExpression<table> for pid {}

impl<Left, Right> SelectableExpression<Join<Left, Right, LeftOuter>> for pid
where
    Self: AppearsOnTable<Join<Left, Right, LeftOuter>> + SelectableExpression<Left>,
    Left: QuerySource,
    Right: AppearsInFromClause<table, Count = Never> + QuerySource,
{
}

impl<Left, Right> SelectableExpression<Join<Left, Right, Inner>> for pid
where
    Left: AppearsInFromClause<table> + QuerySource,
    Right: AppearsInFromClause<table> + QuerySource,
    (Left::Count, Right::Count): Pick<Left, Right>,
    Self: AppearsOnTable<Join<Left, Right, Inner>>
        + SelectableExpression<<(Left::Count, Right::Count) as Pick<Left, Right>>::Selection>,
{
}

impl<Join, On> SelectableExpression<JoinOn<Join, On>> for pid where
    Self: SelectableExpression<Join> + AppearsOnTable<JoinOn<Join, On>>
{
}

impl<From> SelectableExpression<SelectStatement<FromClause<From>>> for pid
where
    From: QuerySource,
    Self: SelectableExpression<From> + AppearsOnTable<SelectStatement<FromClause<From>>>,
{
}

impl ValidGrouping<()> for pid {
    type IsAggregate = is_aggregate::No;
}

impl<Columns> ValidGrouping<Columns> for pid
where
    Columns: IsContainedInGroupBy<Self, Output = is_contained_in_group_by::Yes>,
{
    type IsAggregate = is_aggregate::Yes;
}

impl IsContainedInGroupBy<Self> for pid {
    type Output = is_contained_in_group_by::Yes;
}

impl<T> diesel::EqAll<T> for pid
where
    T: AsExpression<Integer>,
    Eq<Self, T::Expression>: Expression<SqlType = Bool>,
{
    type Output = Eq<Self, T::Expression>;

    fn eq_all(self, other: T) -> Self::Output {
        self.eq(other.as_expression())
    }
}

allow_tables_to_appear_beside_locks!(@views blocking);
