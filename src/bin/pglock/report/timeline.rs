//! Timelines as inline SVG.
//!
//! The drawings have no text and stretch to any width; the labels beside them are HTML.

use super::history::{History, Past, Period};
use super::html::{count, name, time_of_day, time_on_axis};
use super::lanes::{Lane, lanes};
use diesel_pglock::internal::format_duration;

/// The width of a drawing, in its own units.
const WIDTH: f64 = 1000.0;

/// The height of a drawing.
const HEIGHT: f64 = 20.0;

/// The width of the shortest span, so that it can be seen.
const MIN_WIDTH: f64 = 3.0;

/// The height of the line of an episode, below its waiters.
const LINE: f64 = 4.0;

/// The number of lanes of an episode.
const MAX_LANES: usize = 24;

/// The number of marks on an axis, without the first.
const MARKS: i32 = 4;

/// Draws all chosen episodes on one axis, with the number of their waiters.
pub fn overview(history: &History, episodes: &[&Past]) -> String {
    let peaks = episodes.iter().map(|it| it.last().peak.waiters);
    let most = peaks.max().unwrap_or_default().max(1);
    let row = |past: &&Past| {
        let label = format!("<a href=\"#e{}\">{}</a>", past.number, headline(past));
        row(&label, &headline(past), &area(past, history, most))
    };
    let rows: String = episodes.iter().map(row).collect();
    format!(
        "<div class=\"lanes wide\">{rows}{}</div>",
        axis(history.period)
    )
}

/// Describes an episode in a few words: `1: 14257 console → 3 sessions, 58 s`.
pub fn headline(past: &Past) -> String {
    let roots = past.roots();
    let root = match roots.first() {
        Some(root) => name(root),
        None if past.last().deadlock => "deadlock".to_owned(),
        None => "unknown blockers".to_owned(),
    };
    let more = match roots.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    let victims = count(past.last().victim_count, "session");
    let duration = format_duration(past.duration());
    format!("{}: {root}{more} → {victims}, {duration}", past.number)
}

/// Draws the number of waiters over time, the changes of the roots, and the gaps.
fn area(past: &Past, history: &History, most: usize) -> String {
    let gaps = history.gaps.iter();
    let gap = |gap: &Period| rect(history.period, *gap, (0.0, HEIGHT), "gap", "no connection");
    let gaps: String = gaps.map(gap).collect();
    let waiters = past.states().map(|(period, episode)| {
        let share = episode.waiter_count as f64 / most as f64;
        let height = (share * (HEIGHT - LINE)).max(1.0);
        let title = format!("{} wait", count(episode.waiter_count, "session"));
        let y = HEIGHT - LINE - height;
        rect(history.period, period, (y, height), "waits", &title)
    });
    let waiters: String = waiters.collect();
    let line = rect(
        history.period,
        past.period(),
        (HEIGHT - LINE, LINE),
        "root",
        &headline(past),
    );
    gaps + &waiters + &line
}

/// Draws the sessions of an episode.
pub fn sessions(past: &Past, history: &History) -> String {
    let lanes = lanes(past);
    let rows: String = lanes
        .iter()
        .take(MAX_LANES)
        .map(|lane| lane_row(lane, past.period(), history))
        .collect();
    let hidden = lanes.len().saturating_sub(MAX_LANES);
    let more = match hidden {
        0 => String::new(),
        hidden => format!(
            "<p class=\"more\">… and {} more</p>",
            count(hidden, "session")
        ),
    };
    let axis = axis(past.period());
    format!("<div class=\"lanes\">{rows}{axis}</div>{more}")
}

fn lane_row(lane: &Lane<'_>, period: Period, history: &History) -> String {
    let name = name(lane.session);
    let gaps = history.gaps.iter();
    let gaps = gaps.filter(|gap| gap.to > period.from && gap.from < period.to);
    let gap = |gap: &Period| rect(period, *gap, (0.0, HEIGHT), "gap", "no connection");
    let mut drawing: String = gaps.map(gap).collect();
    let mut parts = Vec::new();
    for (span, role) in &lane.spans {
        let times = format!("{}–{}", time_of_day(span.from), time_of_day(span.to));
        let duration = format_duration(span.to - span.from);
        let title = format!("{name} {} {times} ({duration})", role.verb());
        drawing += &rect(period, *span, (3.0, HEIGHT - 6.0), role.class(), &title);
        parts.push(format!("{} {times}", role.verb()));
    }
    row(&name, &format!("{name}: {}", parts.join(", ")), &drawing)
}

/// Returns a drawing with its label. All texts are escaped already.
fn row(label: &str, title: &str, drawing: &str) -> String {
    let marks: String = (0..=MARKS).map(mark).collect();
    format!(
        "<div class=\"label\">{label}</div><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{title}\">{marks}{drawing}</svg>\n"
    )
}

fn mark(number: i32) -> String {
    let x = WIDTH * f64::from(number) / f64::from(MARKS);
    format!("<line x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{HEIGHT}\"/>")
}

/// Draws a span of a period, at least so wide that it can be seen.
fn rect(period: Period, span: Period, (y, height): (f64, f64), class: &str, title: &str) -> String {
    let (from, to) = (
        period.place(span.from) * WIDTH,
        period.place(span.to) * WIDTH,
    );
    let width = (to - from).max(MIN_WIDTH);
    let x = from.min(WIDTH - width);
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
         class=\"{class}\"><title>{title}</title></rect>"
    )
}

/// Returns the times below the drawings.
fn axis(period: Period) -> String {
    let step = (period.to - period.from) / MARKS;
    let time = |number| time_on_axis(period.from + step * number, step);
    let label = |number| format!("<span>{}</span>", time(number));
    let labels: String = (0..=MARKS).map(label).collect();
    format!("<div class=\"label\"></div><div class=\"axis\">{labels}</div>\n")
}
