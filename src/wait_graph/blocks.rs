//! The blocks of a graph, by the positions of its nodes.
//!
//! A queue of n waiters has up to n × (n - 1) / 2 blocks. Positions make them cheap to follow; they
//! are found once per graph.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use super::node::{WaitId, WaitNode};

#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    /// The nodes in their order.
    ids: Vec<WaitId>,
    /// The blockers of each node.
    blockers: Vec<Vec<usize>>,
    /// The waiters of each node.
    waiters: Vec<Vec<usize>>,
    /// The number of nodes that each node blocks, directly or through others.
    counts: OnceLock<Vec<usize>>,
}

impl Blocks {
    pub(super) fn of(nodes: &BTreeMap<WaitId, WaitNode>) -> Self {
        let ids: Vec<WaitId> = nodes.keys().cloned().collect();
        let position = |id: &WaitId| ids.binary_search(id).ok();
        let blockers = nodes.values().map(|node| {
            let blockers = node.blockers().iter();
            blockers.filter_map(|it| position(&it.id)).collect()
        });
        let blockers = blockers.collect();
        Self::new(ids, blockers)
    }

    /// Takes the nodes in their order, and the positions of the blockers of each.
    pub(super) fn new(ids: Vec<WaitId>, blockers: Vec<Vec<usize>>) -> Self {
        let mut waiters = vec![Vec::new(); ids.len()];
        for (waiter, blockers) in blockers.iter().enumerate() {
            for blocker in blockers {
                waiters[*blocker].push(waiter);
            }
        }
        Self {
            ids,
            blockers,
            waiters,
            counts: OnceLock::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, position: usize) -> &WaitId {
        &self.ids[position]
    }

    pub(super) fn position(&self, id: &WaitId) -> Option<usize> {
        self.ids.binary_search(id).ok()
    }

    /// Returns the positions of a session, or for 0 of the prepared transactions.
    pub(super) fn positions(&self, pid: i32) -> Vec<usize> {
        if pid != 0 {
            return self.position(&WaitId::Session(pid)).into_iter().collect();
        }
        let is_prepared = |position: &usize| self.ids[*position].pid().is_none();
        (0..self.len()).filter(is_prepared).collect()
    }

    /// Returns the direct blockers of a node, the hard ones first.
    pub(super) fn blockers(&self, position: usize) -> &[usize] {
        &self.blockers[position]
    }

    /// Returns the direct waiters of a node.
    pub(super) fn waiters(&self, position: usize) -> &[usize] {
        &self.waiters[position]
    }

    /// Returns the nodes that one of some nodes blocks. In a cycle a node does not block itself.
    pub(super) fn blocked(&self, starts: &[usize]) -> Vec<usize> {
        self.follow(starts, &self.waiters)
    }

    /// Returns the nodes that block one of some nodes, directly or through others.
    pub(super) fn blocking(&self, starts: &[usize]) -> Vec<usize> {
        self.follow(starts, &self.blockers)
    }

    fn follow(&self, starts: &[usize], next_to: &[Vec<usize>]) -> Vec<usize> {
        let mut is_reached = vec![false; self.len()];
        for start in starts {
            is_reached[*start] = true;
        }
        let mut reached = Vec::new();
        let mut next = starts.to_vec();
        while let Some(position) = next.pop() {
            for other in &next_to[position] {
                if !std::mem::replace(&mut is_reached[*other], true) {
                    reached.push(*other);
                    next.push(*other);
                }
            }
        }
        reached
    }

    /// Returns the number of nodes that each node blocks, directly or through others.
    pub(super) fn counts(&self) -> &[usize] {
        self.counts.get_or_init(|| self.count())
    }

    /// Unites the sets of the waiters, the last ones of the queues first, until none grows.
    fn count(&self) -> Vec<usize> {
        let mut sets = vec![BitSet::new(self.len()); self.len()];
        let order = self.waiters_first();
        let mut has_grown = true;
        // More than twice only with cycles.
        while std::mem::take(&mut has_grown) {
            for position in &order {
                let mut set = std::mem::take(&mut sets[*position]);
                for waiter in &self.waiters[*position] {
                    has_grown |= set.insert(*waiter);
                    has_grown |= set.unite(&sets[*waiter]);
                }
                sets[*position] = set;
            }
        }
        let count = |(position, set): (usize, &BitSet)| {
            set.len() - usize::from(set.contains(position)) // a member of a cycle
        };
        sets.iter().enumerate().map(count).collect()
    }

    /// Returns the nodes in an order in which each one follows its waiters, unless a cycle forbids it.
    fn waiters_first(&self) -> Vec<usize> {
        let mut is_seen = vec![false; self.len()];
        let mut order = Vec::with_capacity(self.len());
        for start in 0..self.len() {
            // The stack has each node with the number of its waiters that were followed.
            let mut stack = Vec::new();
            if !std::mem::replace(&mut is_seen[start], true) {
                stack.push((start, 0));
            }
            while let Some((position, followed)) = stack.last_mut() {
                match self.waiters[*position].get(*followed) {
                    Some(waiter) => {
                        *followed += 1;
                        if !std::mem::replace(&mut is_seen[*waiter], true) {
                            stack.push((*waiter, 0));
                        }
                    }
                    None => {
                        order.push(*position);
                        stack.pop();
                    }
                }
            }
        }
        order
    }
}

/// A set of positions.
#[derive(Clone, Debug, Default)]
struct BitSet(Vec<u64>);

impl BitSet {
    fn new(length: usize) -> Self {
        Self(vec![0; length.div_ceil(64)])
    }

    fn contains(&self, position: usize) -> bool {
        self.0[position / 64] & (1 << (position % 64)) != 0
    }

    /// Returns true if the position is new.
    fn insert(&mut self, position: usize) -> bool {
        let is_new = !self.contains(position);
        self.0[position / 64] |= 1 << (position % 64);
        is_new
    }

    /// Returns true if a position is new. A node that waits for itself gives an empty set.
    fn unite(&mut self, other: &Self) -> bool {
        let mut is_new = false;
        for (word, other) in self.0.iter_mut().zip(&other.0) {
            is_new |= *word | *other != *word;
            *word |= *other;
        }
        is_new
    }

    fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }
}
