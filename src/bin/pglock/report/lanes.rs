//! The sessions of an episode over time: when each waits, and when it blocks others.

use chrono::{DateTime, Utc};

use super::history::{Past, Period};
use crate::watch::{EpisodeRecord, SessionRecord};

/// The part of a session in an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It blocks others, and does not wait.
    Root,
    /// It waits, and holds what others wait for.
    Between,
    Waits,
}

/// A session, and its roles over time.
#[derive(Debug)]
pub struct Lane<'p> {
    pub session: &'p SessionRecord,
    pub spans: Vec<(Period, Role)>,
}

impl Role {
    pub fn class(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Between => "between",
            Self::Waits => "waits",
        }
    }

    pub fn verb(self) -> &'static str {
        match self {
            Self::Root => "blocks others",
            Self::Between => "waits and blocks others",
            Self::Waits => "waits",
        }
    }
}

/// Returns the lanes, in the order in which the sessions appear.
pub fn lanes(past: &Past) -> Vec<Lane<'_>> {
    let mut lanes: Vec<Lane<'_>> = Vec::new();
    for (period, episode) in past.states() {
        for (session, role) in roles(episode) {
            let from = start(session, period);
            let lane = lane_of(&mut lanes, session);
            lane.add(Period { from, ..period }, role);
        }
    }
    lanes
}

/// Returns the start of a wait, which may have begun before the event that shows it.
fn start(session: &SessionRecord, period: Period) -> DateTime<Utc> {
    let start = session.wait.as_ref().and_then(|it| it.lock.wait_start);
    start.map_or(period.from, |start| start.min(period.to))
}

fn lane_of<'l, 'p>(lanes: &'l mut Vec<Lane<'p>>, session: &'p SessionRecord) -> &'l mut Lane<'p> {
    let position = lanes.iter().position(|it| it.session.is_same(session));
    let position = position.unwrap_or_else(|| {
        let spans = Vec::new();
        lanes.push(Lane { session, spans });
        lanes.len() - 1
    });
    &mut lanes[position]
}

impl Lane<'_> {
    /// Adds a span; it continues the last one if they have the same role.
    fn add(&mut self, period: Period, role: Role) {
        let Some((last, last_role)) = self.spans.last_mut() else {
            return self.spans.push((period, role));
        };
        let from = period.from.max(last.to);
        let to = period.to.max(from);
        if *last_role == role && from == last.to {
            last.to = to;
        } else {
            self.spans.push((Period { from, to }, role));
        }
    }
}

fn roles(episode: &EpisodeRecord) -> impl Iterator<Item = (&SessionRecord, Role)> {
    let roots = episode.roots.iter().map(|it| (it, Role::Root));
    let role = |it: &SessionRecord| match it.blocks {
        None | Some(0) => Role::Waits,
        Some(_) => Role::Between,
    };
    roots.chain(episode.waiters.iter().map(move |it| (it, role(it))))
}
