//! The [`WaitGraph`] as a diagram, in the languages of Graphviz and Mermaid.

use std::fmt::Write as _;

use super::graph::WaitGraph;
use super::label::headline;
use super::node::{BlockKind, WaitBlocker, WaitId, WaitNode};

impl WaitGraph {
    /// Draws the graph in the language of [Graphviz](https://graphviz.org); arrows lead from waiters to blockers.
    ///
    /// A solid arrow leads to a hard blocker, a dashed arrow to a soft one. The soft blockers
    /// of a waiter are drawn only if it has no hard blocker, since a queue of n waiters has
    /// up to n × (n - 1) / 2 of them.
    pub fn to_dot(&self) -> String {
        let nodes =
            self.draw_nodes(|id, label| format!("  {id} [label=\"{}\"];", escape_dot(label)));
        let arrows = self.draw_arrows(|from, to, kind| {
            let style = match kind {
                BlockKind::Hard => "solid",
                BlockKind::Soft => "dashed",
            };
            format!("  {from} -> {to} [style={style}];")
        });
        format!("digraph waits {{\n  node [shape=box];\n{nodes}{arrows}}}\n")
    }

    /// Draws the graph in the language of [Mermaid](https://mermaid.js.org), with the arrows of [`to_dot`](Self::to_dot).
    pub fn to_mermaid(&self) -> String {
        let nodes = self.draw_nodes(|id, label| format!("  {id}[\"{}\"]", escape_mermaid(label)));
        let arrows = self.draw_arrows(|from, to, kind| {
            let arrow = match kind {
                BlockKind::Hard => "-->",
                BlockKind::Soft => "-.->",
            };
            format!("  {from} {arrow} {to}")
        });
        format!("flowchart LR\n{nodes}{arrows}")
    }

    /// Returns a line per node, from its identifier and its label.
    fn draw_nodes(&self, draw: impl Fn(&str, &str) -> String) -> String {
        let line = |node: &WaitNode| draw(&self.identifier(&node.id), &headline(node)) + "\n";
        self.nodes().map(line).collect()
    }

    /// Returns a line per arrow, from its two identifiers and its kind.
    fn draw_arrows(&self, draw: impl Fn(&str, &str, BlockKind) -> String) -> String {
        let mut arrows = String::new();
        for node in self.nodes() {
            let from = self.identifier(&node.id);
            for blocker in nearest_blockers(node) {
                arrows += &draw(&from, &self.identifier(&blocker.id), blocker.kind);
                arrows.push('\n');
            }
        }
        arrows
    }

    /// Returns an identifier of letters and digits, which needs no quotes in either language.
    fn identifier(&self, id: &WaitId) -> String {
        match id.pid() {
            Some(pid) => format!("p{pid}"),
            None => format!(
                "x{}",
                self.nodes().take_while(|node| node.id != *id).count()
            ),
        }
    }
}

/// Returns the hard blockers, or else the soft ones.
fn nearest_blockers(node: &WaitNode) -> impl Iterator<Item = &WaitBlocker> {
    let kind = node.blockers().first().map(|first| first.kind);
    let is_nearest = move |blocker: &&WaitBlocker| Some(blocker.kind) == kind;
    node.blockers().iter().filter(is_nearest)
}

fn escape_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Escapes all but the plainest characters as `#` and their number, which Mermaid decodes.
fn escape_mermaid(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '.' | ',' | '_' | '-' => escaped.push(c),
            other => {
                // Writing to a String does not fail.
                let _ = write!(escaped, "#{};", u32::from(other));
            }
        }
    }
    escaped
}
