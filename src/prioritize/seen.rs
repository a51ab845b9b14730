//! What a poll has seen, as long as it goes on.

use std::time::{Duration, Instant};

use super::process::ReadEdges;
use super::target::{Target, Waits};
use super::wait_chain::{Edges, sorted};
use crate::error::Result;
use crate::session::Driver;

/// The locks are read for a hundredth of the time, or once a second.
const SHARE: u32 = 100;
const MOST: Duration = Duration::from_secs(1);

/// The waits that a poll has read, and its targets.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) targets: Vec<Target>,
    edges: Edges,
    /// The time of the next read; `None` if the waits cannot be known again without their locks.
    next_read: Option<Instant>,
}

impl Seen {
    /// Returns what a read has seen that began at `began`.
    pub(super) fn new(waits: &Waits, targets: &[Target], began: Instant) -> Self {
        let pause = (began.elapsed() * SHARE).min(MOST);
        Self {
            targets: targets.to_vec(),
            edges: waits.edges(),
            next_read: waits.are_dated().then(|| Instant::now() + pause),
        }
    }

    /// Returns whether the same sessions still wait for the same blockers.
    pub(super) async fn goes_on(&self, driver: &mut impl Driver, prioritized: i32) -> Result<bool> {
        if self.next_read.is_none_or(|next| Instant::now() >= next) {
            return Ok(false);
        }
        type Columns = <ReadEdges as diesel::query_builder::Query>::SqlType;
        let edges = driver.load::<_, Columns, (i32, Vec<i32>)>(ReadEdges { prioritized });
        Ok(sorted(edges.await?) == self.edges)
    }
}
