//! The integration tests: one binary, a module per subject, against a real server.

mod actions;
mod advisory;
#[cfg(feature = "async")]
mod async_locks;
#[cfg(all(feature = "bb8", feature = "deadpool", feature = "mobc"))]
mod async_prioritize;
#[cfg(feature = "cli")]
mod command;
mod filters;
mod lock_timeout;
#[cfg(feature = "migrations")]
mod migrations;
mod prioritize;
mod support;
mod table_lock;
mod views;
mod wait_graph;
