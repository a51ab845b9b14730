//! The [`WaitGraph`] as a diagram.

use std::fmt::Write as _;

use super::graph::WaitGraph;
use super::node::WaitId;
use super::node::{BlockKind, WaitBlocker, WaitNode};
use super::tree::headline;

impl WaitGraph {
    /// Draws the graph in [Graphviz](https://graphviz.org)' language; an arrow leads from who waits to who is in its way.
    ///
    /// A dashed arrow means: came first in the queue. Such arrows are left out where
    /// somebody holds the lock, for they are as many as half the square of a queue.
    pub fn to_dot(&self) -> String {
        let mut dot = String::from("digraph waits {\n  node [shape=box];\n");
        let ids = self.ids();
        for (node, id) in &ids {
            // Writing to a String does not fail.
            let _ = writeln!(dot, "  {id} [label=\"{}\"];", escape_dot(&headline(node)));
        }
        for (node, id) in &ids {
            for blocker in direct(node) {
                let to = identifier(&blocker.id, self);
                let style = match blocker.kind {
                    BlockKind::Hard => "solid",
                    BlockKind::Soft => "dashed",
                };
                let _ = writeln!(dot, "  {id} -> {to} [style={style}];");
            }
        }
        dot.push_str("}\n");
        dot
    }

    /// Draws the graph in [Mermaid](https://mermaid.js.org)'s language, as [`to_dot`](Self::to_dot) does.
    pub fn to_mermaid(&self) -> String {
        let mut mermaid = String::from("flowchart LR\n");
        let ids = self.ids();
        for (node, id) in &ids {
            let _ = writeln!(mermaid, "  {id}[\"{}\"]", escape_mermaid(&headline(node)));
        }
        for (node, id) in &ids {
            for blocker in direct(node) {
                let to = identifier(&blocker.id, self);
                let arrow = match blocker.kind {
                    BlockKind::Hard => "-->",
                    BlockKind::Soft => "-.->",
                };
                let _ = writeln!(mermaid, "  {id} {arrow} {to}");
            }
        }
        mermaid
    }

    fn ids(&self) -> Vec<(&WaitNode, String)> {
        let id = |node: &WaitNode| identifier(&node.id, self);
        self.nodes().map(|node| (node, id(node))).collect()
    }
}

/// Those who hold the lock, or else those before it in the queue.
fn direct(node: &WaitNode) -> impl Iterator<Item = &WaitBlocker> {
    let kind = node.blockers().first().map(|first| first.kind);
    let direct = move |it: &&WaitBlocker| Some(it.kind) == kind;
    node.blockers().iter().filter(direct)
}

/// A name made of letters and digits alone, so that none given by a user has to be.
fn identifier(id: &WaitId, graph: &WaitGraph) -> String {
    match id.pid() {
        Some(pid) => format!("p{pid}"),
        None => format!(
            "x{}",
            graph.nodes().take_while(|node| node.id != *id).count()
        ),
    }
}

fn escape_dot(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// Mermaid takes `#` and a number for a character; anything but the plainest is written so.
fn escape_mermaid(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | ' ' | '.' | ',' | '_' | '-' => escaped.push(c),
            other => {
                let _ = write!(escaped, "#{};", u32::from(other));
            }
        }
    }
    escaped
}
