//! An episode of blocking: connected waits, from the first to the last.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::episode_attributes::EpisodeAttributes;
use super::graph::WaitGraph;
use super::node::WaitNode;

/// The greatest number of victims that an episode keeps.
///
/// While a root blocks for days, ever new sessions may give up behind it.
const MAX_VICTIMS: usize = 10_000;

/// Waits that are connected, from the moment the first starts until the last ends.
///
/// It is the state after one graph that an [`EpisodeTracker`](crate::EpisodeTracker) has seen.
/// A clone shares the graphs and is cheap.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Episode {
    /// The number of the episode; the first of a tracker is 1.
    pub id: u64,
    /// The start of its first wait, or the time of the first graph if the server does not show
    /// it, as PostgreSQL 13 does not.
    pub started: DateTime<Utc>,
    /// The time of the last graph that contains it.
    pub observed: DateTime<Utc>,
    /// The time of the first graph that does not contain it any more.
    pub ended: Option<DateTime<Utc>>,
    /// The older episode in which its waits go on, if the two have become one.
    pub merged_into: Option<u64>,
    /// True if it has contained a deadlock.
    pub deadlock: bool,
    /// The sessions that have waited in it; of very many, 10,000 are kept.
    pub victims: BTreeSet<EpisodeVictim>,
    /// The moment of the most waiters.
    pub peak: EpisodePeak,
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize"))]
    graph: Arc<WaitGraph>,
}

/// A session that has waited in an [`Episode`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EpisodeVictim {
    /// The process id of the session.
    pub pid: i32,
    /// The start of the session; `None` if it is hidden from this role.
    pub backend_start: Option<DateTime<Utc>>,
}

/// The moment of an [`Episode`] at which the most sessions waited.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct EpisodePeak {
    /// The time of the graph.
    pub time: DateTime<Utc>,
    /// The number of sessions that waited.
    pub waiters: usize,
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize"))]
    graph: Arc<WaitGraph>,
}

impl Episode {
    pub(super) fn new(id: u64, graph: WaitGraph, now: DateTime<Utc>) -> Self {
        let starts = graph
            .nodes()
            .filter_map(|it| it.wait.as_ref()?.lock.wait_start);
        // The clock of the caller may be behind that of the server.
        let started = starts.min().map_or(now, |start| start.min(now));
        let graph = Arc::new(graph);
        let mut episode = Self {
            id,
            started,
            observed: now,
            ended: None,
            merged_into: None,
            deadlock: false,
            victims: BTreeSet::new(),
            peak: EpisodePeak::new(&graph, now),
            graph: Arc::clone(&graph),
        };
        episode.note(graph, now);
        episode
    }

    /// Goes on with another graph, and returns true if the roots or the waiters have changed.
    pub(super) fn go_on(&mut self, graph: WaitGraph, now: DateTime<Utc>) -> bool {
        let before = Arc::clone(&self.graph);
        let was_deadlock = self.deadlock;
        self.note(Arc::new(graph), now);
        !is_same(&before, &self.graph) || self.deadlock != was_deadlock
    }

    fn note(&mut self, graph: Arc<WaitGraph>, now: DateTime<Utc>) {
        self.observed = now;
        self.deadlock |= !graph.cycles().is_empty();
        let victims = graph.nodes().filter_map(EpisodeVictim::of);
        let room = MAX_VICTIMS.saturating_sub(self.victims.len());
        let new: Vec<_> = victims.filter(|it| !self.victims.contains(it)).collect();
        self.victims.extend(new.into_iter().take(room));
        let peak = EpisodePeak::new(&graph, now);
        if peak.waiters > self.peak.waiters {
            self.peak = peak;
        }
        self.graph = graph;
    }

    pub(super) fn end(mut self, now: DateTime<Utc>, merged_into: Option<u64>) -> Self {
        self.ended = Some(now);
        self.merged_into = merged_into;
        self
    }

    /// Returns the part of the last graph that the episode consists of.
    pub fn graph(&self) -> &WaitGraph {
        &self.graph
    }

    /// Returns the roots, the most harmful first; none during a deadlock without other blockers.
    pub fn roots(&self) -> impl Iterator<Item = &WaitNode> {
        let roots = self.graph.worst_roots().into_iter();
        roots.map(|(root, _)| root)
    }

    /// Returns the sessions that wait, the longest wait first; unknown starts are last.
    pub fn waiters(&self) -> impl Iterator<Item = &WaitNode> {
        let waits = self
            .graph
            .nodes()
            .filter_map(|it| Some((it, it.wait.as_ref()?)));
        let mut waits: Vec<_> = waits.collect();
        waits.sort_by_key(|(_, wait)| (wait.lock.wait_start.is_none(), wait.lock.wait_start));
        waits.into_iter().map(|(node, _)| node)
    }

    /// Returns the longest wait with the names of OpenTelemetry.
    pub fn attributes(&self) -> EpisodeAttributes {
        EpisodeAttributes::of(self)
    }

    /// Returns the time from the start to the end, or to the last graph that contains it.
    pub fn duration(&self) -> TimeDelta {
        self.ended.unwrap_or(self.observed) - self.started
    }
}

/// Returns true if two graphs have the same roots and the same waiters.
fn is_same(before: &WaitGraph, now: &WaitGraph) -> bool {
    let members = |graph: &'_ WaitGraph| -> Vec<_> {
        let nodes = graph.nodes();
        nodes.map(|it| (it.id.clone(), it.wait.is_some())).collect()
    };
    members(before) == members(now)
}

impl EpisodeVictim {
    fn of(node: &WaitNode) -> Option<Self> {
        node.wait.as_ref()?;
        let activity = node.activity.as_ref();
        Some(Self {
            pid: node.pid?,
            backend_start: activity.and_then(|it| it.backend_start),
        })
    }
}

impl EpisodePeak {
    fn new(graph: &Arc<WaitGraph>, time: DateTime<Utc>) -> Self {
        Self {
            time,
            waiters: graph.nodes().filter(|it| it.wait.is_some()).count(),
            graph: Arc::clone(graph),
        }
    }

    /// Returns the part of the graph of that moment that the episode consisted of.
    pub fn graph(&self) -> &WaitGraph {
        &self.graph
    }
}

#[cfg(feature = "serde")]
fn serialize<S: serde::Serializer>(graph: &WaitGraph, serializer: S) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(graph, serializer)
}
