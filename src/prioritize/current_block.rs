//! A blocker's present block, and the signals in it.

use std::time::{Duration, Instant};

use crate::signal::{Block, Signal, SignalKind, SignalOutcome};
use crate::views::PgLock;

/// A block that the last poll has found.
#[derive(Debug)]
pub(super) struct CurrentBlock {
    /// The index of its session among all blockers of the run.
    pub(super) blocker: usize,
    pub(super) lock: PgLock,
    /// The time since which the block is known, or the blocker has come back.
    pub(super) since: Instant,
    /// The time at which the session was cancelled.
    pub(super) cancelled: Option<Instant>,
    pub(super) terminated: bool,
    /// Is `true` if the present poll has found it too.
    pub(super) is_found: bool,
    block: Block,
}

impl CurrentBlock {
    pub(super) fn new(blocker: usize, lock: PgLock, block: Block) -> Self {
        Self {
            blocker,
            lock,
            since: Instant::now(),
            cancelled: None,
            terminated: false,
            is_found: true,
            block,
        }
    }

    /// Continues the block, or starts the next one.
    pub(super) fn update(&mut self, lock: PgLock, block: Block) {
        if !block.continues(&self.block) {
            *self = Self::new(self.blocker, lock, block);
            return;
        }
        (self.lock, self.block, self.is_found) = (lock, block, true);
    }

    /// Notes the outcome of a signal. A block that was gone starts again if it comes back.
    pub(super) fn record(&mut self, signal: &Signal) {
        match signal.kind {
            _ if signal.outcome == SignalOutcome::Gone => {
                self.since = Instant::now();
                self.cancelled = None;
            }
            SignalKind::Cancel => self.cancelled = Some(Instant::now()),
            SignalKind::Terminate => self.terminated = true,
        }
    }

    /// Returns the rest of the grace period; `None` after its end.
    pub(super) fn grace_left(&self, grace: Duration) -> Option<Duration> {
        grace.checked_sub(self.since.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signal::Wait;
    use crate::types::{LockMode, LockType};

    fn lock() -> PgLock {
        PgLock {
            pid: Some(1),
            lock_type: LockType::Relation,
            mode: LockMode::Share,
            granted: false,
            fast_path: false,
            wait_start: None,
            wait_duration: None,
            database: None,
            relation: None,
            relation_oid: None,
            advisory_key: None,
            page: None,
            tuple: None,
            virtual_xid: None,
            transaction_id: None,
            class_id: None,
            object_id: None,
            object_subid: None,
            virtual_transaction: "3/1".to_owned(),
            activity: None,
        }
    }

    fn block(transaction: &str) -> Block {
        let wait = Wait {
            process: 1,
            lock: "a lock".to_owned(),
            start: None,
            transaction: transaction.to_owned(),
        };
        Block {
            blocker: 2,
            waits: vec![wait],
            blocker_transaction: None,
        }
    }

    #[test]
    fn the_signals_of_one_block_are_forgotten_in_the_next() {
        let mut current = CurrentBlock::new(0, lock(), block("3/1"));
        let since = current.since;
        (current.cancelled, current.terminated) = (Some(since), true);
        current.update(lock(), block("3/1"));
        assert_eq!((current.since, current.cancelled), (since, Some(since)));
        current.update(lock(), block("3/2"));
        assert_eq!((current.cancelled, current.terminated), (None, false));
        assert!(current.since > since && current.is_found);
    }
}
