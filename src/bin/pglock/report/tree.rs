//! The graph at the peak of an episode, with each waiter below its first blocker.

use std::collections::BTreeSet;

use super::history::Past;
use super::html::{count, lines, name, text};
use crate::watch::{BlockerRecord, SessionRecord};

/// The greatest depth that is drawn.
const MAX_DEPTH: usize = 20;

/// The length of a query, in characters, that is shown at once.
const SHORT_QUERY: usize = 90;

pub fn tree(past: &Past) -> String {
    let nodes = &past.graph;
    let mut tree = Tree {
        nodes,
        drawn: BTreeSet::new(),
    };
    let is_top = |node: &SessionRecord| {
        let blocker = parent(node);
        blocker.is_none_or(|blocker| !nodes.iter().any(|it| is(it, blocker)))
    };
    let tops = (0..nodes.len()).filter(|position| is_top(&nodes[*position]));
    // Of a deadlock no session is at the top.
    let all = tops.chain(0..nodes.len());
    let branches: String = all.map(|position| tree.branch(position, 0)).collect();
    let shown = nodes.iter().filter(|it| it.wait.is_some()).count();
    let hidden = past.graph_of.1.saturating_sub(shown);
    let more = match hidden {
        0 => String::new(),
        hidden => format!(
            "<p class=\"more\">… and {} more</p>",
            count(hidden, "waiter")
        ),
    };
    format!("<ul class=\"tree\">{branches}</ul>{more}")
}

/// Returns the first blocker.
fn parent(node: &SessionRecord) -> Option<&BlockerRecord> {
    node.wait.as_ref()?.blockers.first()
}

fn is(node: &SessionRecord, blocker: &BlockerRecord) -> bool {
    (node.pid, &node.gid) == (blocker.pid, &blocker.gid)
}

struct Tree<'n> {
    nodes: &'n [SessionRecord],
    drawn: BTreeSet<usize>,
}

impl Tree<'_> {
    /// Draws a node and those below it; an empty text if it was drawn before.
    fn branch(&mut self, position: usize, depth: usize) -> String {
        if depth > MAX_DEPTH || !self.drawn.insert(position) {
            return String::new();
        }
        let nodes = self.nodes;
        let node = &nodes[position];
        let is_below = |it: &SessionRecord| parent(it).is_some_and(|blocker| is(node, blocker));
        let below = (0..nodes.len()).filter(|below| is_below(&nodes[*below]));
        let below: String = below.map(|below| self.branch(below, depth + 1)).collect();
        let list = match below.is_empty() {
            true => String::new(),
            false => format!("<ul>{below}</ul>"),
        };
        let is_top = depth == 0;
        format!("<li>{}{list}</li>\n", card(node, is_top))
    }
}

fn card(node: &SessionRecord, is_top: bool) -> String {
    let class = if node.wait.is_none() { "root" } else { "waits" };
    let blocks = node.blocks.filter(|count| *count > 0);
    let blocks = blocks.map(|it| format!(" <span class=\"chip\">blocks {it}</span>"));
    let facts = facts(node, is_top);
    format!(
        "<div class=\"card {class}\"><strong>{}</strong>{} <span class=\"facts\">{}</span>{}</div>",
        name(node),
        blocks.unwrap_or_default(),
        facts.join(" · "),
        query(node)
    )
}

fn facts(node: &SessionRecord, is_top: bool) -> Vec<String> {
    let mut facts = Vec::new();
    if let Some(wait) = &node.wait {
        let (mode, target) = (text(&wait.lock.mode), text(&wait.lock.target));
        facts.push(format!("waits for {mode} on {target}"));
        // In a deadlock, the blocker is below.
        let above = parent(node).filter(|_| is_top);
        let above = above.and_then(|it| it.pid);
        facts.extend(above.map(|pid| format!("behind {pid}")));
        if wait.blockers.first().is_some_and(|it| it.kind == "soft") {
            facts.push("in the queue".to_owned());
        }
        let others = wait.blockers.iter().skip(1).filter(|it| it.kind == "hard");
        let others: Vec<String> = others.filter_map(|it| Some(it.pid?.to_string())).collect();
        if !others.is_empty() {
            facts.push(format!("also held by {}", others.join(", ")));
        }
        if wait.blockers.is_empty() {
            facts.push("its blockers are unknown".to_owned());
        }
    }
    let activity = node.activity.as_ref();
    let state = activity.and_then(|it| it.state.as_ref());
    // A waiter is active.
    facts.extend(state.filter(|_| node.wait.is_none()).map(|it| text(it)));
    let named = |noun: &str, value: &String| format!("{noun} {}", text(value));
    let user = activity.and_then(|it| it.user.as_ref());
    facts.extend(user.map(|it| named("role", it)));
    let database = activity.and_then(|it| it.database.as_ref());
    facts.extend(database.map(|it| named("database", it)));
    facts
}

/// Returns the query; a long one of a waiter is folded.
fn query(node: &SessionRecord) -> String {
    let activity = node.activity.as_ref();
    let Some(query) = activity.and_then(|it| it.query.as_deref()) else {
        return String::new();
    };
    let full = lines(query);
    let start: String = query.chars().take(SHORT_QUERY).collect();
    if node.wait.is_none() || (start == query && !full.contains('\n')) {
        return format!("<pre>{full}</pre>");
    }
    let start = text(&start);
    format!("<details><summary><code>{start}…</code></summary><pre>{full}</pre></details>")
}
