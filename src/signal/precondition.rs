//! The conditions that the statement of a signal checks again.
//!
//! They are written for the row of `pg_stat_activity` that shows the session to signal.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer};

use super::block::Block;
use super::mark::walk_unmarked;
use super::wait_path::WaitPath;
use crate::session::SessionIdentity;
use crate::views::BLOCKERS_OF_REPLAY;

/// The condition that commits wait for a standby. Every role may read this setting.
pub(crate) const HAS_SYNCHRONOUS_STANDBY: &str =
    "pg_catalog.current_setting('synchronous_standby_names') <> ''";

/// The application name of `pg_dump`.
pub(crate) const PG_DUMP: &str = "pg_dump";

/// The sessions that build an index concurrently, as far as this role may see: the command of
/// another role's session is hidden from it.
///
/// In the progress of the command `CREATE INDEX`, `param1` is 2 or 4 for a concurrent one.
pub(crate) const CONCURRENT_INDEXES: &str = "(SELECT p.pid \
    FROM pg_catalog.pg_stat_get_progress_info('CREATE INDEX') AS p \
    WHERE p.param1 IS NULL OR p.param1 IN (2::pg_catalog.int8, 4::pg_catalog.int8))";

/// The condition that a session does not wait. The function includes the waits of the session's
/// parallel workers.
const IS_ROOT: &str = "pg_catalog.cardinality(pg_catalog.pg_blocking_pids(pid)) = 0";

/// The condition under which a signal is sent.
#[derive(Clone, Debug)]
pub enum Precondition {
    /// The session is the same.
    None,
    /// The session still blocks one of these processes.
    StillBlocks(Vec<i32>),
    /// The session still blocks one of these processes, and does not wait itself.
    #[cfg(feature = "cli")]
    StillRootOf(Vec<i32>),
    /// The session still blocks the prioritized session, and is not protected.
    StillOnPath(StillOnPath),
}

impl Precondition {
    /// Returns the condition that a session blocks `waiter`, if there is one.
    pub(super) fn blocks(waiter: Option<i32>) -> Self {
        waiter.map_or(Self::None, |waiter| Self::StillBlocks(vec![waiter]))
    }

    /// Adds a further waiter, of which the session must block at least one.
    pub(super) fn add_waiter(&mut self, waiter: Option<i32>) {
        if let Self::StillBlocks(waiters) = self {
            waiters.extend(waiter);
        }
    }
}

impl QueryFragment<Pg> for Precondition {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self {
            Self::None => {
                out.push_sql("true");
                Ok(())
            }
            Self::StillBlocks(waiters) => walk_blocks(waiters, out),
            #[cfg(feature = "cli")]
            Self::StillRootOf(waiters) => {
                out.push_sql(IS_ROOT);
                out.push_sql(" AND ");
                walk_blocks(waiters, out)
            }
            Self::StillOnPath(path) => path.walk_ast(out),
        }
    }
}

/// Writes the condition that the session blocks one of `waiters`.
fn walk_blocks<'b>(waiters: &'b Vec<i32>, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    out.push_sql("(EXISTS (SELECT FROM pg_catalog.unnest(");
    out.push_bind_param::<Array<Integer>, _>(waiters)?;
    out.push_sql(
        ") AS waiter WHERE pid = ANY (pg_catalog.pg_blocking_pids(waiter))) OR EXISTS \
         (SELECT FROM pg_catalog.pg_lock_status() AS w, LATERAL (",
    );
    out.push_sql(BLOCKERS_OF_REPLAY);
    out.push_sql(") AS h WHERE h.pid = pg_stat_activity.pid AND w.pid = ANY (");
    out.push_bind_param::<Array<Integer>, _>(waiters)?;
    out.push_sql(")))");
    Ok(())
}

/// The condition of the watcher: the prioritized session exists, each session on the path
/// still blocks the one before it, the block is the same, and the session is not protected.
#[derive(Clone, Debug)]
pub struct StillOnPath {
    pub(crate) session: SessionIdentity,
    pub(crate) wait_path: WaitPath,
    pub(crate) block: Block,
    /// Is `true` for a root: the session must not wait itself.
    pub(crate) must_be_root: bool,
    /// Is `true` if the sessions of `pg_dump` are spared.
    pub(crate) spares_pg_dump: bool,
}

impl QueryFragment<Pg> for StillOnPath {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.session.walk_ast(out.reborrow())?;
        walk_unprotected(&self.block.blocker, out.reborrow())?;
        if self.spares_pg_dump {
            out.push_sql(" AND application_name IS DISTINCT FROM '");
            out.push_sql(PG_DUMP);
            out.push_sql("'");
        }
        // CASE keeps the order: a block that continues after the path was read was the
        // same one then.
        out.push_sql(" AND CASE WHEN ");
        self.wait_path.walk_ast(out.reborrow())?;
        out.push_sql(" THEN ");
        self.block.walk_ast(out.reborrow())?;
        if self.must_be_root {
            out.push_sql(" AND ");
            out.push_sql(IS_ROOT);
        }
        out.push_sql(" ELSE false END");
        Ok(())
    }
}

/// Adds the conditions that the session may be signalled, whatever the policy decides.
fn walk_unprotected<'b>(pid: &'b i32, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
    // A role without the privilege sees no `backend_type`; the other two are visible to it.
    out.push_sql(" AND (backend_type IS NOT NULL OR usesysid IS NOT NULL)");
    out.push_sql(" AND pid NOT IN (SELECT r.pid FROM pg_catalog.pg_stat_get_wal_senders() AS r)");
    // A commit that waits for its standby is done; its client would not learn of it.
    out.push_sql(" AND CASE WHEN backend_type IS NULL THEN NOT (");
    out.push_sql(HAS_SYNCHRONOUS_STANDBY);
    out.push_sql(") ELSE wait_event IS DISTINCT FROM 'SyncRep' END AND ");
    walk_unmarked(pid, out.reborrow())?;
    out.push_sql(" AND NOT EXISTS (SELECT FROM ");
    out.push_sql(CONCURRENT_INDEXES);
    out.push_sql(" AS i WHERE i.pid = ");
    out.push_bind_param::<Integer, _>(pid)?;
    out.push_sql(") AND pid <> pg_catalog.pg_backend_pid()");
    Ok(())
}
