//! Cycles of waits: deadlocks.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::WaitGraph;
use super::node::{BlockKind, WaitId, WaitNode};

impl WaitGraph {
    /// Returns the deadlocks: cycles in which each session waits for the next.
    ///
    /// The last session of a cycle waits for the first. PostgreSQL ends one of the sessions
    /// after `deadlock_timeout` (default: 1 s). Of cycles that share a session, one is returned.
    pub fn cycles(&self) -> Vec<Vec<i32>> {
        let mut cycles = Vec::new();
        let mut left = self.unresolvable();
        while let Some(start) = left.first().copied() {
            let path = self.path_within(&left, start);
            cycles.extend(path.cycle);
            left.retain(|id| !path.visited.contains(id));
        }
        cycles
    }

    /// Returns the number of waiters whose waits end once the roots have ended.
    ///
    /// Members of a cycle and their waiters do not count, nor waiters whose blockers the
    /// server does not show.
    pub fn count_behind_roots(&self) -> usize {
        let left = self.left_without(self.roots());
        self.nodes.len() - self.roots().count() - left.len()
    }

    /// Breaks the cycles that an earlier graph does not contain, where the order of a queue
    /// makes one.
    ///
    /// The order of a queue is read a moment after the locks, and may have changed. A cycle of
    /// hard blocks needs no earlier graph: all its locks were read at once.
    pub(super) fn keep_cycles_of(&mut self, earlier: &Self) {
        // Of cycles that share a session one is returned, and the others once it is broken.
        let mut is_broken = true;
        while std::mem::take(&mut is_broken) {
            for cycle in self.cycles() {
                let is_kept = self.is_cycle_of(earlier, &cycle);
                is_broken |= !is_kept && self.remove_soft_blocks(&cycle);
            }
        }
    }

    /// Returns true if an earlier graph has the same cycle, of the same waits.
    ///
    /// Since these waits continued, the order in which the earlier graph found them is true.
    fn is_cycle_of(&self, earlier: &Self, cycle: &[i32]) -> bool {
        let next = cycle.iter().cycle().skip(1);
        cycle.iter().zip(next).all(|(pid, next)| {
            let mut blockers = earlier.blockers_of(*pid);
            self.waits_as_in(earlier, *pid) && blockers.any(|it| it.pid == Some(*next))
        })
    }

    fn waits_as_in(&self, earlier: &Self, pid: i32) -> bool {
        let wait_in = |graph: &'_ Self| graph.node(pid)?.wait.clone();
        let waits = wait_in(self).zip(wait_in(earlier));
        waits.is_some_and(|(now, then)| now.continues(&then))
    }

    /// Removes the soft blocks among some sessions, and returns false if there are none.
    fn remove_soft_blocks(&mut self, pids: &[i32]) -> bool {
        let is_among = |pid: Option<i32>| pid.is_some_and(|pid| pids.contains(&pid));
        let nodes = self.nodes.values_mut().filter(|node| is_among(node.pid));
        let mut is_removed = false;
        for wait in nodes.filter_map(|node| node.wait.as_mut()) {
            let before = wait.blockers.len();
            wait.blockers
                .retain(|it| it.kind == BlockKind::Hard || !is_among(it.pid));
            is_removed |= wait.blockers.len() < before;
        }
        is_removed
    }

    /// Follows the waits from a session, through the sessions of a set, until one repeats.
    fn path_within<'g>(&'g self, set: &BTreeSet<&'g WaitId>, start: &'g WaitId) -> Path<'g> {
        let mut visited = vec![start];
        loop {
            let last = &self.nodes[visited[visited.len() - 1]];
            let mut blockers = last.blockers().iter().map(|blocker| &blocker.id);
            let Some(next) = blockers.find(|id| set.contains(id)) else {
                let cycle = None;
                return Path { visited, cycle };
            };
            if let Some(i) = visited.iter().position(|id| *id == next) {
                let cycle = Some(visited[i..].iter().filter_map(|id| id.pid()).collect());
                return Path { visited, cycle };
            }
            visited.push(next);
        }
    }

    /// Returns the sessions whose wait no root can end: members of a cycle, and their waiters.
    ///
    /// Removes the sessions without blockers, then the waiters whose blockers are all removed, and so on.
    fn unresolvable(&self) -> BTreeSet<&WaitId> {
        self.left_without(self.nodes().filter(|node| node.blockers().is_empty()))
    }

    /// Removes some nodes, then the waiters whose blockers are all removed, and so on.
    fn left_without<'g>(
        &'g self,
        removed: impl Iterator<Item = &'g WaitNode>,
    ) -> BTreeSet<&'g WaitId> {
        let mut blockers_left: BTreeMap<&WaitId, usize> = BTreeMap::new();
        let mut waiters: BTreeMap<&WaitId, Vec<&WaitId>> = BTreeMap::new();
        for node in self.nodes() {
            blockers_left.insert(&node.id, node.blockers().len());
            for blocker in node.blockers() {
                waiters.entry(&blocker.id).or_default().push(&node.id);
            }
        }
        let mut resolved: Vec<&WaitId> = removed.map(|node| &node.id).collect();
        while let Some(id) = resolved.pop() {
            blockers_left.remove(id);
            for waiter in waiters.get(id).into_iter().flatten() {
                if let Some(left) = blockers_left.get_mut(waiter) {
                    *left -= 1;
                    resolved.extend((*left == 0).then_some(*waiter));
                }
            }
        }
        blockers_left.into_keys().collect()
    }
}

struct Path<'g> {
    visited: Vec<&'g WaitId>,
    cycle: Option<Vec<i32>>,
}

#[cfg(test)]
mod tests {
    use crate::types::LockMode::Exclusive;
    use crate::wait_graph::graph::WaitGraph;
    use crate::wait_graph::test_rows::{row, waiting};

    #[test]
    fn a_session_that_waits_for_itself_through_another_is_one_cycle() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            row(2, 2, Exclusive, &[]),
            row(1, 2, Exclusive, &[2]),
            row(2, 1, Exclusive, &[1]),
            row(3, 1, Exclusive, &[1, 2]),
        ]);
        assert_eq!(graph.cycles(), [[1, 2]]);
        assert_eq!(graph.depth(3), None);
        assert_eq!(graph.blocked_count(1), 2);
        assert_eq!(graph.roots().count(), 0);
        assert_eq!(graph.count_behind_roots(), 0);
    }

    /// Returns a graph in which sessions 2 and 3 are behind each other in a queue.
    fn two_orders_of_a_queue() -> WaitGraph {
        WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            waiting(2, 1, Exclusive, &[1, 3]),
            waiting(3, 1, Exclusive, &[1, 2]),
        ])
    }

    #[test]
    fn a_cycle_that_an_earlier_graph_does_not_contain_is_broken() {
        let mut graph = two_orders_of_a_queue();
        assert_eq!(graph.cycles().len(), 1);
        graph.keep_cycles_of(&two_orders_of_a_queue());
        assert_eq!(graph.cycles().len(), 1);
        graph.keep_cycles_of(&WaitGraph::default());
        assert_eq!(graph.cycles().len(), 0);
        assert_eq!(graph.blocked_count(1), 2);
    }

    #[test]
    fn another_wait_for_the_same_lock_does_not_continue_a_cycle() {
        let mut graph = two_orders_of_a_queue();
        let mut earlier = two_orders_of_a_queue();
        let node = earlier.nodes.values_mut().find(|it| it.pid == Some(2));
        let wait = node.and_then(|node| node.wait.as_mut()).unwrap();
        wait.lock.virtual_transaction = "2/7".into();
        graph.keep_cycles_of(&earlier);
        assert_eq!(graph.cycles().len(), 0);
    }

    #[test]
    fn a_cycle_whose_order_an_earlier_graph_refutes_is_broken() {
        let mut graph = two_orders_of_a_queue();
        let earlier = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            waiting(2, 1, Exclusive, &[1]),
            waiting(3, 1, Exclusive, &[1, 2]),
        ]);
        graph.keep_cycles_of(&earlier);
        assert_eq!(graph.cycles().len(), 0);
    }

    #[test]
    fn all_cycles_that_share_a_session_are_broken() {
        let mut graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            waiting(2, 1, Exclusive, &[1, 3, 4]),
            waiting(3, 1, Exclusive, &[1, 2, 4]),
            waiting(4, 1, Exclusive, &[1, 2, 3]),
        ]);
        graph.keep_cycles_of(&WaitGraph::default());
        assert_eq!(graph.cycles().len(), 0);
        assert_eq!(graph.blocked_count(1), 3);
    }
}
