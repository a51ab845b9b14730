//! A snapshot of all waits: waiters, locks and blockers, as a graph, a tree or a diagram.

mod diagram;
mod edges;
mod graph;
mod node;
mod query;
mod tree;

pub use graph::WaitGraph;
pub use node::{BlockKind, Wait, WaitBlocker, WaitNode};
