//! The sessions that a node blocks, directly or through other waiters.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::graph::WaitGraph;
use super::node::{WaitId, WaitNode};

/// The waiters of each node, by the positions of the nodes.
///
/// A queue of n waiters has up to n × (n - 1) / 2 blocks; positions make them cheap to follow.
pub struct Reach<'g> {
    nodes: Vec<&'g WaitNode>,
    positions: BTreeMap<&'g WaitId, usize>,
    waiters: Vec<Vec<usize>>,
}

impl<'g> Reach<'g> {
    pub fn of(graph: &'g WaitGraph) -> Self {
        let nodes: Vec<_> = graph.nodes().collect();
        let positions: BTreeMap<_, _> = nodes.iter().map(|it| &it.id).zip(0..).collect();
        let mut waiters = vec![Vec::new(); nodes.len()];
        for (waiter, node) in nodes.iter().enumerate() {
            let blockers = node.blockers().iter();
            for position in blockers.filter_map(|it| positions.get(&it.id)) {
                waiters[*position].push(waiter);
            }
        }
        Self {
            nodes,
            positions,
            waiters,
        }
    }

    /// Returns the nodes that one of `ids` blocks. In a cycle a node does not block itself.
    pub fn blocked(&self, ids: &[&WaitId]) -> Vec<&'g WaitNode> {
        let starts: Vec<usize> = ids
            .iter()
            .filter_map(|id| self.positions.get(id).copied())
            .collect();
        let reached = self.reached(&starts).into_iter();
        let others = reached.filter(|position| !starts.contains(position));
        others.map(|position| self.nodes[position]).collect()
    }

    fn reached(&self, starts: &[usize]) -> Vec<usize> {
        let mut is_reached = vec![false; self.nodes.len()];
        let mut reached = Vec::new();
        let mut next = starts.to_vec();
        while let Some(position) = next.pop() {
            for waiter in &self.waiters[position] {
                if !std::mem::replace(&mut is_reached[*waiter], true) {
                    reached.push(*waiter);
                    next.push(*waiter);
                }
            }
        }
        reached
    }

    /// Returns all nodes with the numbers of sessions that they block.
    pub fn counts(&self) -> impl Iterator<Item = (&'g WaitNode, usize)> {
        let count = |node: &'g WaitNode| (node, self.blocked(&[&node.id]).len());
        self.nodes.iter().map(move |node| count(node))
    }
}

impl WaitGraph {
    /// Returns all nodes with the number of sessions that each blocks, directly or through
    /// other waiters.
    ///
    /// One call is cheaper than one [`blocked_count`](Self::blocked_count) for each node.
    pub fn blocked_counts(&self) -> impl Iterator<Item = (&WaitNode, usize)> {
        let counts: Vec<_> = Reach::of(self).counts().collect();
        counts.into_iter()
    }

    /// Returns the sessions that a session or a prepared transaction blocks, directly or through
    /// other waiters.
    pub fn blocked_by(&self, node: &WaitNode) -> Vec<&WaitNode> {
        Reach::of(self).blocked(&[&node.id])
    }

    /// Returns the roots with the numbers of sessions that they block, the most harmful first.
    ///
    /// Of roots that block equally many, the one with the oldest transaction is first.
    pub fn worst_roots(&self) -> Vec<(&WaitNode, usize)> {
        let reach = Reach::of(self);
        let roots = self.roots();
        let mut roots: Vec<_> = roots
            .map(|root| (root, reach.blocked(&[&root.id]).len()))
            .collect();
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
        let chosen = self.nodes().filter(|node| is_of_interest(node));
        let chosen: Vec<&WaitId> = chosen.map(|node| &node.id).collect();
        let behind = Reach::of(self).blocked(&chosen);
        let mut related: BTreeSet<&WaitId> = BTreeSet::new();
        let mut next = chosen;
        next.extend(behind.into_iter().map(|node| &node.id));
        while let Some(id) = next.pop() {
            if related.insert(id) {
                let blockers = self.nodes[id].blockers().iter().map(|it| &it.id);
                next.extend(blockers.filter(|id| self.nodes.contains_key(id)));
            }
        }
        let nodes = related
            .into_iter()
            .map(|id| (id.clone(), self.nodes[id].clone()));
        Self {
            nodes: nodes.collect(),
        }
    }

    /// Returns the direct blockers of a session, the hard ones first.
    pub fn blockers_of(&self, pid: i32) -> impl Iterator<Item = &WaitNode> {
        let blockers = self.node(pid).into_iter().flat_map(WaitNode::blockers);
        blockers.filter_map(|blocker| self.nodes.get(&blocker.id))
    }

    /// Returns the waiters that a session or a prepared transaction blocks directly.
    pub fn waiters_behind<'g>(&'g self, node: &'g WaitNode) -> impl Iterator<Item = &'g WaitNode> {
        let blocks = move |it: &&WaitNode| it.blockers().iter().any(|it| it.id == node.id);
        self.nodes().filter(blocks)
    }

    /// Returns the roots that a session waits for, directly or through other waiters.
    ///
    /// Empty for a session that does not wait, that waits for a cycle, or whose blockers the
    /// server does not show.
    pub fn roots_of(&self, pid: i32) -> impl Iterator<Item = &WaitNode> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&WaitNode> = self.node(pid).into_iter().collect();
        while let Some(node) = next.pop() {
            for blocker in node.blockers() {
                if reached.insert(&blocker.id) {
                    next.extend(self.nodes.get(&blocker.id));
                }
            }
        }
        let nodes = reached.into_iter().filter_map(|id| self.nodes.get(id));
        nodes.filter(|node| node.wait.is_none())
    }

    /// Returns the number of sessions that a session blocks, directly or through other waiters.
    ///
    /// 0 as `pid` means the prepared transactions.
    pub fn blocked_count(&self, pid: i32) -> usize {
        let pid = Some(pid).filter(|pid| *pid != 0);
        let ids: Vec<&WaitId> = self.nodes.keys().filter(|id| id.pid() == pid).collect();
        Reach::of(self).blocked(&ids).len()
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
    fn the_blocks_of_a_queue_of_200_are_counted_at_once() {
        let graph = queue(200);
        let counts: Vec<usize> = graph.blocked_counts().map(|(_, count)| count).collect();
        let expected: Vec<usize> = (0..=200).rev().collect();
        assert_eq!(counts, expected);
    }
}
