//! Cycles of waits: deadlocks.

use std::collections::{BTreeMap, BTreeSet};

use super::graph::WaitGraph;
use super::node::WaitId;

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
    /// Removes the roots, then the waiters whose blockers are all removed, and so on.
    fn unresolvable(&self) -> BTreeSet<&WaitId> {
        let mut blockers_left: BTreeMap<&WaitId, usize> = BTreeMap::new();
        let mut waiters: BTreeMap<&WaitId, Vec<&WaitId>> = BTreeMap::new();
        for node in self.nodes() {
            blockers_left.insert(&node.id, node.blockers().len());
            for blocker in node.blockers() {
                waiters.entry(&blocker.id).or_default().push(&node.id);
            }
        }
        let mut resolved: Vec<&WaitId> = self.roots().map(|root| &root.id).collect();
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
    use crate::wait_graph::test_rows::row;

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
    }
}
