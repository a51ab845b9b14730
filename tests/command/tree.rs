//! `pglock tree`.

use serde_json::Value;

use super::terminal::Terminal;
use super::{Jam, pglock};
use crate::support::Database;

#[test]
fn the_tree_shows_the_waiter_below_the_holder() {
    let jam = Jam::new();
    let ran = pglock(&jam.database, &["tree"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let holder = format!("{} holder idle in transaction", jam.holder_pid);
    let waiter = format!("─ {} waiter waits", jam.waiter_pid);
    let at = |text: &str| {
        ran.out
            .find(text)
            .unwrap_or_else(|| panic!("{text}: {}", ran.out))
    };
    assert!(at(&holder) < at(&waiter), "{}", ran.out);
    jam.end().unwrap();
}

#[test]
fn the_tree_has_formats_for_other_programs() {
    let jam = Jam::new();
    let dot = pglock(&jam.database, &["tree", "--dot"]).out;
    assert!(dot.starts_with("digraph"), "{dot}");
    let mermaid = pglock(&jam.database, &["tree", "--mermaid"]).out;
    assert!(
        mermaid.starts_with("flowchart") || mermaid.starts_with("graph"),
        "{mermaid}"
    );
    let json = pglock(&jam.database, &["tree", "--json"]).out;
    let graph: Value = serde_json::from_str(&json).expect("JSON");
    let nodes = graph["nodes"].as_array().expect("nodes");
    let waiter = nodes
        .iter()
        .find(|it| it["pid"] == jam.waiter_pid)
        .expect("the waiter");
    assert_eq!(waiter["wait"]["blockers"][0]["pid"], jam.holder_pid);
    let both = pglock(&jam.database, &["tree", "--dot", "--json"]);
    assert_eq!(both.code, 2, "{both:?}");
    jam.end().unwrap();
}

#[test]
fn the_tree_fits_the_terminal_and_has_no_escape_sequences() {
    let jam = Jam::between(Database::new(), "\u{1b}]0;owned\u{7}", &"漢".repeat(20));
    let mut terminal = Terminal::start(&jam.database, &["tree"], (24, 50));
    assert_eq!(terminal.end(), 0);
    let plain = terminal
        .raw
        .replace("\u{1b}[31m", "")
        .replace("\u{1b}[0m", "");
    assert!(!plain.contains('\u{1b}'), "{:?}", terminal.raw);
    let screen = terminal.screen();
    let roots = screen
        .lines()
        .filter(|line| !line.is_empty() && !line.contains('─'))
        .count();
    let waiters = screen.lines().filter(|line| line.contains('─')).count();
    assert!(
        roots >= 1 && waiters >= 1 && screen.lines().all(|line| !line.starts_with('漢')),
        "{screen}"
    );
    jam.end().unwrap();
}

#[test]
fn a_tree_without_waiters_is_exit_code_1() {
    // Waiters of other tests are in the tree too: it covers the whole server.
    let ran = pglock(&Database::new(), &["tree"]);
    assert_eq!(
        ran.code == 1,
        ran.out.ends_with("waits for a lock\n"),
        "{ran:?}"
    );
}

/// Returns the colours of the lines that begin so, or with branches.
fn colours(terminal: &Terminal, start: &str) -> Vec<vt100::Color> {
    let screen = terminal.screen();
    let is_of_line = |line: &str| {
        line.trim_start_matches(['─', '└', '├', '│', ' '])
            .starts_with(start)
    };
    let lines = screen
        .lines()
        .enumerate()
        .filter(|(_, line)| is_of_line(line));
    let cell = |(row, _)| terminal.state().cell(row as u16, 0).unwrap().fgcolor();
    lines.map(cell).collect()
}

#[test]
fn roots_are_red_on_a_terminal() {
    let jam = Jam::new();
    let on_users = ["tree", "--on", "users"];
    let mut terminal = Terminal::start(&jam.database, &on_users, (24, 80));
    assert_eq!(terminal.end(), 0);
    let [holder, waiter] = [jam.holder_pid, jam.waiter_pid].map(|pid| format!("{pid} "));
    assert_eq!(colours(&terminal, &holder), [vt100::Color::Idx(1)]);
    assert_eq!(colours(&terminal, &waiter), [vt100::Color::Default]);
    assert_eq!(
        colours(&terminal, "1 session waits"),
        [vt100::Color::Default]
    );
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        let mut plain = Terminal::with(&jam.database, &on_users, (24, 80), &[variable]);
        assert_eq!(plain.end(), 0);
        assert!(!plain.raw.contains('\u{1b}'), "{:?}", plain.raw);
    }
    jam.end().unwrap();
}
