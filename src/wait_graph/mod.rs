//! A snapshot of all waits: waiters, locks and blockers, as a graph, a tree or a diagram.

mod blocks;
mod cycles;
mod diagram;
mod edges;
mod episode;
mod episode_attributes;
mod episode_event;
mod episode_parts;
#[cfg(test)]
mod episode_tests;
mod episode_tracker;
mod graph;
mod label;
mod lock_tag;
mod node;
mod query;
mod reach;
#[cfg(test)]
mod test_rows;
mod tree;

pub use episode::{Episode, EpisodePeak, EpisodeVictim};
pub use episode_attributes::EpisodeAttributes;
pub use episode_event::EpisodeEvent;
pub use episode_tracker::EpisodeTracker;
pub use graph::WaitGraph;
pub use node::{BlockKind, Wait, WaitBlocker, WaitNode};
pub use tree::WaitTree;
