//! Plans pending migrations: what each statement would lock, rewrite and block.
//!
//! The statements run on a scratch database, where each shows its locks. The real database is only
//! read: for the sizes of the tables, and the sessions that would block or be blocked.

#[cfg(feature = "cli")]
mod cluster_wide;
mod display;
mod identity;
mod migration_plan;
mod observer;
mod planner;
mod real_database;
mod relations;
mod scratch;
mod tracer;

#[cfg(feature = "cli")]
pub use cluster_wide::cluster_wide_statement;
pub use migration_plan::{
    MigrationPlan, NotPlanned, PlannedIndex, PlannedLock, PlannedMigration, PlannedRelation,
    PlannedStatement,
};
