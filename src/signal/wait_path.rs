//! The waits that lead from one session to another.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, Integer};

/// A path through the waits: each blocker is the next waiter.
///
/// As a condition it means that every waiter still waits for its blocker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitPath {
    waiters: Vec<i32>,
    blockers: Vec<i32>,
}

impl WaitPath {
    /// Returns the path through these sessions; the first one waits for the second.
    pub(crate) fn through(sessions: &[i32]) -> Self {
        Self {
            waiters: sessions[..sessions.len().saturating_sub(1)].to_vec(),
            blockers: sessions.iter().skip(1).copied().collect(),
        }
    }
}

impl WaitPath {
    /// Returns the sessions on the path.
    pub(crate) fn sessions(&self) -> Vec<i32> {
        let first = self.waiters.first();
        first.into_iter().chain(&self.blockers).copied().collect()
    }
}

impl QueryFragment<Pg> for WaitPath {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "(SELECT pg_catalog.bool_and(blocker = ANY (pg_catalog.pg_blocking_pids(waiter))) ",
        );
        // Of two arrays, `unnest` is syntax and takes no schema.
        out.push_sql("FROM unnest(");
        out.push_bind_param::<Array<Integer>, _>(&self.waiters)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Integer>, _>(&self.blockers)?;
        out.push_sql(") AS path(waiter, blocker))");
        Ok(())
    }
}
