//! Prioritized migrations: one instance at a time, with timeouts, retries and a report.

mod applied_migrations;
mod apply;
#[cfg(feature = "async")]
mod async_harness;
#[cfg(feature = "async")]
mod async_run;
mod attempt;
mod attempt_extent;
mod attempt_start;
mod backoff;
mod connection_check;
mod deadlock_count;
mod distinct;
mod embedded;
mod event;
mod harness;
mod harness_options;
mod history;
mod history_statement;
mod identifier;
mod index_progress;
mod instance_wait;
mod invalid_index;
mod limits;
mod lock_recorder;
mod lock_timeout;
mod lock_timeout_text;
mod locks_first;
mod migration_harness;
mod migration_lock;
mod options;
mod outside_transaction;
mod own_locks;
mod plan;
mod progress_reader;
mod read_history;
mod report;
mod retry;
mod run;
mod settings;
mod sql_splitter;
mod unsignallable;
mod watched;

#[cfg(feature = "async")]
pub use async_harness::AsyncPrioritizedHarness;
pub use backoff::Backoff;
pub use embedded::MIGRATIONS;
pub use event::MigrationEvent;
pub use harness::PrioritizedHarness;
pub use index_progress::MigrationProgress;
pub use instance_wait::InstanceWait;
pub use invalid_index::{IndexRepair, InvalidIndex};
pub use options::MigrationOptions;
#[cfg(feature = "cli")]
pub use plan::cluster_wide_statement;
pub use plan::{
    MigrationPlan, NotPlanned, PlannedIndex, PlannedLock, PlannedMigration, PlannedRelation,
    PlannedStatement,
};
pub use report::{HarnessReport, MigrationReport, TakenLock};
