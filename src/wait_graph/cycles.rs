//! Cycles of waits: deadlocks.

use super::blocks::Blocks;
use super::graph::WaitGraph;
use super::node::BlockKind;

impl WaitGraph {
    /// Returns the deadlocks: cycles in which each session waits for the next.
    ///
    /// The last session of a cycle waits for the first. PostgreSQL ends one of the sessions
    /// after `deadlock_timeout` (default: 1 s). Of cycles that share a session, one is returned.
    pub fn cycles(&self) -> Vec<Vec<i32>> {
        let blocks = self.blocks();
        let mut left = unresolvable(blocks);
        let mut cycles = Vec::new();
        while let Some(start) = left.iter().position(|is_left| *is_left) {
            let path = path_within(blocks, &left, start);
            cycles.extend(path.cycle);
            for position in path.visited {
                left[position] = false;
            }
        }
        cycles
    }

    /// Returns the number of waiters whose waits end once the roots have ended.
    ///
    /// Members of a cycle and their waiters do not count, nor waiters whose blockers the
    /// server does not show.
    pub fn count_behind_roots(&self) -> usize {
        let roots: Vec<bool> = self.nodes().map(|node| node.wait.is_none()).collect();
        let root_count = roots.iter().filter(|is_root| **is_root).count();
        let left = left_without(self.blocks(), roots);
        let left = left.into_iter().filter(|is_left| *is_left).count();
        self.nodes.len() - root_count - left
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
        let nodes = self.nodes_mut().filter(|node| is_among(node.pid));
        let mut is_removed = false;
        for wait in nodes.filter_map(|node| node.wait.as_mut()) {
            let before = wait.blockers.len();
            wait.blockers
                .retain(|it| it.kind == BlockKind::Hard || !is_among(it.pid));
            is_removed |= wait.blockers.len() < before;
        }
        is_removed
    }
}

/// Follows the waits from a node, through the nodes of a set, until one repeats.
fn path_within(blocks: &Blocks, set: &[bool], start: usize) -> Path {
    let mut visited = vec![start];
    let mut steps = vec![None; blocks.len()];
    steps[start] = Some(0);
    loop {
        let last = visited[visited.len() - 1];
        let mut blockers = blocks.blockers(last).iter();
        let Some(next) = blockers.find(|it| set[**it]).copied() else {
            let cycle = None;
            return Path { visited, cycle };
        };
        if let Some(step) = steps[next] {
            let cycle: &[usize] = &visited[step..];
            let pids = cycle.iter().filter_map(|it| blocks.id(*it).pid());
            let cycle = Some(pids.collect());
            return Path { visited, cycle };
        }
        steps[next] = Some(visited.len());
        visited.push(next);
    }
}

/// Returns the sessions whose wait no root can end: members of a cycle, and their waiters.
///
/// Removes the sessions without blockers, then the waiters whose blockers are all removed, and so on.
fn unresolvable(blocks: &Blocks) -> Vec<bool> {
    let removed = (0..blocks.len()).map(|it| blocks.blockers(it).is_empty());
    left_without(blocks, removed.collect())
}

/// Removes some nodes, then the waiters whose blockers are all removed, and so on.
///
/// Returns for each node whether it is left.
fn left_without(blocks: &Blocks, mut removed: Vec<bool>) -> Vec<bool> {
    let blockers = (0..blocks.len()).map(|it| blocks.blockers(it).len());
    let mut blockers_left: Vec<usize> = blockers.collect();
    let mut next: Vec<usize> = (0..blocks.len()).filter(|it| removed[*it]).collect();
    while let Some(position) = next.pop() {
        for waiter in blocks.waiters(position) {
            blockers_left[*waiter] -= 1;
            if blockers_left[*waiter] == 0 && !std::mem::replace(&mut removed[*waiter], true) {
                next.push(*waiter);
            }
        }
    }
    removed.into_iter().map(|it| !it).collect()
}

struct Path {
    visited: Vec<usize>,
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
        let node = earlier.nodes_mut().find(|it| it.pid == Some(2));
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
