//! One block: a session keeps the prioritized session waiting for one lock.

use chrono::{DateTime, Utc};
use diesel::QueryResult;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Integer, Text, Timestamptz};

use crate::views::optional;

/// The text that identifies the object of a lock `l`.
macro_rules! object {
    () => {
        "pg_catalog.format('%s %s %s %s %s %s %s %s %s %s', l.locktype, l.database, l.relation, \
         l.page, l.tuple, l.virtualxid, l.transactionid, l.classid, l.objid, l.objsubid)"
    };
}

/// The text that identifies the object of a lock `l`.
pub(crate) const OBJECT: &str = object!();

/// The text that identifies an awaited lock `l`: its mode, and its object.
pub(crate) const AWAITED: &str = concat!("pg_catalog.concat(l.mode, ' ', ", object!(), ")");

/// The start of the wait for the lock `l`; NULL on PostgreSQL 13.
pub(crate) const WAIT_START: &str = optional!("l", "waitstart", "timestamptz");

/// One block by one session. The wait of the prioritized session distinguishes it from the next.
///
/// A session that often blocks for a moment should not be ended, so a new wait is a new
/// block. A new transaction of the blocker does not start one: a lock of its session outlives
/// many transactions.
///
/// As a condition it means that the block still continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The session that blocks.
    pub(crate) blocker: i32,
    /// The prioritized session.
    pub(crate) prioritized: i32,
    /// The virtual transaction of the prioritized session.
    pub(crate) transaction: Option<String>,
    /// The waits of the prioritized session, one per process: in a parallel query several may wait.
    /// Without the privilege to see workers there may be none.
    pub(crate) waits: Vec<Wait>,
    /// The blocker's virtual transaction, if it has locks of its own.
    pub(crate) blocker_transaction: Option<String>,
}

/// A process that waits for a lock.
///
/// As a condition it means that the process still waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    pub(crate) process: i32,
    /// The mode and the object, in the format of [`AWAITED`].
    pub(crate) lock: String,
    /// `None` on PostgreSQL 13, and in the first moments of a wait.
    pub(crate) start: Option<DateTime<Utc>>,
    /// The virtual transaction of the process.
    pub(crate) transaction: String,
}

impl Block {
    /// Returns whether it is the same block as `earlier`.
    pub(crate) fn continues(&self, earlier: &Self) -> bool {
        let is_same_blocker = self.blocker_transaction == earlier.blocker_transaction;
        if self.waits.is_empty() && earlier.waits.is_empty() {
            return self.transaction == earlier.transaction && is_same_blocker;
        }
        let mut pairs = self.waits.iter().zip(&earlier.waits);
        self.waits.len() == earlier.waits.len()
            && pairs.all(|(now, then)| now.continues(then, is_same_blocker))
    }

    /// Returns whether the starts of the waits distinguish this block from others. Otherwise the
    /// transactions of both sides do so.
    pub(crate) fn is_dated(&self) -> bool {
        !self.waits.is_empty() && self.waits.iter().all(|wait| wait.start.is_some())
    }
}

impl QueryFragment<Pg> for Block {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("true");
        for wait in &self.waits {
            out.push_sql(" AND ");
            wait.walk_ast(out.reborrow())?;
        }
        if self.is_dated() {
            return Ok(());
        }
        if let Some(transaction) = &self.transaction {
            walk_transaction(&self.prioritized, transaction, out.reborrow())?;
        }
        if let Some(transaction) = &self.blocker_transaction {
            walk_transaction(&self.blocker, transaction, out)?;
        }
        Ok(())
    }
}

impl Wait {
    /// Returns whether it is the same wait as `earlier`.
    ///
    /// Where the start of the wait is unknown, the transactions of both sides must be the same.
    /// A start that appears later belongs to the same wait; a start that disappears does not.
    fn continues(&self, earlier: &Self, is_same_blocker: bool) -> bool {
        let is_same_start = match earlier.start {
            Some(start) => self.start == Some(start),
            None => self.transaction == earlier.transaction && is_same_blocker,
        };
        self.process == earlier.process && self.lock == earlier.lock && is_same_start
    }

    /// Writes the condition that distinguishes this wait from others of the process.
    fn walk_start<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if let Some(start) = &self.start {
            out.push_sql(WAIT_START);
            out.push_sql(" = ");
            return out.push_bind_param::<Timestamptz, _>(start);
        }
        out.push_sql("l.virtualtransaction = ");
        out.push_bind_param::<Text, _>(&self.transaction)
    }
}

impl QueryFragment<Pg> for Wait {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "EXISTS (SELECT FROM pg_catalog.pg_lock_status() AS l WHERE NOT l.granted AND l.pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.process)?;
        out.push_sql(" AND ");
        out.push_sql(AWAITED);
        out.push_sql(" = ");
        out.push_bind_param::<Text, _>(&self.lock)?;
        out.push_sql(" AND ");
        self.walk_start(out.reborrow())?;
        out.push_sql(")");
        Ok(())
    }
}

/// Adds the condition that the session `pid` still has a lock in `transaction`.
fn walk_transaction<'b>(
    pid: &'b i32,
    transaction: &'b String,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql(" AND EXISTS (SELECT FROM pg_catalog.pg_lock_status() AS l WHERE l.pid = ");
    out.push_bind_param::<Integer, _>(pid)?;
    out.push_sql(" AND l.virtualtransaction = ");
    out.push_bind_param::<Text, _>(transaction)?;
    out.push_sql(")");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a block of a wait for `lock` since second `start`, between two transactions.
    fn block(lock: &str, start: Option<i64>, waiting: &str, blocking: &str) -> Block {
        Block {
            blocker: 2,
            prioritized: 1,
            transaction: Some(waiting.to_owned()),
            waits: vec![Wait {
                process: 1,
                lock: lock.to_owned(),
                start: start.and_then(|start| DateTime::from_timestamp(start, 0)),
                transaction: waiting.to_owned(),
            }],
            blocker_transaction: Some(blocking.to_owned()),
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
    fn the_next_transaction_of_a_blocker_is_the_same_block_if_the_start_of_the_wait_is_known() {
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
    fn a_second_process_that_waits_too_is_another_block() {
        let one = block("users", Some(1), "3/1", "4/1");
        let mut two = one.clone();
        two.waits.push(one.waits[0].clone());
        assert!(!two.continues(&one) && !one.continues(&two));
    }
}
