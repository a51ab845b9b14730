//! The edges of the graph: the blockers of each awaited lock, and the kind of each block.
//!
//! The server copies its locks at one moment, and is asked for the blockers later. The copy
//! alone decides about holders: it never contradicts itself. It does not contain the order of
//! the queue, for which the later answer is used, if the copy does not refute it.

use std::collections::{BTreeMap, BTreeSet};

use super::lock_tag::{LockTag, LocksByTag};
use super::node::WaitId;
use super::node::{BlockKind, WaitBlocker};
use super::query::WaitGraphRow;
use crate::views::{PgActivity, PgLock};

/// Returns the blockers of a lock, hard blockers first; empty for a held lock.
pub fn blockers(row: &WaitGraphRow, locks: &LocksByTag<'_>) -> Vec<WaitBlocker> {
    if row.lock.granted {
        return Vec::new();
    }
    let wait = AwaitedLock::new(row, &locks[&LockTag::of(&row.lock)]);
    let mut kinds = wait.holders();
    for (id, kind) in wait.queue() {
        kinds.entry(id).or_insert(kind);
    }
    let blocker = |(id, kind): (WaitId, BlockKind)| WaitBlocker {
        pid: id.pid(),
        gid: None,
        kind,
        id,
    };
    let mut blockers: Vec<_> = kinds.into_iter().map(blocker).collect();
    blockers.sort_by_key(|blocker| blocker.kind);
    blockers
}

/// An awaited lock, and all locks on the same object.
struct AwaitedLock<'r> {
    lock: &'r PgLock,
    id: WaitId,
    competitors: &'r [&'r PgLock],
    /// The result of `pg_blocking_pids`, which is empty if the wait has ended.
    blocking_pids: BTreeSet<i32>,
}

type Kinds = BTreeMap<WaitId, BlockKind>;

impl<'r> AwaitedLock<'r> {
    fn new(row: &'r WaitGraphRow, competitors: &'r [&'r PgLock]) -> Self {
        Self {
            lock: &row.lock,
            id: WaitId::of(&row.lock),
            competitors,
            blocking_pids: row.blocking_pids.iter().flatten().copied().collect(),
        }
    }

    /// Returns the hard blockers: the holders of conflicting modes.
    fn holders(&self) -> Kinds {
        // Locks on the fast path were copied at an earlier moment. The server moves a lock away
        // from there before a session waits for it.
        let holders = self.conflicting(|it| it.granted && !it.fast_path);
        let holders = holders.filter(|it| self.is_of_another_group(it));
        holders
            .map(|it| (WaitId::of(it), BlockKind::Hard))
            .collect()
    }

    /// Returns the soft blockers: the waiters for conflicting modes that are ahead.
    fn queue(&self) -> Kinds {
        let listed = self.ahead(|it| self.is_listed(it) && self.may_be_ahead(it));
        if !listed.is_empty() || !self.holders().is_empty() {
            return listed;
        }
        // The wait has ended since, and with it the answer of the server.
        self.ahead(|it| started_before(it, self.lock) == Some(true))
    }

    fn ahead(&self, is_ahead: impl Fn(&PgLock) -> bool) -> Kinds {
        let waiters = self.conflicting(|it| !it.granted && is_ahead(it));
        waiters
            .map(|it| (WaitId::of(it), BlockKind::Soft))
            .collect()
    }

    /// Returns the locks of other sessions whose modes conflict.
    fn conflicting(&self, keep: impl Fn(&PgLock) -> bool) -> impl Iterator<Item = &'r PgLock> {
        let conflicts = move |it: &PgLock| it.mode.conflicts_with(&self.lock.mode) && keep(it);
        let locks = self.competitors.iter().copied();
        locks.filter(move |it| conflicts(it) && WaitId::of(it) != self.id)
    }

    fn is_listed(&self, lock: &PgLock) -> bool {
        let pid = WaitId::of(lock).pid();
        pid.is_some_and(|pid| self.blocking_pids.contains(&pid))
    }

    /// Returns false for a process of the same parallel query.
    ///
    /// Without the privilege to see leaders, the server's answer decides. It has none for a
    /// wait that has ended, nor for the replay of a standby.
    fn is_of_another_group(&self, lock: &PgLock) -> bool {
        let is_known = !is_hidden(self.lock) && !is_hidden(lock);
        is_known || lock.pid.is_none() || self.blocking_pids.is_empty() || self.is_listed(lock)
    }

    /// Returns false if the copy refutes that a waiter is ahead.
    ///
    /// A session that waits again is behind all others. Only one that holds the object in
    /// another mode can be put ahead of earlier waiters.
    fn may_be_ahead(&self, other: &PgLock) -> bool {
        started_before(other, self.lock) != Some(false) || self.is_holder(&WaitId::of(other))
    }

    fn is_holder(&self, id: &WaitId) -> bool {
        let mut held = self.competitors.iter().filter(|it| it.granted);
        held.any(|it| WaitId::of(it) == *id)
    }
}

/// Returns whether a wait started before another; `None` if the server does not tell.
fn started_before(lock: &PgLock, other: &PgLock) -> Option<bool> {
    Some(lock.wait_start? <= other.wait_start?)
}

fn is_hidden(lock: &PgLock) -> bool {
    lock.activity.as_ref().is_some_and(PgActivity::is_hidden)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::types::LockMode::{Exclusive, Share};
    use crate::wait_graph::graph::WaitGraph;
    use crate::wait_graph::node::WaitNode;
    use crate::wait_graph::test_rows::{row, waiting};

    fn blockers_of(graph: &WaitGraph, pid: i32) -> Vec<(Option<i32>, BlockKind)> {
        let blockers = graph.node(pid).map_or(&[][..], WaitNode::blockers);
        blockers.iter().map(|it| (it.pid, it.kind)).collect()
    }

    /// Returns a wait since this second.
    fn since(second: i64, mut row: WaitGraphRow) -> WaitGraphRow {
        row.lock.wait_start = DateTime::from_timestamp(second, 0);
        row
    }

    #[test]
    fn the_holder_in_the_copy_blocks_although_it_has_released_since() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            waiting(2, 1, Exclusive, &[]),
        ]);
        assert_eq!(blockers_of(&graph, 2), [(Some(1), BlockKind::Hard)]);
    }

    #[test]
    fn a_session_that_acquired_the_lock_since_is_not_its_holder_yet() {
        // Session 2 was granted the lock, and session 1 waits for it again.
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            since(1, waiting(2, 1, Exclusive, &[])),
            since(2, waiting(3, 1, Exclusive, &[1, 2])),
        ]);
        assert_eq!(blockers_of(&graph, 2), [(Some(1), BlockKind::Hard)]);
        assert_eq!(blockers_of(&graph, 1), []);
        let of_last = [(Some(1), BlockKind::Hard), (Some(2), BlockKind::Soft)];
        assert_eq!(blockers_of(&graph, 3), of_last);
    }

    #[test]
    fn a_session_that_waits_again_was_not_behind_the_waiters_of_today() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            since(1, waiting(2, 1, Exclusive, &[3])),
            since(2, waiting(3, 1, Exclusive, &[2])),
        ]);
        assert_eq!(blockers_of(&graph, 2), [(Some(1), BlockKind::Hard)]);
        assert!(graph.cycles().is_empty());
    }

    #[test]
    fn a_waiter_whose_answer_has_gone_is_behind_those_that_waited_before() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Share, &[]),
            since(1, waiting(2, 1, Exclusive, &[])),
            since(2, waiting(3, 1, Share, &[])),
        ]);
        assert_eq!(blockers_of(&graph, 3), [(Some(2), BlockKind::Soft)]);
    }

    #[test]
    fn a_lock_on_the_fast_path_blocks_nothing() {
        let mut reader = row(1, 1, Share, &[]);
        reader.lock.fast_path = true;
        let graph = WaitGraph::from_rows(vec![reader, waiting(2, 1, Exclusive, &[])]);
        assert_eq!(blockers_of(&graph, 2), []);
        // It waits, so it is not a root.
        assert_eq!(graph.roots().count(), 0);
        assert_eq!(graph.depth(2), None);
    }
}
