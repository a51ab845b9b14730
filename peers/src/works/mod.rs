//! The works of the table: a new one is a file here, and a line below.

mod advisory_async;
mod advisory_sync;
mod blocked;
mod blocked_count;
mod graph;
mod idle;
mod in_transaction;
mod list;
mod migrations;
mod support;

use crate::work::Work;

/// All works, in the order of the table.
pub const ALL: &[Work] = &[
    advisory_sync::WORK,
    advisory_async::WORK,
    in_transaction::WORK,
    list::WORK,
    blocked::WORK,
    graph::WORK,
    blocked_count::WORK,
    migrations::WORK,
    idle::WORK,
];
