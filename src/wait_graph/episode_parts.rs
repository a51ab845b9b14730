//! The connected parts of a graph, and which of them continue earlier ones.

use std::collections::BTreeMap;

use super::episode::Episode;
use super::graph::WaitGraph;
use super::node::{WaitId, WaitNode};
use crate::views::PgActivity;

/// Splits a graph into its connected parts.
pub(super) fn parts(graph: &WaitGraph) -> Vec<WaitGraph> {
    let blocks = graph.blocks();
    let mut parents: Vec<usize> = (0..blocks.len()).collect();
    for position in 0..blocks.len() {
        for blocker in blocks.blockers(position) {
            let (a, b) = (top(&mut parents, position), top(&mut parents, *blocker));
            parents[a.max(b)] = a.min(b);
        }
    }
    let mut parts: BTreeMap<usize, BTreeMap<WaitId, WaitNode>> = BTreeMap::new();
    for ((id, node), position) in graph.nodes.iter().zip(0..) {
        let part = parts.entry(top(&mut parents, position)).or_default();
        part.insert(id.clone(), node.clone());
    }
    parts.into_values().map(WaitGraph::of_nodes).collect()
}

/// Returns the node that represents the part of a node, and shortens the path to it.
fn top(parents: &mut [usize], mut position: usize) -> usize {
    while parents[position] != position {
        parents[position] = parents[parents[position]];
        position = parents[position];
    }
    position
}

/// The episodes that the parts of a graph continue.
#[derive(Debug)]
pub(super) struct Claims {
    /// For each part the episode that goes on in it.
    pub owners: Vec<Option<u64>>,
    /// The episodes that end, with the older ones that their waits have joined.
    pub ended: Vec<(u64, Option<u64>)>,
}

impl Claims {
    /// Assigns the parts to the episodes, of which the oldest come first.
    pub fn of<'e>(episodes: impl Iterator<Item = &'e Episode>, parts: &[WaitGraph]) -> Self {
        let nodes = |(i, part): (usize, &'_ WaitGraph)| -> Vec<(WaitId, usize)> {
            part.nodes.keys().map(|id| (id.clone(), i)).collect()
        };
        let part_of: BTreeMap<WaitId, usize> = parts.iter().enumerate().flat_map(nodes).collect();
        let mut claims = Self {
            owners: vec![None; parts.len()],
            ended: Vec::new(),
        };
        for episode in episodes {
            let best = best_part(episode.graph(), parts, &part_of);
            match best.map(|part| (part, claims.owners[part])) {
                Some((part, None)) => claims.owners[part] = Some(episode.id),
                Some((_, owner)) => claims.ended.push((episode.id, owner)),
                None => claims.ended.push((episode.id, None)),
            }
        }
        claims
    }
}

/// The evidence that a part continues an earlier one; waits count more than sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Evidence {
    waits: usize,
    sessions: usize,
}

/// Returns the part in which most of the earlier waits, or else sessions, go on.
fn best_part(
    earlier: &WaitGraph,
    parts: &[WaitGraph],
    part_of: &BTreeMap<WaitId, usize>,
) -> Option<usize> {
    let mut evidence: BTreeMap<usize, Evidence> = BTreeMap::new();
    for (id, then) in &earlier.nodes {
        let Some(part) = part_of.get(id) else {
            continue;
        };
        let now = &parts[*part].nodes[id];
        let found = evidence.entry(*part).or_default();
        found.waits += usize::from(wait_continues(then, now));
        found.sessions += usize::from(is_same_transaction(then, now));
    }
    evidence.retain(|_, found| *found != Evidence::default());
    // Of equal ones the first: `max_by_key` returns the last.
    let best = evidence.into_iter().rev().max_by_key(|(_, found)| *found);
    best.map(|(part, _)| part)
}

fn wait_continues(then: &WaitNode, now: &WaitNode) -> bool {
    let waits = now.wait.as_ref().zip(then.wait.as_ref());
    waits.is_some_and(|(now, then)| now.continues(then))
}

/// Returns true if a session is still in the transaction of then, or has run nothing since.
///
/// An equal pid is no evidence: a pooled session has it in each of its transactions.
fn is_same_transaction(then: &WaitNode, now: &WaitNode) -> bool {
    // The identity of a prepared transaction contains its transaction.
    let is_prepared = now.pid.is_none();
    let activities = then.activity.as_ref().zip(now.activity.as_ref());
    is_prepared || activities.is_some_and(|(then, now)| has_gone_on(then, now))
}

fn has_gone_on(then: &PgActivity, now: &PgActivity) -> bool {
    if now.backend_start.is_none() || now.backend_start != then.backend_start {
        return false;
    }
    match (then.xact_start, now.xact_start) {
        (Some(then), Some(now)) => then == now,
        // An idle session may hold a lock outside of transactions.
        (None, None) => now.state_change.is_some() && now.state_change == then.state_change,
        _ => false,
    }
}
