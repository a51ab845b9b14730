//! The waits for locks that are held, not only queued for.

use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer, Text};

use crate::session::query;
use crate::signal::OBJECT;
use crate::types::LockMode;

/// Reads the locks that the blockers hold on what the waiters wait for: one row for each, with
/// both modes.
#[derive(Debug)]
pub(super) struct ReadHardEdges {
    pub(super) waiters: Vec<i32>,
    pub(super) blockers: Vec<i32>,
}

/// A lock that a blocker holds on what a waiter waits for.
#[derive(Debug, diesel::Queryable)]
pub(super) struct HeldLock {
    waiter: i32,
    blocker: i32,
    awaited: LockMode,
    held: LockMode,
}

query!(ReadHardEdges => (Integer, Integer, Text, Text), HeldLock);

impl HeldLock {
    /// Returns whether this lock keeps `waiter` waiting for `blocker`.
    pub(super) fn blocks(&self, waiter: i32, blocker: i32) -> bool {
        (self.waiter, self.blocker) == (waiter, blocker) && self.awaited.conflicts_with(&self.held)
    }
}

impl QueryFragment<Pg> for ReadHardEdges {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH locks AS MATERIALIZED (SELECT l.pid, l.granted, l.mode, ");
        out.push_sql(OBJECT);
        // Of two arrays, `unnest` is syntax and takes no schema.
        out.push_sql(
            " AS object FROM pg_catalog.pg_lock_status() AS l) \
             SELECT e.waiter, e.blocker, w.mode, h.mode FROM unnest(",
        );
        out.push_bind_param::<Array<Integer>, _>(&self.waiters)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.blockers)?;
        out.push_sql(
            ") AS e(waiter, blocker) JOIN locks AS w ON w.pid = e.waiter AND NOT w.granted \
             JOIN locks AS h ON h.pid = e.blocker AND h.granted AND h.object = w.object",
        );
        Ok(())
    }
}
