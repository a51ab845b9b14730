//! A snapshot of all waits: waiters, locks and blockers, as a graph, a tree or a diagram.

mod cycles;
mod diagram;
mod edges;
mod graph;
mod label;
mod lock_tag;
mod node;
mod query;
mod reach;
#[cfg(test)]
mod test_rows;
mod tree;

pub use graph::WaitGraph;
pub use node::{BlockKind, Wait, WaitBlocker, WaitNode};
pub use tree::WaitTree;
