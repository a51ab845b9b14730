//! The episodes of a recording.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::recording::Recording;
use crate::watch::{EpisodeRecord, Event, Record, SessionRecord};

/// A period of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
}

/// All episodes of a recording.
#[derive(Debug)]
pub struct History {
    pub period: Period,
    /// In the order in which they started.
    pub episodes: Vec<Past>,
    /// The periods without a connection.
    pub gaps: Vec<Period>,
    pub is_cut: bool,
}

/// An episode, with its state after each event.
#[derive(Debug)]
pub struct Past {
    /// Its number on the page.
    pub number: usize,
    pub points: Vec<(DateTime<Utc>, EpisodeRecord)>,
    /// The sessions of the last graph that was recorded.
    pub graph: Vec<SessionRecord>,
    /// The time and the waiters of that graph.
    pub graph_of: (DateTime<Utc>, usize),
    /// Its end, or the end of the recording.
    pub until: DateTime<Utc>,
    /// The number of the episode in which its waits go on.
    pub merged_into: Option<usize>,
}

impl Period {
    /// Returns the place of a moment, from 0 for the start to 1 for the end.
    pub fn place(&self, time: DateTime<Utc>) -> f64 {
        let seconds = |span: TimeDelta| span.as_seconds_f64();
        (seconds(time - self.from) / seconds(self.to - self.from)).clamp(0.0, 1.0)
    }
}

impl History {
    pub fn of(recording: &Recording) -> Self {
        let mut reader = Reader::default();
        recording.records.iter().for_each(|it| reader.read(it));
        reader.finish(recording)
    }
}

impl Past {
    fn new(number: usize, record: &Record, episode: &EpisodeRecord) -> Self {
        let mut past = Self {
            number,
            points: Vec::new(),
            graph: Vec::new(),
            graph_of: (record.time, 0),
            until: record.time,
            merged_into: None,
        };
        past.note(record.time, episode);
        past
    }

    fn note(&mut self, time: DateTime<Utc>, episode: &EpisodeRecord) {
        let mut episode = episode.clone();
        if let Some(graph) = episode.peak.graph.take() {
            self.graph = graph.nodes;
            self.graph_of = (episode.peak.time, episode.peak.waiters);
        }
        self.until = time;
        self.points.push((time, episode));
    }

    pub fn last(&self) -> &EpisodeRecord {
        &self.points[self.points.len() - 1].1
    }

    pub fn is_open(&self) -> bool {
        self.last().ended.is_none()
    }

    pub fn period(&self) -> Period {
        let from = self.points[0].1.started;
        let to = self.last().ended.unwrap_or(self.until).max(from);
        Period { from, to }
    }

    pub fn duration(&self) -> TimeDelta {
        self.period().to - self.period().from
    }

    /// Returns the state after each event, with the period in which it lasted.
    pub fn states(&self) -> impl Iterator<Item = (Period, &EpisodeRecord)> {
        let period = self.period();
        let starts = self.points.iter().map(|(time, _)| *time).skip(1);
        let ends = starts.chain([period.to]);
        let states = self.points.iter().zip(ends).enumerate();
        let states = states.map(move |(i, ((time, episode), to))| {
            let from = if i == 0 { period.from } else { *time };
            (Period { from, to }, episode)
        });
        // An end describes the state before it.
        states.filter(|(_, episode)| episode.ended.is_none())
    }

    /// Returns the roots of all its time, the first one first.
    pub fn roots(&self) -> Vec<&SessionRecord> {
        let mut roots: Vec<&SessionRecord> = Vec::new();
        let all = self.points.iter().flat_map(|(_, episode)| &episode.roots);
        for root in all {
            if !roots.iter().any(|it| it.is_same(root)) {
                roots.push(root);
            }
        }
        roots
    }

    /// Returns its share in the harm: the waiters of its peak for its duration.
    pub fn harm(&self) -> i64 {
        let waiters = i64::try_from(self.last().peak.waiters).unwrap_or(i64::MAX);
        waiters.saturating_mul(self.duration().num_milliseconds() + 1)
    }
}

/// Reads a recording; one that goes on after a restart has several runs.
#[derive(Debug, Default)]
struct Reader {
    episodes: Vec<Past>,
    /// The positions of the episodes of this run, by their ids.
    positions: BTreeMap<u64, usize>,
    gaps: Vec<Period>,
    lost: Option<DateTime<Utc>>,
}

impl Reader {
    fn read(&mut self, record: &Record) {
        match record.event {
            Event::Watching => {
                self.positions.clear();
                self.end_gap(record.time);
            }
            Event::Lost => self.lost = Some(record.time),
            Event::Connected => self.end_gap(record.time),
            Event::Stopped => self.stop(record.time),
            Event::Started | Event::Changed | Event::Ended => {
                if let Some(episode) = &record.episode {
                    self.note(record, episode);
                }
            }
        }
    }

    fn note(&mut self, record: &Record, episode: &EpisodeRecord) {
        match self.positions.get(&episode.id) {
            Some(position) => self.episodes[*position].note(record.time, episode),
            None => {
                let number = self.episodes.len() + 1;
                self.positions.insert(episode.id, number - 1);
                self.episodes.push(Past::new(number, record, episode));
            }
        }
        let into = episode.merged_into.and_then(|id| self.positions.get(&id));
        if let (Some(into), Some(position)) = (into, self.positions.get(&episode.id)) {
            self.episodes[*position].merged_into = Some(into + 1);
        }
    }

    fn end_gap(&mut self, time: DateTime<Utc>) {
        let gap = self.lost.take().map(|from| Period {
            from,
            to: time.max(from),
        });
        self.gaps.extend(gap);
    }

    /// Ends the open episodes of a run at its last moment.
    fn stop(&mut self, time: DateTime<Utc>) {
        for position in self.positions.values() {
            let past = &mut self.episodes[*position];
            past.until = past.until.max(time);
        }
    }

    fn finish(mut self, recording: &Recording) -> History {
        let times = recording.records.iter().map(|it| it.time);
        let last = times.clone().max().unwrap_or_default();
        self.stop(last);
        let lost = self.lost.map(|from| Period { from, to: last });
        self.gaps.extend(lost.filter(|gap| gap.from < gap.to));
        let starts = self.episodes.iter().map(|it| it.period().from);
        let from = times.chain(starts).min().unwrap_or_default();
        // An empty period has no places.
        let to = last.max(from + TimeDelta::seconds(1));
        History {
            period: Period { from, to },
            episodes: self.episodes,
            gaps: self.gaps,
            is_cut: recording.is_cut,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::lanes::{Role, lanes};
    use super::super::recording::parse;
    use super::*;

    fn history(lines: &[String]) -> History {
        let text = lines.join("\n");
        History::of(&parse(text.as_bytes(), Path::new("-")).unwrap())
    }

    fn at(second: u32) -> String {
        format!("2026-11-25T14:00:{second:02}Z")
    }

    fn line(event: &str, second: u32) -> String {
        format!(r#"{{"event":"{event}","time":"{}"}}"#, at(second))
    }

    /// An event of episode 1, which started in the second before 5.
    fn episode(event: &str, second: u32, roots: &[i32], waiters: &[i32]) -> String {
        let roots: Vec<String> = roots
            .iter()
            .map(|pid| format!(r#"{{"pid":{pid}}}"#))
            .collect();
        let waiter = |pid: &i32| {
            format!(
                r#"{{"pid":{pid},"wait":{{"lock":{{"lock_type":"advisory","mode":"ExclusiveLock",
                "target":"advisory lock 7","wait_start":"{}"}},"blockers":[{{"pid":1,"kind":"hard"}}]}}}}"#,
                at(4)
            )
        };
        let all: Vec<String> = waiters.iter().map(waiter).collect();
        let ended = match event {
            "ended" => format!("\"{}\"", at(second)),
            _ => "null".to_owned(),
        };
        let (roots, count, waiters) = (roots.join(","), all.len(), all.join(","));
        let text = format!(
            r#"{{"event":"{event}","time":"{}","episode":{{"id":1,"started":"{}","ended":{ended},
            "duration":1,"merged_into":null,"deadlock":false,"root_count":1,"roots":[{roots}],
            "waiter_count":{count},"waiters":[{waiters}],"victim_count":2,
            "peak":{{"time":"{}","waiters":{count}}}}}}}"#,
            at(second),
            at(4),
            at(second)
        );
        text.replace('\n', "")
    }

    #[test]
    fn a_session_has_a_lane_with_its_roles() {
        let history = history(&[
            line("watching", 0),
            episode("started", 5, &[1], &[2, 3]),
            episode("changed", 8, &[2], &[3]),
            episode("ended", 10, &[2], &[3]),
            line("stopped", 12),
        ]);
        assert_eq!(history.episodes.len(), 1);
        let past = &history.episodes[0];
        assert!(!past.is_open());
        assert_eq!(past.duration().num_seconds(), 6);
        let roles = lanes(past).into_iter().map(|lane| {
            let seconds = |period: Period| (period.to - period.from).num_seconds();
            let spans = lane.spans.iter();
            let spans: Vec<_> = spans.map(|(span, role)| (seconds(*span), *role)).collect();
            (lane.session.pid.unwrap(), spans)
        });
        let expected = [
            (1, vec![(4, Role::Root)]),
            (2, vec![(4, Role::Waits), (2, Role::Root)]),
            (3, vec![(6, Role::Waits)]),
        ];
        assert_eq!(roles.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_episode_without_an_end_lasts_until_the_recording_stops() {
        let history = history(&[episode("started", 5, &[1], &[2]), line("stopped", 30)]);
        assert!(history.episodes[0].is_open());
        assert_eq!(history.episodes[0].duration().num_seconds(), 26);
    }

    #[test]
    fn a_recording_that_goes_on_after_a_restart_has_other_episodes() {
        let history = history(&[
            line("watching", 0),
            episode("started", 5, &[1], &[2]),
            line("watching", 20),
            episode("started", 25, &[1], &[2]),
        ]);
        let numbers: Vec<usize> = history.episodes.iter().map(|it| it.number).collect();
        assert_eq!(numbers, [1, 2]);
        let until: Vec<_> = history
            .episodes
            .iter()
            .map(|it| it.until.timestamp() % 60)
            .collect();
        assert_eq!(until, [5, 25]);
    }

    #[test]
    fn a_lost_connection_is_a_gap() {
        let history = history(&[
            line("watching", 0),
            line("lost", 5),
            line("connected", 9),
            line("lost", 20),
            line("stopped", 30),
        ]);
        let gaps = history.gaps.iter();
        let gaps: Vec<_> = gaps.map(|it| (it.to - it.from).num_seconds()).collect();
        assert_eq!(gaps, [4, 10]);
    }
}
