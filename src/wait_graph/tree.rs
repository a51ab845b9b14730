//! The [`WaitGraph`] as an indented tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::graph::WaitGraph;
use super::label::{line, name};
use super::node::{WaitId, WaitNode};
use crate::views::PgActivity;

/// The greatest number of waiters that are drawn below one session; the rest is counted.
const MAX_CHILDREN: usize = 20;

/// The greatest indent, in characters. Each level takes three, so this is twenty levels.
const MAX_INDENT: usize = 20 * 3;

/// Draws a tree for a terminal: the roots, and below each node its waiters.
///
/// Each waiter is drawn once: below its first hard blocker, or else below its first soft
/// blocker. Below one session, and from one level to the next, 20 nodes are drawn; the rest
/// is counted. Queries are cut to 60 characters on one line, without control characters.
impl fmt::Display for WaitGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no session waits for a lock");
        }
        let tree = Tree::of(self);
        let mut drawn = BTreeSet::new();
        let is_top = |node: &&WaitNode| node.blockers().is_empty();
        for root in self.nodes().filter(is_top) {
            tree.draw(root, &mut drawn, f)?;
        }
        for cycle in self.cycles() {
            let pids: Vec<String> = cycle.iter().map(i32::to_string).collect();
            writeln!(f, "deadlock: {} → {}", pids.join(" → "), pids[0])?;
            if let Some(node) = self.node(cycle[0]) {
                tree.draw(node, &mut drawn, f)?;
            }
        }
        write_hint(self, f)
    }
}

fn write_hint(graph: &WaitGraph, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let is_hidden = |node: &WaitNode| node.activity.as_ref().is_some_and(PgActivity::is_hidden);
    if graph.nodes().any(is_hidden) {
        writeln!(
            f,
            "the activity of some sessions is hidden from this role; members of pg_read_all_stats see it"
        )?;
    }
    Ok(())
}

struct Tree<'g> {
    children: BTreeMap<&'g WaitId, Vec<&'g WaitNode>>,
}

/// A line that is still to be drawn.
struct Entry<'g> {
    item: Item<'g>,
    /// The text before the branch: the lines that connect nodes above.
    indent: String,
    /// The text between the indent and the node.
    branch: &'static str,
    /// The text that replaces the branch in the indent of the children.
    trunk: &'static str,
}

enum Item<'g> {
    Node(&'g WaitNode),
    /// The number of waiters that are not drawn.
    More(usize),
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

    /// Sorts siblings: blockers first, then by the start of the wait, unknown ones last.
    fn sort(&mut self) {
        let parents: BTreeSet<&WaitId> = self.children.keys().copied().collect();
        for waiters in self.children.values_mut() {
            waiters.sort_by_key(|node| {
                let start = node.wait.as_ref().and_then(|wait| wait.lock.wait_start);
                (!parents.contains(&node.id), start.is_none(), start)
            });
        }
    }

    /// Draws a node with all nodes below it. The stack replaces a recursion, which could overflow.
    fn draw(
        &self,
        root: &'g WaitNode,
        drawn: &mut BTreeSet<&'g WaitId>,
        f: &mut fmt::Formatter<'_>,
    ) -> fmt::Result {
        let mut stack = vec![Entry {
            item: Item::Node(root),
            indent: String::new(),
            branch: "",
            trunk: "",
        }];
        while let Some(entry) = stack.pop() {
            write!(f, "{}{}", entry.indent, entry.branch)?;
            match entry.item {
                Item::More(count) => writeln!(f, "… and {count} more")?,
                // A cycle leads back to a node that was drawn.
                Item::Node(node) if !drawn.insert(&node.id) => writeln!(f, "{} again", name(node))?,
                Item::Node(node) => {
                    writeln!(f, "{}", line(node))?;
                    stack.extend(self.children_of(node, entry.indent + entry.trunk));
                }
            }
        }
        Ok(())
    }

    /// Returns the entries below a node, the last one first, as a stack needs them.
    fn children_of(&self, node: &WaitNode, indent: String) -> impl Iterator<Item = Entry<'g>> {
        let (mut branch, mut trunk) = ("└─ ", "   ");
        let items = self.items_below(node, &indent).into_iter().rev();
        items.map(move |item| {
            let entry = Entry {
                item,
                indent: indent.clone(),
                branch,
                trunk,
            };
            (branch, trunk) = ("├─ ", "│  ");
            entry
        })
    }

    fn items_below(&self, node: &WaitNode, indent: &str) -> Vec<Item<'g>> {
        let waiters = self.children.get(&node.id).map_or(&[][..], Vec::as_slice);
        let is_deep = indent.chars().count() >= MAX_INDENT;
        let room = if is_deep { 0 } else { MAX_CHILDREN };
        let drawn = waiters.iter().take(room).map(|node| Item::Node(node));
        let more = waiters.len().saturating_sub(room);
        drawn
            .chain((more > 0).then_some(Item::More(more)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::types::LockMode::Exclusive;
    use crate::wait_graph::graph::WaitGraph;
    use crate::wait_graph::test_rows::{queue, row};

    #[test]
    fn a_waiter_whose_blockers_are_unknown_is_drawn() {
        let graph = WaitGraph::from_rows(vec![row(1, 7, Exclusive, &[9])]);
        let line = "1 waits for ExclusiveLock on advisory lock 7, its blockers are unknown\n";
        assert_eq!(graph.to_string(), line);
    }

    #[test]
    fn no_waiters_are_drawn_as_a_sentence() {
        let text = WaitGraph::default().to_string();
        assert_eq!(text, "no session waits for a lock\n");
    }

    #[test]
    fn a_queue_of_500_fits_on_a_screen() {
        let text = queue(500).to_string();
        assert_eq!(text.lines().count(), 22, "{text}");
        assert!(text.starts_with("1\n├─ 2 waits for ExclusiveLock on advisory lock 7\n"));
        assert!(text.ends_with("└─ … and 480 more\n"), "{text}");
    }

    #[test]
    fn twenty_levels_of_a_chain_of_10000_are_drawn() {
        let rows = (1..=10_000).flat_map(|pid| {
            let holds = row(pid, pid.into(), Exclusive, &[]);
            let awaits = row(pid + 1, pid.into(), Exclusive, &[pid]);
            [holds, awaits]
        });
        let graph = WaitGraph::from_rows(rows.collect());
        assert_eq!(graph.depth(10_001), Some(10_000));
        assert_eq!(graph.cycles().len(), 0);
        assert_eq!(graph.to_string().lines().count(), 22);
    }
}
