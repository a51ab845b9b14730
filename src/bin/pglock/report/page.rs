//! The page: one file, without a script, and without anything from elsewhere.

use std::cmp::Reverse;

use super::history::{History, Past};
use super::html::{count, day_and_time, name, text};
use super::timeline::{headline, overview, sessions};
use super::tree::tree;
use crate::watch::SessionRecord;
use diesel_pglock::internal::format_duration;

const STYLE: &str = include_str!("style.css");

/// With this policy a browser runs no script on the page, and loads nothing.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The number of episodes that are drawn, the most harmful ones.
const MAX_DRAWN: usize = 40;

/// The number of episodes in the table.
const MAX_LISTED: usize = 1000;

/// The number of roots in a line of the table.
const MAX_ROOTS: usize = 3;

pub fn page(history: &History) -> String {
    let drawn = most_harmful(history);
    let details: String = drawn.iter().map(|past| section(past, history)).collect();
    let (from, to) = (history.period.from, history.period.to);
    let period = format!("{} – {} UTC", day_and_time(from), day_and_time(to));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta name=\"robots\" content=\"noindex\">\n\
         <title>Blocked sessions, {period}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <header>\n<h1>Blocked sessions</h1>\n<p>{period}</p>\n{}{}</header>\n<main>\n{}{details}{}\
         </main>\n<footer><p>Made by <code>pglock report</code>. It shows texts of queries, which may \
         be personal data.</p></footer>\n</body>\n</html>\n",
        summary(history),
        notes(history),
        timeline(history, &drawn),
        table(history),
    )
}

/// Returns the most harmful episodes, in the order in which they started.
fn most_harmful(history: &History) -> Vec<&Past> {
    let mut episodes: Vec<&Past> = history.episodes.iter().collect();
    episodes.sort_by_key(|past| Reverse(past.harm()));
    episodes.truncate(MAX_DRAWN);
    episodes.sort_by_key(|past| past.number);
    episodes
}

fn summary(history: &History) -> String {
    let episodes = &history.episodes;
    let fact = |value: &str, noun: &str| format!("<div><b>{value}</b><span>{noun}</span></div>");
    let victims: usize = episodes.iter().map(|it| it.last().victim_count).sum();
    let longest = episodes.iter().map(Past::duration).max();
    let longest = longest.map_or("–".to_owned(), format_duration);
    let most = episodes.iter().map(|it| it.last().peak.waiters).max();
    format!(
        "<div class=\"summary\">{}{}{}{}</div>\n",
        fact(&episodes.len().to_string(), "episodes of blocking"),
        fact(&victims.to_string(), "sessions waited"),
        fact(&most.unwrap_or_default().to_string(), "at once, at most"),
        fact(&longest, "the longest episode"),
    )
}

fn notes(history: &History) -> String {
    let mut notes = Vec::new();
    if history.is_cut {
        notes.push("The last line of the recording is cut off, and left out.".to_owned());
    }
    for gap in &history.gaps {
        let (from, to) = (day_and_time(gap.from), day_and_time(gap.to));
        notes.push(format!("No connection from {from} to {to}."));
    }
    let open = history.episodes.iter().filter(|it| it.is_open()).count();
    if open > 0 {
        let text = count(open, "episode");
        notes.push(format!(
            "At the end of the recording, {text} had not ended."
        ));
    }
    let notes: String = notes.iter().map(|it| format!("<li>{it}</li>")).collect();
    match notes.is_empty() {
        true => notes,
        false => format!("<ul class=\"notes\">{notes}</ul>\n"),
    }
}

fn timeline(history: &History, drawn: &[&Past]) -> String {
    if drawn.is_empty() {
        return "<p>No session waited for a lock.</p>\n".to_owned();
    }
    let hidden = history.episodes.len() - drawn.len();
    let more = match hidden {
        0 => String::new(),
        hidden => format!(
            "<p class=\"more\">{} with less harm: see the table.</p>",
            count(hidden, "episode")
        ),
    };
    format!(
        "<section>\n<h2>Timeline</h2>\n<p class=\"legend\"><i class=\"root\"></i>an episode, \
         <i class=\"waits\"></i>the sessions that wait in it, <i class=\"gap\"></i>no connection</p>\n\
         {}{more}</section>\n",
        overview(history, drawn)
    )
}

fn section(past: &Past, history: &History) -> String {
    format!(
        "<section id=\"e{}\">\n<h2>Episode {}</h2>\n<p>{}</p>\n\
         <h3>Sessions</h3>\n<p class=\"legend\"><i class=\"root\"></i>blocks others, \
         <i class=\"between\"></i>waits and blocks others, <i class=\"waits\"></i>waits</p>\n{}\
         <h3>Waits at the peak, {}</h3>\n{}</section>\n",
        past.number,
        headline(past),
        description(past),
        sessions(past, history),
        day_and_time(past.graph_of.0),
        tree(past),
    )
}

fn description(past: &Past) -> String {
    let episode = past.last();
    let start = day_and_time(past.period().from);
    let duration = format_duration(past.duration());
    let end = match (episode.ended, past.merged_into) {
        (None, _) => "and had not ended at the end of the recording".to_owned(),
        (Some(_), None) => format!("and ended after {duration}"),
        (Some(_), Some(into)) => format!(
            "and went on after {duration} as part of <a href=\"#e{into}\">episode {into}</a>"
        ),
    };
    let victims = count(episode.victim_count, "session");
    let peak = (episode.peak.waiters, day_and_time(episode.peak.time));
    let deadlock = if episode.deadlock {
        " It contained a deadlock."
    } else {
        ""
    };
    format!(
        "It started at {start} {end}. {victims} waited, at most {} at once, at {}.{deadlock}",
        peak.0, peak.1
    )
}

fn table(history: &History) -> String {
    let listed = history.episodes.iter().take(MAX_LISTED);
    let lines: String = listed.map(line).collect();
    if lines.is_empty() {
        return lines;
    }
    let hidden = history.episodes.len().saturating_sub(MAX_LISTED);
    let more = match hidden {
        0 => String::new(),
        hidden => format!(
            "<p class=\"more\">… and {} more</p>",
            count(hidden, "episode")
        ),
    };
    let titles = ["Episode", "Start", "Duration", "Roots", "Waited", "At once"];
    let titles: String = titles.iter().map(|it| format!("<th>{it}</th>")).collect();
    format!(
        "<section>\n<h2>All episodes</h2>\n<table>\n<thead><tr>{titles}</tr></thead>\n\
         <tbody>\n{lines}</tbody>\n</table>{more}</section>\n"
    )
}

fn line(past: &Past) -> String {
    let episode = past.last();
    let (number, start) = (past.number, day_and_time(past.period().from));
    let open = if past.is_open() { " so far" } else { "" };
    let cells = [
        ("Episode", format!("<a href=\"#e{number}\">{number}</a>")),
        ("Start", start),
        ("Duration", format_duration(past.duration()) + open),
        ("Roots", roots(past)),
        ("Waited", episode.victim_count.to_string()),
        ("At once", episode.peak.waiters.to_string()),
    ];
    let cell = |(title, text): (&str, String)| format!("<td data-title=\"{title}\">{text}</td>");
    format!("<tr>{}</tr>\n", cells.map(cell).concat())
}

fn roots(past: &Past) -> String {
    let roots = past.roots();
    let more = roots.len().saturating_sub(MAX_ROOTS);
    let more = (more > 0).then(|| format!("<div>… and {more} more</div>"));
    let roots: Vec<String> = roots.iter().take(MAX_ROOTS).map(|it| root(it)).collect();
    if roots.is_empty() {
        let reason = if past.last().deadlock {
            "deadlock"
        } else {
            "unknown"
        };
        return reason.to_owned();
    }
    roots.concat() + &more.unwrap_or_default()
}

fn root(root: &SessionRecord) -> String {
    let query = root.activity.as_ref().and_then(|it| it.query.as_deref());
    let query = query.map(|it| format!("<code>{}</code>", text(it)));
    format!("<div>{} {}</div>", name(root), query.unwrap_or_default())
}
