//! The edges of the graph: the blockers of each awaited lock, and the kind of each block.
//!
//! The server copies its locks at one moment, and is asked for the blockers later. The copy
//! alone decides about holders: it never contradicts itself. It does not contain the order of
//! the queue, for which the later answer is used, if the copy does not refute it.

//!
//! Each of n waiters may have n blockers, so the sessions are numbers here, and the locks on an
//! object are sorted by them.

use std::collections::BTreeMap;

use super::lock_tag::LockTag;
use super::node::{BlockKind, WaitId};
use super::query::WaitGraphRow;
use crate::types::TableLockMode;
use crate::views::{PgActivity, PgLock};

/// The blocks among the sessions of some rows.
pub struct Edges {
    pub sessions: Sessions,
    /// For each row the blockers of the awaited lock, hard ones first; empty for a held lock.
    pub blockers: Vec<Blockers>,
    /// For each session whether it waits or blocks.
    pub is_node: Vec<bool>,
}

/// The blockers of a lock: sessions, with the kinds of the blocks.
type Blockers = Vec<(usize, BlockKind)>;

/// The sessions and the prepared transactions of some rows, in the order of their identities.
pub struct Sessions {
    pub ids: Vec<WaitId>,
    /// The session of each row.
    pub of_rows: Vec<usize>,
}

impl Sessions {
    fn of(rows: &[WaitGraphRow]) -> Self {
        let of_rows: Vec<WaitId> = rows.iter().map(|row| WaitId::of(&row.lock)).collect();
        let mut ids = of_rows.clone();
        ids.sort_unstable();
        ids.dedup();
        let position = |id| ids.partition_point(|it| it < id);
        let of_rows = of_rows.iter().map(position).collect();
        Self { ids, of_rows }
    }
}

impl Edges {
    pub fn of(rows: &[WaitGraphRow]) -> Self {
        let sessions = Sessions::of(rows);
        let mut blockers = vec![Blockers::new(); rows.len()];
        let mut is_node = vec![false; sessions.ids.len()];
        for locks in locks_by_tag(rows, &sessions) {
            for wait in locks.iter().filter(|it| !it.lock.granted) {
                let found = AwaitedLock::new(wait, &locks, rows).blockers();
                is_node[wait.session] = true;
                for (session, _) in &found {
                    is_node[*session] = true;
                }
                blockers[wait.row] = found;
            }
        }
        Self {
            sessions,
            blockers,
            is_node,
        }
    }
}

/// A lock on an object, with what decides about blocks.
struct Competitor<'r> {
    row: usize,
    session: usize,
    pid: Option<i32>,
    lock: &'r PgLock,
    mode: Option<TableLockMode>,
    is_hidden: bool,
    /// True if its session holds the object in any mode.
    is_holder: bool,
}

/// Groups the locks by the locked object, in the order of their sessions.
fn locks_by_tag<'r>(rows: &'r [WaitGraphRow], sessions: &Sessions) -> Vec<Vec<Competitor<'r>>> {
    let mut by_tag = BTreeMap::<LockTag<'_>, Vec<Competitor<'_>>>::new();
    for (row, session) in sessions.of_rows.iter().enumerate() {
        let lock = &rows[row].lock;
        by_tag
            .entry(LockTag::of(lock))
            .or_default()
            .push(Competitor {
                row,
                session: *session,
                pid: sessions.ids[*session].pid(),
                lock,
                mode: lock.mode.table_lock_mode(),
                is_hidden: lock.activity.as_ref().is_some_and(PgActivity::is_hidden),
                is_holder: false,
            });
    }
    by_tag.into_values().map(in_order).collect()
}

fn in_order(mut locks: Vec<Competitor<'_>>) -> Vec<Competitor<'_>> {
    locks.sort_by_key(|it| it.session);
    for of_session in locks.chunk_by_mut(|a, b| a.session == b.session) {
        let is_holder = of_session.iter().any(|it| it.lock.granted);
        for lock in of_session {
            lock.is_holder = is_holder;
        }
    }
    locks
}

/// An awaited lock, and all locks on the same object.
struct AwaitedLock<'l, 'r> {
    wait: &'l Competitor<'r>,
    competitors: &'l [Competitor<'r>],
    /// The result of `pg_blocking_pids`, sorted; it is empty if the wait has ended.
    blocking_pids: Vec<i32>,
}

impl<'l, 'r> AwaitedLock<'l, 'r> {
    fn new(
        wait: &'l Competitor<'r>,
        competitors: &'l [Competitor<'r>],
        rows: &[WaitGraphRow],
    ) -> Self {
        let mut blocking_pids = rows[wait.row].blocking_pids.clone().unwrap_or_default();
        blocking_pids.sort_unstable();
        Self {
            wait,
            competitors,
            blocking_pids,
        }
    }

    /// Returns the blockers, the hard ones first.
    fn blockers(&self) -> Blockers {
        let is_listed = self.listed();
        let mut blockers = self.holders(&is_listed);
        let mut queue = self.ahead(|i, it| is_listed[i] && self.may_be_ahead(it));
        if queue.is_empty() && blockers.is_empty() {
            // The wait has ended since, and with it the answer of the server.
            queue = self.ahead(|_, it| started_before(it.lock, self.wait.lock) == Some(true));
        }
        queue.retain(|session| {
            let hard = blockers.binary_search_by_key(session, |(it, _)| *it);
            hard.is_err()
        });
        blockers.extend(queue.into_iter().map(|session| (session, BlockKind::Soft)));
        blockers
    }

    /// Returns for each competitor whether the server lists its session.
    ///
    /// Both are in the order of the pids; the prepared transactions follow the sessions.
    fn listed(&self) -> Vec<bool> {
        let mut listed = self.blocking_pids.iter().peekable();
        let is_listed = |it: &Competitor<'_>| {
            let Some(pid) = it.pid else { return false };
            while listed.next_if(|listed| **listed < pid).is_some() {}
            listed.peek() == Some(&&pid)
        };
        self.competitors.iter().map(is_listed).collect()
    }

    /// Returns the hard blockers: the holders of conflicting modes.
    fn holders(&self, is_listed: &[bool]) -> Blockers {
        // Locks on the fast path were copied at an earlier moment. The server moves a lock away
        // from there before a session waits for it.
        let holders = self.conflicting(|i, it| {
            let is_holder = it.lock.granted && !it.lock.fast_path;
            is_holder && self.is_of_another_group(it, is_listed[i])
        });
        let hard = |session| (session, BlockKind::Hard);
        holders.into_iter().map(hard).collect()
    }

    /// Returns the waiters for conflicting modes that are ahead.
    fn ahead(&self, is_ahead: impl Fn(usize, &Competitor<'_>) -> bool) -> Vec<usize> {
        self.conflicting(|i, it| !it.lock.granted && is_ahead(i, it))
    }

    /// Returns the other sessions that have a lock with a conflicting mode.
    fn conflicting(&self, keep: impl Fn(usize, &Competitor<'_>) -> bool) -> Vec<usize> {
        let Some(mode) = self.wait.mode else {
            return Vec::new();
        };
        let mut sessions = Vec::new();
        for (i, it) in self.competitors.iter().enumerate() {
            let conflicts = it.mode.is_some_and(|it| it.conflicts_with(mode));
            let is_new = it.session != self.wait.session && sessions.last() != Some(&it.session);
            if conflicts && is_new && keep(i, it) {
                sessions.push(it.session);
            }
        }
        sessions
    }

    /// Returns false for a process of the same parallel query.
    ///
    /// Without the privilege to see leaders, the server's answer decides. It has none for a
    /// wait that has ended, nor for the replay of a standby.
    fn is_of_another_group(&self, other: &Competitor<'_>, is_listed: bool) -> bool {
        let is_known = !self.wait.is_hidden && !other.is_hidden;
        is_known || other.lock.pid.is_none() || self.blocking_pids.is_empty() || is_listed
    }

    /// Returns false if the copy refutes that a waiter is ahead.
    ///
    /// A session that waits again is behind all others. Only one that holds the object in
    /// another mode can be put ahead of earlier waiters.
    fn may_be_ahead(&self, other: &Competitor<'_>) -> bool {
        started_before(other.lock, self.wait.lock) != Some(false) || other.is_holder
    }
}

/// Returns whether a wait started before another; `None` if the server does not tell.
fn started_before(lock: &PgLock, other: &PgLock) -> Option<bool> {
    Some(lock.wait_start? <= other.wait_start?)
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
