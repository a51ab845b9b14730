//! A blocker's present block, and the signals in it.

use std::time::{Duration, Instant};

use super::report::Blocker;
use crate::signal::{Block, Signal, SignalKind, SignalOutcome};

/// A block that the last poll has found.
#[derive(Clone, Debug)]
pub(super) struct CurrentBlock {
    /// The session that blocks, the lock that is awaited, and the signals in this block.
    pub(super) session: Blocker,
    /// The time since which the block is known, or the blocker has come back.
    pub(super) since: Instant,
    /// The time at which the session was cancelled.
    pub(super) cancelled: Option<Instant>,
    pub(super) terminated: bool,
    /// The last poll that has found it.
    pub(super) found: Instant,
    /// Is `true` if the present poll has found it too.
    pub(super) is_found: bool,
    block: Block,
}

impl CurrentBlock {
    pub(super) fn new(session: Blocker, block: Block) -> Self {
        Self {
            session,
            since: Instant::now(),
            cancelled: None,
            terminated: false,
            found: Instant::now(),
            is_found: true,
            block,
        }
    }

    /// Continues the block, or starts the next one.
    pub(super) fn update(&mut self, session: Blocker, block: Block) {
        if !block.continues(&self.block) {
            *self = Self::new(session, block);
            return;
        }
        (self.session, self.block) = (session, block);
        (self.found, self.is_found) = (Instant::now(), true);
    }

    /// Takes over the grace period and the signals of a block of the part before, if the
    /// blocker is in the same transaction.
    pub(super) fn carry_over(&mut self, earlier: &Self) {
        if self.block.blocker_transaction != earlier.block.blocker_transaction {
            return;
        }
        // The time in between does not count.
        let away = self.found.saturating_duration_since(earlier.found);
        self.since = earlier.since + away;
        self.cancelled = earlier.cancelled.map(|at| at + away);
        self.terminated = earlier.terminated;
    }

    /// Returns the time for which the session has blocked.
    pub(super) fn blocked_for(&self) -> Duration {
        self.since.elapsed()
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

    /// Returns whether the block has lasted for the grace period, and no signal was decided in it.
    pub(super) fn awaits_decision(&self, grace: Duration) -> bool {
        let is_decided = self.terminated || self.cancelled.is_some() || self.session.protected;
        !is_decided && self.session.pid.is_some() && self.blocked_for() >= grace
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
    use crate::views::PgLock;

    fn block(transaction: &str) -> Block {
        let wait = Wait {
            process: 1,
            lock: "a lock".to_owned(),
            start: None,
            transaction: transaction.to_owned(),
        };
        Block {
            blocker: 2,
            prioritized: 1,
            transaction: Some(transaction.to_owned()),
            waits: vec![wait],
            blocker_transaction: Some("4/1".to_owned()),
        }
    }

    fn session() -> Blocker {
        Blocker {
            pid: Some(2),
            prepared: None,
            activity: None,
            lock: PgLock::default(),
            blocked_for: Duration::ZERO,
            protected: false,
            protection: None,
            signals: Vec::new(),
        }
    }

    #[test]
    fn the_signals_of_one_block_are_forgotten_in_the_next() {
        let mut current = CurrentBlock::new(session(), block("3/1"));
        let since = current.since;
        (current.cancelled, current.terminated) = (Some(since), true);
        current.update(session(), block("3/1"));
        assert_eq!((current.since, current.cancelled), (since, Some(since)));
        current.update(session(), block("3/2"));
        assert_eq!((current.cancelled, current.terminated), (None, false));
        assert!(current.since > since && current.is_found);
    }

    #[test]
    fn a_block_in_the_next_attempt_is_carried_over_only_if_the_blocker_is_in_the_same_transaction()
    {
        let second = Duration::from_secs(1);
        let mut earlier = CurrentBlock::new(session(), block("3/1"));
        earlier.found = earlier.since + second;
        earlier.cancelled = Some(earlier.since);
        let mut current = CurrentBlock::new(session(), block("3/2"));
        current.found = earlier.found + 10 * second;
        current.carry_over(&earlier);
        assert_eq!(current.found - current.since, second);
        assert_eq!(current.cancelled, Some(current.since));

        let mut other = CurrentBlock::new(session(), block("3/2"));
        other.block.blocker_transaction = Some("4/2".to_owned());
        let since = other.since;
        other.carry_over(&earlier);
        assert_eq!((other.since, other.cancelled), (since, None));
    }
}
