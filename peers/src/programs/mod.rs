//! The peers that are programs of their own.

mod django;
mod pgbench;

pub use django::Django;
pub use pgbench::Pgbench;
