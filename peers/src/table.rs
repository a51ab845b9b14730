//! The rows as a table in Markdown.

use std::fmt::Write;

use crate::row::{Figure, Row};
use crate::target::Verdict;

const HEAD: &str = "\
| work | CPUs | beside | ours | peer | figure | spread | target | result | rounds |
|---|---|---|--:|--:|--:|--:|--:|---|--:|
";

/// Renders the rows.
pub fn render(rows: &[Row]) -> String {
    let mut table = HEAD.to_owned();
    for row in rows {
        let _ = writeln!(table, "{}", line(row)); // cannot fail
    }
    table
}

/// Renders one row.
pub fn line(row: &Row) -> String {
    format!("| {} |", cells(row).join(" | "))
}

fn cells(row: &Row) -> [String; 10] {
    let time = |pick: fn((f64, f64)) -> f64| row.seconds.map(pick).map(duration);
    [
        row.work.clone(),
        row.placement.to_string(),
        row.peer.clone().unwrap_or_default(),
        time(|(ours, _)| ours).unwrap_or_default(),
        time(|(_, peer)| peer).unwrap_or_default(),
        figure(row.figure, row.spread.median),
        format!("{}–{}", number(row.spread.low), number(row.spread.high)),
        row.target.map(|it| it.to_string()).unwrap_or_default(),
        row.verdict().map_or_else(String::new, |it| result(row, it)),
        row.rounds.to_string(),
    ]
}

fn figure(figure: Figure, value: f64) -> String {
    let value = number(value);
    match figure {
        Figure::Speed => format!("speed {value}"),
        Figure::Time => format!("time {value}"),
        Figure::Milliseconds => format!("{value} ms"),
        Figure::Mebibytes => format!("{value} MiB"),
        Figure::ClientShare => format!("share {value}"),
        Figure::Growth => format!("growth {value}"),
    }
}

fn result(row: &Row, verdict: Verdict) -> String {
    match (verdict, row.known_gap) {
        (Verdict::Met, Some(_)) => "met; the mark of a known gap can go".to_owned(),
        (Verdict::Met, None) => "met".to_owned(),
        (Verdict::KnownGap, Some(at)) => format!("known gap: {}", number(at)),
        (Verdict::KnownGap | Verdict::Missed, _) => "missed".to_owned(),
        (Verdict::Failed, _) => "**failed**".to_owned(),
    }
}

/// Returns a number with three significant digits, or all digits before the point.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Returns seconds in the unit that suits them.
fn duration(seconds: f64) -> String {
    match seconds {
        _ if seconds >= 1.0 => format!("{} s", number(seconds)),
        _ if seconds >= 1e-3 => format!("{} ms", number(seconds * 1e3)),
        _ => format!("{} µs", number(seconds * 1e6)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Spread;
    use crate::placement::Placement;
    use crate::target::Target;

    #[test]
    fn a_row_shows_both_times_and_what_is_expected() {
        let mut row = Row::new("take", Figure::Speed, Spread::exact(0.934), 7);
        row.target = Some(Target::AtLeast(0.97));
        row.peer = Some("pgbench".to_owned());
        row.seconds = Some((0.000_042_1, 0.001_5));
        row.placement = Placement::OneCpu;
        let table = render(&[row]);
        let expected = "| take | one | pgbench | 42.1 µs | 1.50 ms | speed 0.934 | 0.934–0.934 | ≥ 0.97 | missed | 7 |";
        assert_eq!(table.lines().last(), Some(expected));
    }

    #[test]
    fn a_known_gap_is_shown_with_its_figure() {
        let row = Row::new("list", Figure::Time, Spread::exact(3.0), 7).at_most(1.3);
        let row = row.known_gap(3.1);
        assert!(render(&[row]).contains("| known gap: 3.10 |"));
    }

    #[test]
    fn every_line_has_the_cells_of_the_head() {
        let row = Row::new("idle", Figure::Growth, Spread::exact(1.0), 1);
        let table = render(&[row]);
        let bars = |line: &str| line.matches('|').count();
        let mut counts = table.lines().map(bars);
        let head = counts.next();
        assert!(counts.all(|count| Some(count) == head), "{table}");
    }
}
