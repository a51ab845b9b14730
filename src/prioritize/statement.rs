//! The statements of the watcher about its own and the prioritized session.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text, Timestamptz};

use crate::session::SessionIdentity;
use crate::session::query;
use crate::signal::HAS_SYNCHRONOUS_STANDBY;
use crate::signal::{walk_mark, walk_unmark};

/// Checks a new session of the watcher, sets it up, and marks the prioritized session.
///
/// The watcher must see the prioritized session on the same server. For an audit it must be
/// able to write to the signal log. The mark is set only if both hold.
#[derive(Debug)]
pub(super) struct CheckWatcher {
    session: SessionIdentity,
    /// Is `true` if the watcher writes to the signal log.
    audit: bool,
    settings: WatcherSettings,
}

impl CheckWatcher {
    pub(super) fn new(session: SessionIdentity, audit: bool) -> Self {
        Self {
            session,
            audit,
            settings: WatcherSettings::for_session(session.pid),
        }
    }
}

/// The result of [`CheckWatcher`].
#[derive(Debug, diesel::Queryable)]
pub(super) struct WatcherCheck {
    pub(super) sees_session: bool,
    pub(super) has_log: bool,
    /// True if the log has all columns: those of an old one go on working.
    pub(super) has_context: bool,
    pub(super) is_read_only: bool,
    /// The result of setting the mark; `None` if it was not tried.
    pub(super) is_marked: Option<bool>,
    /// The pid of the watcher's session.
    pub(super) pid: i32,
    /// The settings before this statement changed them.
    pub(super) previous: WatcherSettings,
}

/// The settings of a session that a watcher changes.
#[derive(Clone, Debug, diesel::Queryable)]
pub(super) struct WatcherSettings {
    pub(super) application_name: String,
    statement_timeout: String,
    lock_timeout: String,
    synchronous_commit: String,
}

type SettingColumns = (Text, Text, Text, Text);

query!(CheckWatcher => (Bool, Bool, Bool, Bool, Nullable<Bool>, Integer, SettingColumns), WatcherCheck);

/// The signal log in the catalogs.
macro_rules! log_table {
    ($columns:literal) => {
        concat!(
            "EXISTS (SELECT FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace ",
            $columns,
            " WHERE n.nspname = 'pglock' AND c.relname = 'signal_log'"
        )
    };
}

/// The condition that this role may write to the signal log.
const HAS_LOG: &str = concat!(
    log_table!(""),
    " AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
     AND pg_catalog.has_table_privilege(c.oid, 'INSERT'))"
);

/// The condition that there is a signal log.
#[cfg(feature = "cli")]
pub(super) const LOG_EXISTS: &str = concat!(log_table!(""), ")");

/// The condition that the signal log has the columns of the crate's second migration.
pub(super) const HAS_CONTEXT: &str = concat!(
    log_table!("JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid"),
    " AND a.attname = 'wait_path' AND NOT a.attisdropped)"
);

impl QueryFragment<Pg> for CheckWatcher {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT c.sees_session, c.has_log, c.has_context, c.is_read_only, \
             CASE WHEN c.sees_session AND (c.has_log AND NOT c.is_read_only OR NOT ",
        );
        out.push_bind_param::<Bool, _>(&self.audit)?;
        out.push_sql(") THEN CASE WHEN (");
        self.settings.walk_set(out.reborrow())?;
        out.push_sql(") IS NOT NULL THEN ");
        walk_mark(&self.session.pid, out.reborrow())?;
        out.push_sql(
            " END END, pg_catalog.pg_backend_pid(), c.application_name, c.statement_timeout, c.lock_timeout, \
             c.synchronous_commit FROM (SELECT ",
        );
        self.session.walk_ast(out.reborrow())?;
        out.push_sql(" AS sees_session, ");
        out.push_sql(HAS_LOG);
        out.push_sql(" AS has_log, ");
        out.push_sql(HAS_CONTEXT);
        out.push_sql(
            " AS has_context, pg_catalog.current_setting('transaction_read_only') = 'on' AS is_read_only, \
             pg_catalog.current_setting('application_name') AS application_name, \
             pg_catalog.current_setting('statement_timeout') AS statement_timeout, \
             pg_catalog.current_setting('lock_timeout') AS lock_timeout, \
             pg_catalog.current_setting('synchronous_commit') AS synchronous_commit OFFSET 0) AS c",
        );
        Ok(())
    }
}

impl WatcherSettings {
    /// Returns the settings of the watcher of the session `pid`.
    ///
    /// The limits keep a lock on a catalog, or on the signal log, from stopping the watcher. No
    /// limit ends a commit's wait for a synchronous standby, so entries of the log do not wait.
    fn for_session(pid: i32) -> Self {
        Self {
            application_name: format!("pglock watcher for {pid}"),
            statement_timeout: "5s".to_owned(),
            lock_timeout: "50ms".to_owned(),
            synchronous_commit: "local".to_owned(),
        }
    }

    /// Writes an expression that sets them for the session.
    fn walk_set<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let settings = [
            ("application_name", &self.application_name),
            ("statement_timeout", &self.statement_timeout),
            ("lock_timeout", &self.lock_timeout),
            ("synchronous_commit", &self.synchronous_commit),
        ];
        for (index, (name, value)) in settings.into_iter().enumerate() {
            out.push_sql(if index == 0 { "" } else { " || " });
            out.push_sql(&format!("pg_catalog.set_config('{name}', "));
            out.push_bind_param::<Text, _>(value)?;
            out.push_sql(", false)");
        }
        Ok(())
    }
}

/// Puts a session of the watcher back into the state before [`CheckWatcher`].
#[derive(Debug)]
pub(super) struct LeaveSession {
    pub(super) prioritized: i32,
    pub(super) previous: WatcherSettings,
}

query!(LeaveSession => (Bool, Text), (bool, String));

impl QueryFragment<Pg> for LeaveSession {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        walk_unmark(&self.prioritized, out.reborrow())?;
        out.push_sql(", ");
        self.previous.walk_set(out)
    }
}

/// Returns the blockers of one session. A poll sends only this statement until it finds one.
#[derive(Debug)]
pub(crate) struct BlockingPids(pub(crate) i32);

/// The result of [`BlockingPids`].
#[derive(Debug, diesel::Queryable)]
pub(crate) struct Look {
    pub(crate) blockers: Vec<i32>,
    pub(super) time: DateTime<Utc>,
    /// The pid of the watcher's session.
    pub(super) pid: i32,
}

query!(BlockingPids => (Array<Integer>, Timestamptz, Integer), Look);

impl QueryFragment<Pg> for BlockingPids {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_blocking_pids(");
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql("), pg_catalog.clock_timestamp(), pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

/// Returns whether commits wait for a standby.
///
/// It is sent only if this role lacks the privilege to read the wait events of a blocker.
#[derive(Debug)]
pub(super) struct HasSynchronousStandby;

query!(HasSynchronousStandby => Bool, bool);

impl QueryFragment<Pg> for HasSynchronousStandby {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(HAS_SYNCHRONOUS_STANDBY);
        Ok(())
    }
}
