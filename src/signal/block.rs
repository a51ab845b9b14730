//! One block: a session keeps one wait of ours waiting.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::sql_types::{Integer, Text, Timestamptz};

use crate::views::optional;

/// Tells an awaited lock from others: its mode, and all that names the thing.
pub(crate) const AWAITED: &str = "pg_catalog.format('%s %s %s %s %s %s %s %s %s %s %s', l.mode, l.locktype, \
    l.database, l.relation, l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid)";

/// When the wait for the lock `l` began; NULL on PostgreSQL 13.
pub(crate) const WAIT_START: &str = optional!("l", "waitstart", "timestamptz");

/// What tells one block of a session from its next: our wait.
///
/// A session that often blocks for a moment is no reason to end it, so a new wait of ours
/// is a new block. A new transaction of the blocker is none: a lock of its session
/// outlives many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// A process each: in a parallel query several may wait.
    pub(crate) waits: Vec<Wait>,
    /// The blocker's virtual transaction, if it has locks of its own.
    pub(crate) blocker_transaction: Option<String>,
}

/// A process of ours that waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) process: i32,
    /// The mode and the thing, as [`AWAITED`] puts them.
    pub(crate) lock: String,
    /// `None` on PostgreSQL 13, and in the first moments of a wait.
    pub(crate) start: Option<DateTime<Utc>>,
    /// The virtual transaction of the process.
    pub(crate) transaction: String,
}

impl Block {
    /// Whether it goes on from `earlier`.
    pub(crate) fn continues(&self, earlier: &Self) -> bool {
        let is_same_blocker = self.blocker_transaction == earlier.blocker_transaction;
        let mut pairs = self.waits.iter().zip(&earlier.waits);
        self.waits.len() == earlier.waits.len()
            && pairs.all(|(now, then)| now.continues(then, is_same_blocker))
    }

    /// Asks the server whether the block by the session `pid` still goes on.
    pub(crate) fn walk_still<'b>(
        &'b self,
        pid: &'b i32,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("true");
        for wait in &self.waits {
            wait.walk_still(out.reborrow())?;
        }
        match &self.blocker_transaction {
            Some(transaction) if self.waits.iter().any(|wait| wait.start.is_none()) => {
                walk_transaction(pid, transaction, out)
            }
            _ => Ok(()),
        }
    }
}

impl Wait {
    /// Where the start of the wait is not known, the transactions of both sides must be the
    /// same. A start that appears later is that of the same wait; one that is gone is not.
    fn continues(&self, earlier: &Self, is_same_blocker: bool) -> bool {
        let is_same_start = match earlier.start {
            Some(start) => self.start == Some(start),
            None => self.transaction == earlier.transaction && is_same_blocker,
        };
        self.process == earlier.process && self.lock == earlier.lock && is_same_start
    }

    fn walk_still<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            " AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE NOT l.granted AND l.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.process)?;
        out.push_sql(" AND ");
        out.push_sql(AWAITED);
        out.push_sql(" = ");
        out.push_bind_param::<Text, _>(&self.lock)?;
        out.push_sql(" AND ");
        match &self.start {
            Some(start) => {
                out.push_sql(WAIT_START);
                out.push_sql(" = ");
                out.push_bind_param::<Timestamptz, _>(start)?;
            }
            None => {
                out.push_sql("l.virtualtransaction = ");
                out.push_bind_param::<Text, _>(&self.transaction)?;
            }
        }
        out.push_sql(")");
        Ok(())
    }
}

fn walk_transaction<'b>(
    pid: &'b i32,
    transaction: &'b String,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql(" AND EXISTS (SELECT FROM pg_catalog.pg_locks AS l WHERE l.pid = ");
    out.push_bind_param::<Integer, _>(pid)?;
    out.push_sql(" AND l.virtualtransaction = ");
    out.push_bind_param::<Text, _>(transaction)?;
    out.push_sql(")");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wait for `lock` in transaction `transaction` since second `start`, for a blocker's `theirs`.
    fn block(lock: &str, start: Option<i64>, transaction: &str, theirs: &str) -> Block {
        Block {
            waits: vec![Wait {
                process: 1,
                lock: lock.to_owned(),
                start: start.and_then(|start| DateTime::from_timestamp(start, 0)),
                transaction: transaction.to_owned(),
            }],
            blocker_transaction: Some(theirs.to_owned()),
        }
    }

    #[test]
    fn a_wait_that_began_later_is_another_block() {
        let block = |lock, start| block(lock, Some(start), "3/1", "4/1");
        assert!(block("users", 1).continues(&block("users", 1)));
        assert!(!block("users", 2).continues(&block("users", 1)));
        assert!(!block("posts", 1).continues(&block("users", 1)));
    }

    #[test]
    fn a_blockers_next_transaction_is_the_same_block_if_the_start_of_our_wait_is_known() {
        let earlier = block("users", Some(1), "3/1", "4/1");
        assert!(block("users", Some(1), "3/1", "4/0").continues(&earlier));
        let earlier = block("users", None, "3/1", "4/1");
        assert!(!block("users", None, "3/1", "4/2").continues(&earlier));
        assert!(!block("users", None, "3/2", "4/1").continues(&earlier));
        assert!(block("users", None, "3/1", "4/1").continues(&earlier));
    }

    #[test]
    fn a_start_that_appears_is_the_same_block_and_one_that_disappears_is_not() {
        let (unknown, known) = (
            block("users", None, "3/1", "4/1"),
            block("users", Some(1), "3/1", "4/1"),
        );
        assert!(known.continues(&unknown));
        assert!(!unknown.continues(&known));
        assert!(!block("users", Some(1), "3/1", "4/2").continues(&unknown));
    }

    #[test]
    fn another_process_of_ours_that_waits_too_is_another_block() {
        let one = block("users", Some(1), "3/1", "4/1");
        let mut two = one.clone();
        two.waits.push(one.waits[0].clone());
        assert!(!two.continues(&one) && !one.continues(&two));
    }
}
