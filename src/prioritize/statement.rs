//! The statements of the watcher about its own and the prioritized session.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Bool, Integer, Nullable};

use crate::session::PrioritizedSession;
use crate::session::query;
use crate::signal::HAS_SYNCHRONOUS_STANDBY;
use crate::signal::walk_mark;

/// Checks a new session of the watcher, and marks the prioritized session.
///
/// The watcher must see the prioritized session, which proves that it is on the same server.
/// For an audit it must have the privilege to write to the signal log. The mark is set only if
/// both hold.
#[derive(Debug)]
pub(super) struct CheckWatcher {
    pub(super) session: PrioritizedSession,
    /// Is `true` if the watcher writes to the signal log.
    pub(super) audit: bool,
}

/// The result of [`CheckWatcher`].
#[derive(Debug, diesel::Queryable)]
pub(super) struct WatcherCheck {
    pub(super) sees_session: bool,
    pub(super) has_log: bool,
    /// The result of setting the mark; `None` if it was not tried.
    pub(super) is_marked: Option<bool>,
}

query!(CheckWatcher => (Bool, Bool, Nullable<Bool>), WatcherCheck);

/// The condition that this role may write to the signal log.
const HAS_LOG: &str = "EXISTS (SELECT FROM pg_catalog.pg_class AS c \
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
    WHERE n.nspname = 'pglock' AND c.relname = 'signal_log' \
    AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') \
    AND pg_catalog.has_table_privilege(c.oid, 'INSERT'))";

impl QueryFragment<Pg> for CheckWatcher {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT c.sees_session, c.has_log, CASE WHEN c.sees_session AND (c.has_log OR NOT ",
        );
        out.push_bind_param::<Bool, _>(&self.audit)?;
        out.push_sql(") THEN ");
        walk_mark(&self.session.pid, out.reborrow())?;
        out.push_sql(" END FROM (SELECT ");
        self.session.walk_ast(out.reborrow())?;
        out.push_sql(" AS sees_session, ");
        out.push_sql(HAS_LOG);
        out.push_sql(" AS has_log OFFSET 0) AS c");
        Ok(())
    }
}

/// Returns the blockers of one session. A poll sends only this statement until it finds one.
#[derive(Debug)]
pub(crate) struct BlockingPids(pub(crate) i32);

query!(BlockingPids => Array<Integer>, Vec<i32>);

impl QueryFragment<Pg> for BlockingPids {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_blocking_pids(");
        out.push_bind_param::<Integer, _>(&self.0)?;
        out.push_sql(")");
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
