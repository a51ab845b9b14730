//! Follows the episodes, and writes those that have passed an age.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_pglock::{Episode, EpisodeEvent, EpisodeTracker, WaitGraph};

use super::printer;
use super::record::Event;
use super::recorder::Recorder;
use crate::failure::Failure;
use crate::output::show;

/// The form of the lines.
#[derive(Debug)]
enum Output {
    Lines,
    Json(Recorder),
}

/// The episodes that were written, and the connection.
#[derive(Debug)]
pub struct Follower {
    tracker: EpisodeTracker,
    /// The age from which an episode is written.
    above: TimeDelta,
    announced: BTreeSet<u64>,
    has_begun: bool,
    is_lost: bool,
    /// The difference of the server's clock to that of this host.
    offset: TimeDelta,
    output: Output,
}

impl Follower {
    pub fn new(above: TimeDelta, json: bool) -> Self {
        Self {
            tracker: EpisodeTracker::new(),
            above,
            announced: BTreeSet::new(),
            has_begun: false,
            is_lost: false,
            offset: TimeDelta::zero(),
            output: match json {
                true => Output::Json(Recorder::default()),
                false => Output::Lines,
            },
        }
    }

    /// Writes what has changed since the last graph.
    pub fn observe(&mut self, graph: &WaitGraph, now: DateTime<Utc>) -> Result<(), Failure> {
        self.offset = now - Utc::now();
        let was_lost = std::mem::take(&mut self.is_lost);
        if !std::mem::replace(&mut self.has_begun, true) {
            self.note(Event::Watching, now, None)?;
        } else if was_lost {
            self.note(Event::Connected, now, None)?;
        }
        for event in self.tracker.observe(graph, now) {
            match event {
                EpisodeEvent::Changed(episode) if self.announced.contains(&episode.id) => {
                    self.write(Event::Changed, now, &episode)?;
                }
                EpisodeEvent::Ended(episode) if self.announced.remove(&episode.id) => {
                    self.write(Event::Ended, now, &episode)?;
                }
                // An episode that has started is old enough now or later.
                _ => {}
            }
        }
        for episode in self.unannounced(now) {
            self.announced.insert(episode.id);
            self.write(Event::Started, now, &episode)?;
        }
        Ok(())
    }

    fn unannounced(&self, now: DateTime<Utc>) -> Vec<Episode> {
        let episodes = self.tracker.episodes();
        let is_due = |it: &&Episode| now - it.started >= self.above;
        let due = episodes.filter(|it| is_due(it) && !self.announced.contains(&it.id));
        due.cloned().collect()
    }

    /// Writes that the connection is lost, once until there is another.
    pub fn lose(&mut self, error: &str) -> Result<(), Failure> {
        if std::mem::replace(&mut self.is_lost, true) {
            return Ok(());
        }
        self.note(Event::Lost, self.now(), Some(error))
    }

    /// Marks the end of a recording; one that was cut off has no such line.
    pub fn stop(&self) -> Result<(), Failure> {
        match &self.output {
            Output::Lines => Ok(()),
            Output::Json(_) => self.note(Event::Stopped, self.now(), None),
        }
    }

    /// Returns the time of the server's clock, without asking it.
    fn now(&self) -> DateTime<Utc> {
        Utc::now() + self.offset
    }

    fn note(&self, event: Event, time: DateTime<Utc>, error: Option<&str>) -> Result<(), Failure> {
        match &self.output {
            Output::Lines => show(&printer::note(event, time, error)),
            Output::Json(recorder) => recorder.note(event, time, error),
        }
    }

    fn write(
        &mut self,
        event: Event,
        time: DateTime<Utc>,
        episode: &Episode,
    ) -> Result<(), Failure> {
        match &mut self.output {
            Output::Lines => show(&printer::episode(event, time, episode)),
            Output::Json(recorder) => recorder.episode(event, time, episode),
        }
    }
}
