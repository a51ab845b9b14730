//! The peers that are programs of their own.

mod pgbench;

pub use pgbench::Pgbench;
