//! The works of the table: a new one is a file here, and a line below.

mod advisory_async;
mod advisory_sync;
mod blocked;
mod blocked_count;
mod graph;
mod idle;
mod in_transaction;
mod list;
pub mod memory;
mod migrations;
mod others;
mod support;
mod table_lock;
mod threads;
mod through;

use crate::work::Work;

/// All works, in the order of the table.
pub const ALL: &[Work] = &[
    advisory_sync::WORK,
    advisory_async::WORK,
    in_transaction::WORK,
    threads::WORK,
    table_lock::WORK,
    list::WORK,
    memory::WORK,
    blocked::WORK,
    graph::WORK,
    blocked_count::WORK,
    others::WORK,
    through::WORK,
    migrations::WORK,
    idle::WORK,
];
