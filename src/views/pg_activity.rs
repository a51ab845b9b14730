use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{AsSelect, Select};
use diesel::expression::Selectable;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_source::AliasedField;

use super::expression::{
    BlockingQueryBytes, BlockingQueryDuration, BlockingQueryIdentifier,
    BlockingTransactionDuration, QueryBytes, QueryDuration, QueryIdentifier, TransactionDuration,
};
use crate::tables::{BlockingActivity, blocking_activity, pg_stat_activity};
use crate::types::BackendState;
use crate::types::{ClientAddress, LossyText};

/// A session and what it does: a row of [`pg_stat_activity`][pg].
///
/// A role sees its own sessions. Of others' it sees `pid`, `database`, `user` and
/// `application_name`; the rest is `None`, unless the role is a member of
/// `pg_read_all_stats` (`GRANT pg_read_all_stats TO …`).
///
/// PostgreSQL keeps this view as it was first read until the transaction ends:
/// outside a transaction a later look shows what is new, inside one it does not.
///
/// [pg]: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
#[derive(Clone, Debug, PartialEq, Queryable)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PgActivity {
    /// The session.
    pub pid: i32,
    /// The leader of the parallel query that the session works for.
    pub leader_pid: Option<i32>,
    /// The database it is connected to; `None` for processes that serve all of them.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub database: Option<String>,
    /// The role that logged in.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub user: Option<String>,
    /// What the client calls itself.
    pub application_name: Option<String>,
    /// Where the client is; `None` on a unix socket.
    #[diesel(deserialize_as = ClientAddress)]
    pub client_addr: Option<IpAddr>,
    /// The name of that address, where `log_hostname` is on.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub client_hostname: Option<String>,
    /// The client's port; -1 on a unix socket.
    pub client_port: Option<i32>,
    /// What kind of process it is, such as `client backend` or `autovacuum worker`.
    pub backend_type: Option<String>,
    /// When the session began; together with `pid` it names a session for good.
    pub backend_start: Option<DateTime<Utc>>,
    /// When the open transaction began; `None` outside one.
    pub xact_start: Option<DateTime<Utc>>,
    /// When the running query, or else the last one, began.
    pub query_start: Option<DateTime<Utc>>,
    /// When `state` last changed.
    pub state_change: Option<DateTime<Utc>>,
    /// What the session does.
    pub state: Option<BackendState>,
    /// What kind of thing it waits for; `Lock` for a lock.
    pub wait_event_type: Option<String>,
    /// What it waits for; the type of the lock for a lock.
    pub wait_event: Option<String>,
    /// Its transaction, once that has written.
    pub backend_xid: Option<u32>,
    /// The oldest transaction that its snapshot sees as running.
    pub backend_xmin: Option<u32>,
    /// The query's number, where `compute_query_id` is on; `None` on PostgreSQL 13.
    pub query_id: Option<i64>,
    /// The running query, or else the last one, cut at `track_activity_query_size`.
    ///
    /// Of a session in a database of another encoding, what is no UTF-8 is replaced by
    /// U+FFFD; seen from a database that is neither in UTF8 nor SQL_ASCII it is `None`.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub query: Option<String>,
    /// How long ago that query began, by the server's clock.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::serialize")
    )]
    pub duration: Option<TimeDelta>,
    /// How long ago the open transaction began, by the server's clock.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::serialize")
    )]
    pub transaction_duration: Option<TimeDelta>,
}

/// The query that [`PgActivity::query`] returns.
pub type PgActivityQuery = Select<pg_stat_activity::table, AsSelect<PgActivity, Pg>>;

impl PgActivity {
    /// Reads `pg_stat_activity`: one row per session and server process.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::schema::pg_stat_activity;
    /// use diesel_pglock::{BackendState, PgActivity};
    ///
    /// # fn main() -> QueryResult<()> {
    /// # let conn = &mut connection();
    /// let active: Vec<PgActivity> = PgActivity::query()
    ///     .filter(pg_stat_activity::state.eq(BackendState::Active))
    ///     .load(conn)?;
    /// assert!(active[0].query.as_deref().unwrap().contains("pg_stat_activity"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn query() -> PgActivityQuery {
        pg_stat_activity::table.select(Self::as_select())
    }

    /// Whether this role may not look at the session; a member of `pg_read_all_stats` may.
    pub fn is_hidden(&self) -> bool {
        self.backend_type.is_none()
    }
}

/// Lists the columns in the order of the fields, each as `$column` makes it out.
macro_rules! columns {
    ($column:ident) => {
        (
            $column!(pid),
            $column!(leader_pid),
            $column!(datname),
            $column!(usename),
            $column!(application_name),
            $column!(client_addr),
            $column!(client_hostname),
            $column!(client_port),
            $column!(backend_type),
            $column!(backend_start),
            $column!(xact_start),
            $column!(query_start),
            $column!(state_change),
            $column!(state),
            $column!(wait_event_type),
            $column!(wait_event),
            $column!(backend_xid),
            $column!(backend_xmin),
            $column!(query_id),
            $column!(query),
            $column!(duration),
            $column!(transaction_duration),
        )
    };
}

macro_rules! column {
    (query) => {
        QueryBytes
    };
    (query_id) => {
        QueryIdentifier
    };
    (duration) => {
        QueryDuration
    };
    (transaction_duration) => {
        TransactionDuration
    };
    ($column:ident) => {
        pg_stat_activity::$column
    };
}

macro_rules! blocking_type {
    (query) => { BlockingQueryBytes };
    (query_id) => { BlockingQueryIdentifier };
    (duration) => { BlockingQueryDuration };
    (transaction_duration) => { BlockingTransactionDuration };
    ($column:ident) => { AliasedField<BlockingActivity, pg_stat_activity::$column> };
}

macro_rules! blocking_column {
    (query) => {
        BlockingQueryBytes
    };
    (query_id) => {
        BlockingQueryIdentifier
    };
    (duration) => {
        BlockingQueryDuration
    };
    (transaction_duration) => {
        BlockingTransactionDuration
    };
    ($column:ident) => {
        blocking_activity.field(pg_stat_activity::$column)
    };
}

impl Selectable<Pg> for PgActivity {
    type SelectExpression = columns!(column);

    fn construct_selection() -> Self::SelectExpression {
        columns!(column)
    }
}

/// The columns of a [`PgActivity`] from the alias `blocking_activity`.
pub type BlockingActivityColumns = columns!(blocking_type);

pub(crate) fn blocking_activity_columns() -> BlockingActivityColumns {
    columns!(blocking_column)
}
