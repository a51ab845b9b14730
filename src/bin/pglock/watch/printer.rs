//! Prints what happens as lines for a person or a log.

use chrono::{DateTime, Utc};
use diesel_pglock::Episode;
use diesel_pglock::internal::format_duration;

use super::record::Event;
use crate::list::overview::summary_line;
use crate::output::clean;

/// The number of locked objects that a line names.
const MAX_TARGETS: usize = 3;

/// Returns a line about the connection or the recording.
pub fn note(event: Event, time: DateTime<Utc>, error: Option<&str>) -> String {
    let text = match event {
        Event::Lost => "connection lost, trying again",
        Event::Connected => "connected again",
        _ => "watching",
    };
    let error = error.map(|error| format!(": {}", clean(error)));
    format!("{}  {text}{}\n", stamp(time), error.unwrap_or_default())
}

/// Returns a line about an episode.
pub fn episode(event: Event, time: DateTime<Utc>, episode: &Episode) -> String {
    let (stamp, id) = (stamp(time), episode.id);
    match event {
        Event::Ended => format!("{stamp}  episode {id} ended {}\n", end(episode)),
        Event::Started => format!("{stamp}  episode {id} started: {}\n", state(episode)),
        _ => format!("{stamp}  episode {id} changed: {}\n", state(episode)),
    }
}

fn stamp(time: DateTime<Utc>) -> impl std::fmt::Display {
    time.format("%Y-%m-%dT%H:%M:%SZ")
}

/// Describes the roots and their waiters.
fn state(episode: &Episode) -> String {
    let graph = episode.graph();
    let summary = summary_line(graph, &graph.worst_roots());
    let mut parts = vec![summary.trim_end().to_owned()];
    parts.extend(graph.cycles().iter().map(|cycle| deadlock(cycle)));
    parts.push(format!("for {}", targets(episode)));
    let age = format_duration(episode.duration());
    parts.push(format!("since {age}"));
    parts.join("; ")
}

fn deadlock(cycle: &[i32]) -> String {
    let pids: Vec<String> = cycle.iter().map(ToString::to_string).collect();
    format!("deadlock of {}", pids.join(", "))
}

/// Describes what the longest waits are for.
fn targets(episode: &Episode) -> String {
    let mut targets: Vec<String> = Vec::new();
    for wait in episode.waiters().filter_map(|it| it.wait.as_ref()) {
        let target = clean(&wait.lock.target().to_string());
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let more = targets.len().saturating_sub(MAX_TARGETS);
    targets.truncate(MAX_TARGETS);
    let more = (more > 0).then(|| format!("{more} more"));
    targets
        .into_iter()
        .chain(more)
        .collect::<Vec<_>>()
        .join(", ")
}

fn end(episode: &Episode) -> String {
    let duration = format_duration(episode.duration());
    let (waited, peak) = (episode.victims.len(), episode.peak.waiters);
    let noun = if waited == 1 { "session" } else { "sessions" };
    let part = episode.merged_into;
    let part = part.map(|id| format!("; its waits are part of episode {id} now"));
    let part = part.unwrap_or_default();
    format!("after {duration}: {waited} {noun} waited, at most {peak} at once{part}")
}
