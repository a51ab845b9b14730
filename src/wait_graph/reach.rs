//! The sessions that a node blocks, directly or through other waiters.

use std::cmp::Reverse;

use super::graph::WaitGraph;
use super::node::WaitNode;

impl WaitGraph {
    /// Returns all nodes with the number of sessions that each blocks, directly or through
    /// other waiters.
    pub fn blocked_counts(&self) -> impl Iterator<Item = (&WaitNode, usize)> {
        self.nodes().zip(self.blocks().counts().iter().copied())
    }

    /// Returns the sessions that a session or a prepared transaction blocks, directly or through
    /// other waiters.
    pub fn blocked_by(&self, node: &WaitNode) -> Vec<&WaitNode> {
        let position = self.blocks().position(&node.id);
        let blocked = position.map(|position| self.blocks().blocked(&[position]));
        self.at(&blocked.unwrap_or_default())
    }

    /// Returns the roots with the numbers of sessions that they block, the most harmful first.
    ///
    /// Of roots that block equally many, the one with the oldest transaction is first.
    pub fn worst_roots(&self) -> Vec<(&WaitNode, usize)> {
        let counts = self.blocked_counts();
        let mut roots: Vec<_> = counts.filter(|(node, _)| node.wait.is_none()).collect();
        roots.sort_by_key(|(root, count)| (Reverse(*count), Reverse(root.transaction_age())));
        roots
    }

    /// Returns the part of the graph that concerns some sessions: what they wait for, and what
    /// waits for them.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel_pglock::WaitGraph;
    ///
    /// # fn main() -> diesel_pglock::Result<()> {
    /// # let conn = &mut connection();
    /// let graph = WaitGraph::load(conn)?;
    /// let of_4711 = graph.related_to(|node| node.pid == Some(4711));
    /// assert!(of_4711.is_empty(), "session 4711 neither waits nor blocks");
    /// # Ok(())
    /// # }
    /// ```
    pub fn related_to(&self, is_of_interest: impl Fn(&WaitNode) -> bool) -> Self {
        let blocks = self.blocks();
        let nodes = self.nodes().zip(0..);
        let chosen = nodes.filter(|(node, _)| is_of_interest(node));
        let mut related: Vec<usize> = chosen.map(|(_, position)| position).collect();
        related.extend(blocks.blocked(&related));
        related.extend(blocks.blocking(&related));
        let nodes = self.at(&related).into_iter();
        Self::of_nodes(nodes.map(|node| (node.id.clone(), node.clone())).collect())
    }

    /// Returns the direct blockers of a session, the hard ones first.
    pub fn blockers_of(&self, pid: i32) -> impl Iterator<Item = &WaitNode> {
        let blockers = self.node(pid).into_iter().flat_map(WaitNode::blockers);
        blockers.filter_map(|blocker| self.nodes.get(&blocker.id))
    }

    /// Returns the waiters that a session or a prepared transaction blocks directly.
    pub fn waiters_behind(&self, node: &WaitNode) -> impl Iterator<Item = &WaitNode> {
        let position = self.blocks().position(&node.id);
        let waiters = position.map_or(&[][..], |position| self.blocks().waiters(position));
        self.at(waiters).into_iter()
    }

    /// Returns the roots that a session waits for, directly or through other waiters.
    ///
    /// Empty for a session that does not wait, that waits for a cycle, or whose blockers the
    /// server does not show.
    pub fn roots_of(&self, pid: i32) -> impl Iterator<Item = &WaitNode> {
        let blocks = self.blocks();
        let mut blocking = blocks.blocking(&blocks.positions(pid));
        blocking.sort_unstable();
        let nodes = self.at(&blocking).into_iter();
        nodes.filter(|node| node.wait.is_none())
    }

    /// Returns the number of sessions that a session blocks, directly or through other waiters.
    ///
    /// 0 as `pid` means the prepared transactions.
    pub fn blocked_count(&self, pid: i32) -> usize {
        let blocks = self.blocks();
        match *blocks.positions(pid) {
            [position] => blocks.counts()[position],
            ref positions => blocks.blocked(positions).len(),
        }
    }

    /// Returns the nodes at some positions.
    pub(super) fn at(&self, positions: &[usize]) -> Vec<&WaitNode> {
        let nodes: Vec<_> = self.nodes().collect();
        positions.iter().map(|position| nodes[*position]).collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::types::LockMode::{Exclusive, Share};
    use crate::wait_graph::graph::WaitGraph;
    use crate::wait_graph::test_rows::{queue, row};

    #[test]
    fn the_roots_of_a_waiter_are_behind_all_its_blockers() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Share, &[]),
            row(2, 1, Share, &[]),
            row(3, 2, Exclusive, &[]),
            row(4, 1, Exclusive, &[1, 2]),
            row(4, 3, Exclusive, &[]),
            row(5, 3, Share, &[4]),
            row(6, 2, Share, &[3]),
        ]);
        let roots = |pid| -> Vec<_> { graph.roots_of(pid).filter_map(|it| it.pid).collect() };
        assert_eq!(roots(5), [1, 2]);
        assert_eq!(roots(6), [3]);
        assert_eq!(roots(1).len(), 0);
        let worst = graph.worst_roots();
        let worst: Vec<_> = worst
            .iter()
            .map(|(root, n)| (root.pid.unwrap(), *n))
            .collect();
        assert_eq!(worst, [(1, 2), (2, 2), (3, 1)]);
    }

    #[test]
    fn a_part_of_the_graph_has_the_blockers_and_the_waiters_of_a_session() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            row(2, 1, Exclusive, &[1]),
            row(2, 2, Exclusive, &[]),
            row(3, 2, Exclusive, &[2]),
            row(4, 1, Exclusive, &[1, 2]),
            row(5, 5, Exclusive, &[]),
            row(6, 5, Exclusive, &[5]),
        ]);
        let pids = |pid| -> Vec<i32> {
            let part = graph.related_to(|node| node.pid == Some(pid));
            part.nodes().filter_map(|node| node.pid).collect()
        };
        assert_eq!(pids(3), [1, 2, 3]);
        assert_eq!(pids(2), [1, 2, 3, 4]);
        assert_eq!(pids(6), [5, 6]);
        assert_eq!(pids(7).len(), 0);
    }

    #[test]
    fn the_members_of_a_cycle_do_not_block_themselves() {
        let graph = WaitGraph::from_rows(vec![
            row(1, 1, Exclusive, &[]),
            row(1, 3, Exclusive, &[3]),
            row(2, 2, Exclusive, &[]),
            row(2, 1, Exclusive, &[1]),
            row(3, 3, Exclusive, &[]),
            row(3, 2, Exclusive, &[2]),
            row(4, 3, Exclusive, &[3, 1]),
            row(5, 5, Exclusive, &[]),
            row(4, 5, Share, &[]),
        ]);
        let counts = [1, 2, 3, 4, 5].map(|pid| graph.blocked_count(pid));
        assert_eq!(counts, [3, 3, 3, 0, 0]);
        let blocked = graph.blocked_by(graph.node(1).unwrap()).into_iter();
        let mut blocked: Vec<_> = blocked.filter_map(|it| it.pid).collect();
        blocked.sort_unstable();
        assert_eq!(blocked, [2, 3, 4]);
    }

    #[test]
    fn the_blocks_of_a_queue_of_200_are_counted_at_once() {
        let graph = queue(200);
        let counts: Vec<usize> = graph.blocked_counts().map(|(_, count)| count).collect();
        let expected: Vec<usize> = (0..=200).rev().collect();
        assert_eq!(counts, expected);
    }
}
