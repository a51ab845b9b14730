//! The integration tests: one binary, a module per subject, against a real server.

// The scenarios of the contract run on sync connections and on async ones.
#![allow(clippy::duplicate_mod)]

mod actions;
mod advisory_guard;
#[cfg(feature = "async")]
mod async_contract;
#[cfg(feature = "bb8")]
mod async_monitored;
#[cfg(all(feature = "bb8", feature = "deadpool", feature = "mobc"))]
mod async_pools;
#[cfg(all(feature = "bb8", feature = "deadpool", feature = "mobc"))]
mod async_prioritize;
#[cfg(feature = "bb8")]
mod cancel_safety;
#[cfg(feature = "cli")]
mod command;
mod compile_fail;
mod encodings;
mod filters;
#[cfg(feature = "async")]
mod future_size;
mod german;
#[cfg(feature = "migrations")]
mod hostile_operators;
mod language;
mod layout;
#[cfg(feature = "migrations")]
mod migrations;
mod monitored;
#[cfg(all(
    feature = "r2d2",
    feature = "bb8",
    feature = "deadpool",
    feature = "mobc"
))]
mod owned_guard;
mod pgbouncer;
mod prioritize;
#[cfg(all(
    feature = "r2d2",
    feature = "bb8",
    feature = "deadpool",
    feature = "mobc"
))]
mod soak;
#[cfg(all(feature = "r2d2", feature = "bb8"))]
mod standby;
mod stress;
mod support;
mod sync_contract;
#[cfg(feature = "r2d2")]
mod sync_pool;
#[cfg(all(feature = "tracing", feature = "migrations"))]
mod tracing_events;
mod views;
mod wait_graph;
