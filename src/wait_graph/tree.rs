//! The [`WaitGraph`] as an indented tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::graph::WaitGraph;
use super::node::WaitId;
use super::node::{BlockKind, Wait, WaitBlocker, WaitNode};
use crate::fmt::format_duration;
use crate::fmt::single_line;
use crate::views::PgActivity;

/// How many waiters are drawn under one session; the others are counted.
const DRAWN: usize = 20;

/// How deep a line of waiters is followed, in characters of the indent: twenty sessions.
const DEEP: usize = 20 * 3;

/// How much of a query is shown, and of a name.
const QUERY: usize = 60;
const NAME: usize = 30;

/// A tree for a terminal: the roots, and below each those who wait for it.
///
/// Every waiter stands once, under the first session that holds what it wants, or
/// else under the first that is before it in the queue. Of more than twenty below
/// one session, or in one line, the rest is counted. Queries are shortened to one line, without
/// control characters.
impl fmt::Display for WaitGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "nobody waits for a lock");
        }
        let tree = Tree::of(self);
        let mut drawn = BTreeSet::new();
        for root in self.roots().filter(|root| tree.has_waiters(&root.id)) {
            tree.draw(root, &mut drawn, f)?;
        }
        for cycle in self.cycles() {
            let pids: Vec<String> = cycle.iter().map(i32::to_string).collect();
            writeln!(f, "deadlock: {} → {}", pids.join(" → "), pids[0])?;
            if let Some(node) = self.node(cycle[0]) {
                tree.draw(node, &mut drawn, f)?;
            }
        }
        hint(self, f)
    }
}

fn hint(graph: &WaitGraph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let hidden = |node: &WaitNode| node.activity.as_ref().is_some_and(PgActivity::is_hidden);
    if graph.nodes().any(hidden) {
        writeln!(
            f,
            "what some sessions do is hidden from this role; members of pg_read_all_stats see it"
        )?;
    }
    Ok(())
}

struct Tree<'g> {
    children: BTreeMap<&'g WaitId, Vec<&'g WaitNode>>,
}

impl<'g> Tree<'g> {
    fn of(graph: &'g WaitGraph) -> Self {
        let mut children = BTreeMap::<_, Vec<&WaitNode>>::new();
        for node in graph.nodes() {
            if let Some(parent) = node.parent() {
                children.entry(parent).or_default().push(node);
            }
        }
        let mut tree = Self { children };
        tree.sort();
        tree
    }

    /// Those whom others wait for come first, then those who have waited longest.
    fn sort(&mut self) {
        let parents: BTreeSet<&WaitId> = self.children.keys().copied().collect();
        for waiters in self.children.values_mut() {
            waiters.sort_by_key(|node| {
                let start = node.wait.as_ref().and_then(|wait| wait.lock.wait_start);
                (!parents.contains(&node.id), start.is_none(), start)
            });
        }
    }

    fn has_waiters(&self, id: &WaitId) -> bool {
        self.children.contains_key(id)
    }

    /// Draws a node and what is below it.
    fn draw(
        &self,
        root: &'g WaitNode,
        drawn: &mut BTreeSet<&'g WaitId>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let mut next = vec![(Line::Node(root), String::new(), "", "")];
        while let Some((entry, indent, branch, trunk)) = next.pop() {
            let node = match entry {
                Line::More(count) => {
                    writeln!(f, "{indent}{branch}… and {count} more")?;
                    continue;
                }
                // In a cycle one comes back to where one began.
                Line::Node(node) if !drawn.insert(&node.id) => {
                    writeln!(f, "{indent}{branch}{} again", name(node))?;
                    continue;
                }
                Line::Node(node) => node,
            };
            writeln!(f, "{indent}{branch}{}", line(node))?;
            let indent = indent + trunk;
            let (mut branch, mut trunk) = ("└─ ", "   ");
            for entry in self.below(node, &indent).into_iter().rev() {
                next.push((entry, indent.clone(), branch, trunk));
                (branch, trunk) = ("├─ ", "│  ");
            }
        }
        Ok(())
    }

    fn below(&self, node: &WaitNode, indent: &str) -> Vec<Line<'g>> {
        let waiters = self.children.get(&node.id).map_or(&[][..], Vec::as_slice);
        let room = if indent.chars().count() < DEEP {
            DRAWN
        } else {
            0
        };
        let drawn = waiters.iter().take(room).map(|node| Line::Node(node));
        let more = waiters.len().saturating_sub(room);
        drawn
            .chain((more > 0).then_some(Line::More(more)))
            .collect()
    }
}

enum Line<'g> {
    Node(&'g WaitNode),
    More(usize),
}

/// What a node is called: its pid, or the name of a prepared transaction.
pub(crate) fn name(node: &WaitNode) -> String {
    match (&node.pid, &node.gid) {
        (Some(pid), _) => pid.to_string(),
        (None, Some(gid)) => format!("prepared transaction {}", single_line(gid, NAME)),
        (None, None) => "prepared transaction".to_owned(),
    }
}

/// A node on one line: who, what it waits for or does, and its query.
fn line(node: &WaitNode) -> String {
    let query = node.activity.as_ref().and_then(|it| it.query.as_deref());
    match query.map(|query| single_line(query, QUERY)) {
        Some(query) if !query.is_empty() => format!("{}: {query}", headline(node)),
        _ => headline(node),
    }
}

/// The line without the query, as diagrams have it.
pub(crate) fn headline(node: &WaitNode) -> String {
    let mut line = name(node);
    let activity = node.activity.as_ref();
    let application = activity.and_then(|it| it.application_name.as_deref());
    let application = single_line(application.unwrap_or_default(), NAME);
    if !application.is_empty() {
        line = format!("{line} {application}");
    }
    match (&node.wait, activity) {
        (Some(wait), _) => line + &waits(wait),
        (None, Some(activity)) => line + &does(activity),
        (None, None) => line,
    }
}

fn waits(wait: &Wait) -> String {
    let lock = &wait.lock;
    let target = single_line(&lock.target().to_string(), 2 * NAME);
    let since = lock
        .wait_duration
        .map(|it| format!(" {}", format_duration(it)));
    let queue = match wait.blockers.first().map(|first| first.kind) {
        Some(BlockKind::Soft) => ", in the queue",
        _ => "",
    };
    let is_hard = |it: &&WaitBlocker| it.kind == BlockKind::Hard;
    let more = match wait.blockers.iter().skip(1).filter(is_hard).count() {
        0 => String::new(),
        more => format!(", held by {more} more"),
    };
    let since = since.unwrap_or_default();
    format!(" waits{since} for {} on {target}{queue}{more}", lock.mode)
}

fn does(activity: &PgActivity) -> String {
    let state = activity.state.as_ref().map(|state| format!(" {state}"));
    let open = activity.transaction_duration.map(format_duration);
    let open = open.map(|open| format!(", transaction open {open}"));
    state.unwrap_or_default() + &open.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::types::LockMode;
    use crate::wait_graph::graph::WaitGraph;
    use crate::wait_graph::graph::tests::{queue, row};

    #[test]
    fn a_queue_of_500_prints_on_a_screen() {
        let text = queue(500).to_string();
        assert_eq!(text.lines().count(), 22, "{text}");
        assert!(text.starts_with("1\n├─ 2 waits for ExclusiveLock on advisory lock 7\n"));
        assert!(text.ends_with("└─ … and 480 more\n"), "{text}");
    }

    #[test]
    fn a_chain_of_10000_is_followed_for_twenty() {
        let exclusive = || LockMode::Exclusive;
        let rows = (1..=10_000).flat_map(|pid| {
            let holds = row(pid, pid.into(), exclusive(), &[]);
            let awaits = row(pid + 1, pid.into(), exclusive(), &[pid]);
            [holds, awaits]
        });
        let graph = WaitGraph::from_rows(rows.collect());
        assert_eq!(graph.depth(10_001), Some(10_000));
        assert_eq!(graph.cycles().len(), 0);
        assert_eq!(graph.to_string().lines().count(), 22);
    }
}
