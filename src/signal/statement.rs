//! The statements that send one signal and ask for the privilege to.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Bool, Integer, Nullable, Timestamptz};

use super::block::Block;
use super::mark::walk_unmarked;
use super::types::SignalKind;
use crate::session::PrioritizedSession;
use crate::session::query;

/// Every role may read this setting.
pub(crate) const HAS_SYNCHRONOUS_STANDBY: &str =
    "pg_catalog.current_setting('synchronous_standby_names') <> ''";

/// The statement that sends one signal: a row with `true` when it did.
///
/// It looks the session up and signals it in one, so that a successor with the
/// same pid is never hit. One statement per session: the first that this role
/// may not signal would end a longer one.
#[derive(Clone, Debug)]
pub struct SendSignal {
    pub kind: SignalKind,
    pub pid: i32,
    /// As `pg_stat_activity` shows it to this role, which may be not at all.
    pub backend_start: Option<DateTime<Utc>>,
    /// What must still be so for the signal to be sent.
    pub provided: Precondition,
}

/// What is looked at again in the statement that signals.
#[derive(Clone, Debug)]
pub enum Precondition {
    /// Nothing but that the session is the same.
    None,
    /// It stands in the way of one of these sessions.
    StillBlocks(Vec<i32>),
    /// The session that is let through is there, each of these sessions stands in the way
    /// of the other beside it, the first of the two, in the same block; and it is not the
    /// session that sends the signal.
    StillOnPath {
        us: PrioritizedSession,
        waiters: Vec<i32>,
        blockers: Vec<i32>,
        block: Block,
    },
}

impl QueryFragment<Pg> for SendSignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT ");
        out.push_sql(self.kind.function());
        out.push_sql("(pid) FROM pg_catalog.pg_stat_activity WHERE pid = ");
        out.push_bind_param::<Integer, _>(&self.pid)?;
        out.push_sql(" AND backend_start IS NOT DISTINCT FROM ");
        out.push_bind_param::<Nullable<Timestamptz>, _>(&self.backend_start)?;
        match &self.provided {
            Precondition::None => {}
            Precondition::StillBlocks(waiters) => {
                out.push_sql(" AND EXISTS (SELECT FROM pg_catalog.unnest(");
                out.push_bind_param::<Array<Integer>, _>(waiters)?;
                out.push_sql(") AS waiter WHERE pid = ANY (pg_catalog.pg_blocking_pids(waiter)))");
            }
            Precondition::StillOnPath {
                us,
                waiters,
                blockers,
                block,
            } => {
                out.push_sql(" AND ");
                us.walk_ast(out.reborrow())?;
                // A role that may not look sees no `backend_type`; these two it sees.
                out.push_sql(" AND (backend_type IS NOT NULL OR usesysid IS NOT NULL)");
                out.push_sql(
                    " AND pid NOT IN (SELECT r.pid FROM pg_catalog.pg_stat_replication AS r)",
                );
                // A commit that waits for its standby is done, and its client would not learn of it.
                out.push_sql(" AND CASE WHEN backend_type IS NULL THEN NOT (");
                out.push_sql(HAS_SYNCHRONOUS_STANDBY);
                out.push_sql(") ELSE wait_event IS DISTINCT FROM 'SyncRep' END");
                out.push_sql(" AND ");
                walk_unmarked(&self.pid, out.reborrow())?;
                out.push_sql(" AND pid <> pg_catalog.pg_backend_pid() AND CASE WHEN (SELECT ");
                out.push_sql(
                    "pg_catalog.bool_and(blocker = ANY (pg_catalog.pg_blocking_pids(waiter))) ",
                );
                // Of two arrays, `unnest` is syntax and takes no schema.
                out.push_sql("FROM unnest(");
                out.push_bind_param::<Array<Integer>, _>(waiters)?;
                out.push_sql(", ");
                out.push_bind_param::<Array<Integer>, _>(blockers)?;
                // CASE keeps the order: a block that goes on after the way was looked at was the
                // same one then.
                out.push_sql(") AS way(waiter, blocker)) THEN ");
                block.walk_still(&self.pid, out.reborrow())?;
                out.push_sql(" ELSE false END");
            }
        }
        Ok(())
    }
}

query!(SendSignal => Bool, bool);

/// Asks whether this role may signal a session; no row when it is gone.
///
/// Diesel does not show the code of an error, and its text is in the server's
/// language: this tells "you may not" from a cancelled or timed-out statement.
#[derive(Clone, Debug)]
pub struct CanSignal {
    pub pid: i32,
}

impl QueryFragment<Pg> for CanSignal {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT me.rolsuper OR (them.rolsuper IS FALSE \
             AND (pg_catalog.pg_has_role(them.oid, 'USAGE') \
             OR pg_catalog.pg_has_role('pg_signal_backend', 'USAGE'))) \
             FROM pg_catalog.pg_stat_activity AS session \
             JOIN pg_catalog.pg_roles AS me ON me.rolname = CURRENT_USER \
             LEFT JOIN pg_catalog.pg_roles AS them ON them.oid = session.usesysid \
             WHERE session.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.pid)
    }
}

query!(CanSignal => Bool, bool);
