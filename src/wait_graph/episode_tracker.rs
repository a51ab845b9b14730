//! The history of blocking: episodes, from one graph after the other.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::episode::Episode;
use super::episode_event::EpisodeEvent;
use super::episode_parts::{Claims, parts};
use super::graph::WaitGraph;

/// Follows episodes of blocking through a series of graphs.
///
/// Connected waits are an episode. It goes on in the next graph if one of its waits goes on
/// there, or a session in the same transaction. So it is the same episode if its root changes:
/// the root commits, the first waiter gets the lock, and the others wait for that one.
/// Transactions that each wait for a moment, in the same sessions, are episodes of their own.
///
/// If the waits of an episode fall apart, the part with the most of them goes on, and the
/// others start as new episodes. If the waits of two episodes become connected, the older one
/// goes on, and the other ends with [`Episode::merged_into`].
///
/// A tracker keeps what is open, and nothing of the past.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// use diesel_pglock::{EpisodeEvent, EpisodeTracker, WaitGraph};
///
/// # use diesel::connection::SimpleConnection;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let (mut conn, mut holder, mut waiter) = (connection(), connection(), connection());
/// # let conn = &mut conn;
/// # holder.batch_execute("SELECT pg_advisory_lock(7)")?;
/// # let thread = std::thread::spawn(move || waiter.batch_execute("SELECT pg_advisory_lock(7)"));
/// # while WaitGraph::load(conn)?.is_empty() {}
/// # let now = || chrono::Utc::now();
/// let mut tracker = EpisodeTracker::new();
/// for event in tracker.observe(&WaitGraph::load(conn)?, now()) {
///     let EpisodeEvent::Started(episode) = event else { unreachable!() };
///     println!("{:?} is blocked since {}", episode.victims, episode.started);
/// }
/// assert_eq!(tracker.episodes().count(), 1);
///
/// // The holder has released the lock since:
/// # drop(holder);
/// # thread.join().unwrap()?;
/// # while !WaitGraph::load(conn)?.is_empty() {}
/// let events = tracker.observe(&WaitGraph::load(conn)?, now());
/// assert!(matches!(events[..], [EpisodeEvent::Ended(_)]));
/// assert_eq!(tracker.episodes().count(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct EpisodeTracker {
    open: BTreeMap<u64, Episode>,
    last_id: u64,
}

impl EpisodeTracker {
    /// Creates a tracker that has seen no graph yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns what has changed since the last graph: first what has ended.
    ///
    /// `now` is the time at which the graph was loaded, best by the clock of the server, by
    /// which waits begin. With the feature `tracing` each change is an event.
    pub fn observe(&mut self, graph: &WaitGraph, now: DateTime<Utc>) -> Vec<EpisodeEvent> {
        let parts = parts(graph);
        let claims = Claims::of(self.oldest_first(), &parts);
        let ended = claims.ended.into_iter();
        let ended = ended.filter_map(|(id, into)| self.end(id, into, now));
        let mut events: Vec<EpisodeEvent> = ended.collect();
        for (part, owner) in parts.into_iter().zip(claims.owners) {
            events.extend(match owner {
                Some(id) => self.go_on(id, part, now),
                None => Some(self.start(part, now)),
            });
        }
        events.iter().for_each(EpisodeEvent::trace);
        events
    }

    /// Returns the episodes that are open, in the order of their ids.
    pub fn episodes(&self) -> impl Iterator<Item = &Episode> {
        self.open.values()
    }

    fn oldest_first(&self) -> impl Iterator<Item = &Episode> {
        let mut episodes: Vec<&Episode> = self.episodes().collect();
        episodes.sort_by_key(|it| it.started);
        episodes.into_iter()
    }

    fn start(&mut self, part: WaitGraph, now: DateTime<Utc>) -> EpisodeEvent {
        self.last_id += 1;
        let episode = Episode::new(self.last_id, part, now);
        self.open.insert(episode.id, episode.clone());
        EpisodeEvent::Started(episode)
    }

    /// Returns an event if the roots or the waiters have changed.
    fn go_on(&mut self, id: u64, part: WaitGraph, now: DateTime<Utc>) -> Option<EpisodeEvent> {
        let episode = self.open.get_mut(&id)?;
        let is_changed = episode.go_on(part, now);
        is_changed.then(|| EpisodeEvent::Changed(episode.clone()))
    }

    fn end(&mut self, id: u64, into: Option<u64>, now: DateTime<Utc>) -> Option<EpisodeEvent> {
        let episode = self.open.remove(&id)?;
        Some(EpisodeEvent::Ended(episode.end(now, into)))
    }
}
