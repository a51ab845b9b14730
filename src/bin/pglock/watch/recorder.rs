//! Writes what happens as lines of JSON.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use chrono::{DateTime, Utc};
use diesel_pglock::{BlockKind, Episode, WaitGraph, WaitNode};

use super::record::{EpisodeRecord, Event, GraphRecord, PeakRecord, Record, SessionRecord};
use crate::failure::Failure;
use crate::output::show_json_line;

/// The number of roots in a line.
const MAX_ROOTS: usize = 20;

/// The number of waiters in a line.
const MAX_WAITERS: usize = 50;

/// The number of sessions of a graph.
const MAX_NODES: usize = 100;

/// The recorder of one run.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The size of the last graph that was written of each open episode.
    graphs: BTreeMap<u64, usize>,
}

impl Recorder {
    pub fn note(
        &self,
        event: Event,
        time: DateTime<Utc>,
        error: Option<&str>,
    ) -> Result<(), Failure> {
        let version = (event == Event::Watching).then(|| env!("CARGO_PKG_VERSION").to_owned());
        show_json_line(&Record {
            version,
            error: error.map(str::to_owned),
            ..Record::new(event, time)
        })
    }

    pub fn episode(
        &mut self,
        event: Event,
        time: DateTime<Utc>,
        episode: &Episode,
    ) -> Result<(), Failure> {
        let has_graph = self.takes_graph(event, episode);
        show_json_line(&Record {
            episode: Some(EpisodeRecord::of(episode, has_graph)),
            attributes: (event != Event::Ended).then(|| episode.attributes()),
            ..Record::new(event, time)
        })
    }

    /// Returns true if the line has the graph of the peak: the size of a recording of a growing
    /// queue would otherwise be the square of its length.
    fn takes_graph(&mut self, event: Event, episode: &Episode) -> bool {
        let written = self.graphs.get(&episode.id).copied().unwrap_or_default();
        if event == Event::Ended {
            self.graphs.remove(&episode.id);
            return true;
        }
        let takes = event == Event::Started || episode.peak.waiters >= 2 * written;
        if takes {
            self.graphs.insert(episode.id, episode.peak.waiters);
        }
        takes
    }
}

impl EpisodeRecord {
    fn of(episode: &Episode, has_graph: bool) -> Self {
        let graph = episode.graph();
        let roots = graph.worst_roots();
        let root = |(node, count): &(&WaitNode, usize)| SessionRecord::of(node).blocking(*count);
        let waiters: Vec<&WaitNode> = episode.waiters().collect();
        let held_up = held_up(graph);
        let waiter = |node: &&WaitNode| SessionRecord {
            blocks: held_up.get(&node.pid).copied(),
            ..SessionRecord::of(node).without_query()
        };
        Self {
            id: episode.id,
            started: episode.started,
            ended: episode.ended,
            duration: episode.duration().as_seconds_f64(),
            merged_into: episode.merged_into,
            deadlock: episode.deadlock,
            root_count: roots.len(),
            roots: roots.iter().take(MAX_ROOTS).map(root).collect(),
            waiter_count: waiters.len(),
            waiters: waiters.iter().take(MAX_WAITERS).map(waiter).collect(),
            victim_count: episode.victims.len(),
            peak: PeakRecord {
                time: episode.peak.time,
                waiters: episode.peak.waiters,
                graph: has_graph.then(|| GraphRecord::of(episode.peak.graph())),
            },
        }
    }
}

impl GraphRecord {
    /// Takes the sessions nearest to the roots.
    fn of(graph: &WaitGraph) -> Self {
        let nodes = from_the_roots(graph).into_iter().take(MAX_NODES);
        let counts: BTreeMap<_, _> = roots(graph).collect();
        let held_up = held_up(graph);
        let record = |node: &WaitNode| SessionRecord {
            blocks: match node.wait {
                None => counts.get(&identity(node)).copied(),
                Some(_) => held_up.get(&node.pid).copied(),
            },
            ..SessionRecord::of(node)
        };
        Self {
            nodes: nodes.map(record).collect(),
        }
    }
}

/// The pid, or the name of the prepared transaction.
type Identity<'g> = (Option<i32>, Option<&'g str>);

fn identity(node: &WaitNode) -> Identity<'_> {
    (node.pid, node.gid.as_deref())
}

fn roots(graph: &WaitGraph) -> impl Iterator<Item = (Identity<'_>, usize)> {
    let roots = graph.worst_roots().into_iter();
    roots.map(|(node, count)| (identity(node), count))
}

/// Returns the number of sessions that wait for a lock that a session holds.
fn held_up(graph: &WaitGraph) -> BTreeMap<Option<i32>, usize> {
    let mut counts = BTreeMap::new();
    let waits = graph.nodes().filter_map(|node| node.wait.as_ref());
    let blockers = waits.flat_map(|wait| &wait.blockers);
    for blocker in blockers.filter(|it| it.kind == BlockKind::Hard) {
        *counts.entry(blocker.pid).or_default() += 1;
    }
    counts
}

/// Returns the nodes of a graph, each after its first blocker; in a cycle one comes before.
fn from_the_roots(graph: &WaitGraph) -> Vec<&WaitNode> {
    let mut children: BTreeMap<Identity<'_>, Vec<&WaitNode>> = BTreeMap::new();
    for node in graph.nodes() {
        let wait = node.wait.as_ref();
        if let Some(blocker) = wait.and_then(|wait| wait.blockers.first()) {
            let blocker = (blocker.pid, blocker.gid.as_deref());
            children.entry(blocker).or_default().push(node);
        }
    }
    let roots = graph.worst_roots().into_iter().map(|(root, _)| root);
    let cycles = graph.cycles().into_iter();
    let cycles = cycles.filter_map(|cycle| graph.node(*cycle.first()?));
    // Waiters whose blockers are unknown come last.
    let mut next: VecDeque<&WaitNode> = roots.chain(cycles).chain(graph.nodes()).collect();
    let (mut seen, mut nodes) = (BTreeSet::new(), Vec::new());
    while let Some(node) = next.pop_front() {
        if seen.insert(identity(node)) {
            nodes.push(node);
            let below = children.get(&identity(node)).into_iter().flatten();
            below.rev().for_each(|node| next.push_front(node));
        }
    }
    nodes
}
