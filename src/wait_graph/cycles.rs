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
        let cycles = self.cycles().into_iter();
        let changed: Vec<Vec<i32>> = cycles
            .filter(|cycle| !cycle.iter().all(|pid| self.waits_as_in(earlier, *pid)))
            .collect();
        for cycle in &changed {
            self.remove_soft_blocks(cycle);
        }
    }

    fn waits_as_in(&self, earlier: &Self, pid: i32) -> bool {
        let wait_in = |graph: &'_ Self| graph.node(pid)?.wait.clone();
        let waits = wait_in(self).zip(wait_in(earlier));
        waits.is_some_and(|(now, then)| now.continues(&then))
    }

    /// Removes the soft blocks among some sessions.
    fn remove_soft_blocks(&mut self, pids: &[i32]) {
        let is_among = |pid: Option<i32>| pid.is_some_and(|pid| pids.contains(&pid));
        let nodes = self.nodes.values_mut().filter(|node| is_among(node.pid));
        for wait in nodes.filter_map(|node| node.wait.as_mut()) {
            wait.blockers
                .retain(|it| it.kind == BlockKind::Hard || !is_among(it.pid));
        }
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
}
