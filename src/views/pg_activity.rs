//! The sessions: rows of `pg_stat_activity`.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{AsSelect, Select};
use diesel::pg::Pg;
use diesel::prelude::*;

use crate::tables::pg_stat_activity;
use crate::types::BackendState;
use crate::types::{ClientAddress, LossyText};

/// A session and its activity: a row of [`pg_stat_activity`][pg].
///
/// A role reads every column of its own sessions. For sessions of other roles it reads
/// `pid`, `database`, `user` and `application_name`, and the rest is `None`. Members of
/// `pg_read_all_stats` read everything (`GRANT pg_read_all_stats TO …`).
///
/// Within a transaction, PostgreSQL repeats the rows of the first read. Outside a
/// transaction, each read returns the current rows.
///
/// [pg]: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ACTIVITY-VIEW
#[derive(Clone, Debug, Default, PartialEq, Queryable)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PgActivity {
    /// The process id of the session.
    pub pid: i32,
    /// The leader of the parallel query that the session works for.
    pub leader_pid: Option<i32>,
    /// The database of the session; `None` for processes that serve all databases.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub database: Option<String>,
    /// The role that logged in.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub user: Option<String>,
    /// The name that the client gave itself: its setting `application_name`.
    pub application_name: Option<String>,
    /// The address of the client; `None` on a Unix socket.
    #[diesel(deserialize_as = ClientAddress)]
    pub client_addr: Option<IpAddr>,
    /// The host name of that address, if `log_hostname` is on.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub client_hostname: Option<String>,
    /// The port of the client; -1 on a Unix socket.
    pub client_port: Option<i32>,
    /// The type of the process, such as `client backend` or `autovacuum worker`.
    pub backend_type: Option<String>,
    /// The start of the session. With `pid` it identifies the session, since pids are reused.
    pub backend_start: Option<DateTime<Utc>>,
    /// The start of the open transaction; `None` outside a transaction.
    pub xact_start: Option<DateTime<Utc>>,
    /// The start of the running query, or else of the last query.
    pub query_start: Option<DateTime<Utc>>,
    /// The time of the last change of `state`.
    pub state_change: Option<DateTime<Utc>>,
    /// The state, such as idle in a transaction.
    pub state: Option<BackendState>,
    /// The type of event that the session waits for; `Lock` for a lock.
    pub wait_event_type: Option<String>,
    /// The event that the session waits for; for a lock, its type.
    pub wait_event: Option<String>,
    /// The transaction id, if the transaction has written.
    pub backend_xid: Option<u32>,
    /// The oldest transaction that the snapshot of the session sees as running.
    pub backend_xmin: Option<u32>,
    /// The identifier of the query, if `compute_query_id` is on; `None` on PostgreSQL 13.
    pub query_id: Option<i64>,
    /// The running query, or else the last query, cut at `track_activity_query_size` bytes.
    ///
    /// In a session of a database with another encoding, bytes that are not UTF-8 become
    /// U+FFFD. A database whose encoding is neither UTF8 nor SQL_ASCII reads such queries as
    /// `None`.
    #[diesel(deserialize_as = LossyText<Option<String>>)]
    pub query: Option<String>,
    /// The time since the start of that query, by the clock of the server.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::serialize")
    )]
    pub duration: Option<TimeDelta>,
    /// The time since the start of the open transaction, by the clock of the server.
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

    /// Returns the time since the last change of `state`, by the clock of the server.
    pub fn state_duration(&self) -> Option<TimeDelta> {
        let now = self.query_start? + self.duration?;
        Some(now - self.state_change?)
    }

    /// Returns the type of a process that serves no client, such as `startup` or
    /// `autovacuum worker`; `None` for a client's session.
    pub fn server_process(&self) -> Option<&str> {
        let process = self.backend_type.as_deref();
        process.filter(|it| *it != "client backend")
    }

    /// Returns true if the role lacks the privilege to read the session.
    ///
    /// Members of `pg_read_all_stats` have it for all sessions.
    pub fn is_hidden(&self) -> bool {
        self.backend_type.is_none()
    }
}
