//! The queries that select the sessions to signal.

use chrono::{DateTime, Utc};
use diesel::dsl::Nullable;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::query_source::AliasedField;
use diesel::sql_types::{self, Integer, Timestamptz};

use crate::tables::{BlockingActivity, pg_locks, pg_stat_activity};

#[diesel::declare_sql_function]
extern "SQL" {
    /// Returns the pid of the session that runs the query.
    #[sql_name = "pg_catalog.pg_backend_pid"]
    fn own_pid() -> Integer;
}

/// The columns of a [`SessionRow`].
type Columns<Pid, Start, Waiter> = (Nullable<Pid>, Nullable<Start>, Nullable<Waiter>, own_pid);

/// The columns of a query of activities or locks. Its waiter has no meaning.
pub type ActivityColumns =
    Columns<pg_stat_activity::pid, pg_stat_activity::backend_start, pg_stat_activity::pid>;

/// The columns of a query of blockers.
pub type BlockingColumns = Columns<
    AliasedField<BlockingActivity, pg_stat_activity::pid>,
    AliasedField<BlockingActivity, pg_stat_activity::backend_start>,
    pg_locks::pid,
>;

/// The SQL types of [`ActivityColumns`] and [`BlockingColumns`].
pub(super) type ColumnTypes = (
    sql_types::Nullable<Integer>,
    sql_types::Nullable<Timestamptz>,
    sql_types::Nullable<Integer>,
    Integer,
);

/// A query of [`ActivityColumns`] or [`BlockingColumns`].
pub trait SessionQuery:
    Query<SqlType = ColumnTypes> + QueryFragment<Pg> + QueryId + Send + 'static
{
}

impl<Q> SessionQuery for Q where
    Q: Query<SqlType = ColumnTypes> + QueryFragment<Pg> + QueryId + Send + 'static
{
}

/// A session to signal.
#[derive(Debug, Queryable)]
pub(super) struct SessionRow {
    /// `None` for a prepared transaction, which has no session.
    pub(super) pid: Option<i32>,
    pub(super) backend_start: Option<DateTime<Utc>>,
    /// A process that waits for the session.
    pub(super) waiter: Option<i32>,
    /// The session that runs the query.
    pub(super) own_pid: i32,
}
