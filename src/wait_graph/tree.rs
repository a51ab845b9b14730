//! The [`WaitGraph`] as an indented tree.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::graph::WaitGraph;
use super::label::{line, name};
use super::node::{WaitId, WaitNode};
use crate::views::PgActivity;

/// The number of waiters that `Display` draws below one session, at most.
const MAX_CHILDREN: usize = 20;

/// The greatest indent, in characters. Each level takes three, so this is twenty levels.
const MAX_INDENT: usize = 20 * 3;

/// Draws a tree for a terminal: the roots, the most harmful first, and below each node its waiters.
///
/// Each waiter is drawn once: below its first hard blocker, or else below its first soft
/// blocker. Its other holders are named. Below one session, and from one level to the next, 20 nodes are drawn; the rest
/// is counted. Queries are cut to 60 characters on one line, without control characters.
impl fmt::Display for WaitGraph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_tree(MAX_CHILDREN, f)
    }
}

/// The tree of a graph, as `Display`: the result of [`WaitGraph::tree`].
#[derive(Clone, Copy, Debug)]
pub struct WaitTree<'g> {
    graph: &'g WaitGraph,
    max_children: usize,
}

impl fmt::Display for WaitTree<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.graph.write_tree(self.max_children, f)
    }
}

impl WaitGraph {
    /// Draws the tree of `Display`, with at most `max_children` waiters below one session.
    ///
    /// The rest is counted. With few waiters, all roots fit a small screen.
    pub fn tree(&self, max_children: usize) -> WaitTree<'_> {
        WaitTree {
            graph: self,
            max_children,
        }
    }

    fn write_tree(&self, max_children: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(f, "no session waits for a lock");
        }
        let tree = Tree::of(self, max_children);
        let mut drawn = BTreeSet::new();
        let is_unknown = |node: &&WaitNode| node.wait.is_some() && node.blockers().is_empty();
        let roots = self.worst_roots().into_iter().map(|(root, _)| root);
        for root in roots.chain(self.nodes().filter(is_unknown)) {
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
    max_children: usize,
    /// The number of sessions that each root blocks.
    counts: BTreeMap<&'g WaitId, usize>,
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
    fn of(graph: &'g WaitGraph, max_children: usize) -> Self {
        let mut children = BTreeMap::<_, Vec<&WaitNode>>::new();
        for node in graph.nodes() {
            if let Some(parent) = node.parent() {
                children.entry(parent).or_default().push(node);
            }
        }
        let counts = graph.worst_roots().into_iter();
        let counts = counts.map(|(root, count)| (&root.id, count)).collect();
        let mut tree = Self {
            children,
            max_children,
            counts,
        };
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
                    writeln!(f, "{}", line(node, self.counts.get(&node.id).copied()))?;
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
        let room = if is_deep { 0 } else { self.max_children };
        let drawn = waiters.iter().take(room).map(|node| Item::Node(node));
        let more = waiters.len().saturating_sub(room);
        drawn
            .chain((more > 0).then_some(Item::More(more)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::types::LockMode::{Exclusive, Share};
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
        assert!(
            text.starts_with("1, blocks 500\n├─ 2 waits for ExclusiveLock on advisory lock 7\n")
        );
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

    #[test]
    fn every_root_of_a_waiter_is_named_and_the_worst_comes_first() {
        let readers = (1..=6).map(|pid| row(pid, 7, Share, &[]));
        let rows = readers.chain([
            row(9, 8, Exclusive, &[]),
            row(10, 7, Exclusive, &[1, 2, 3, 4, 5, 6]),
            row(11, 8, Exclusive, &[9]),
            row(12, 8, Exclusive, &[9, 11]),
        ]);
        let text = WaitGraph::from_rows(rows.collect()).to_string();
        let tops: Vec<&str> = text.lines().filter(|it| !it.contains('─')).collect();
        assert_eq!(tops[0], "9, blocks 2");
        for (line, pid) in tops[1..].iter().zip(1..=6) {
            assert_eq!(*line, format!("{pid}, blocks 1"));
        }
        let holders =
            "10 waits for ExclusiveLock on advisory lock 7, also held by 2, 3, 4, 5 and 1 more";
        assert!(text.contains(holders), "{text}");
    }
}
