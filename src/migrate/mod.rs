//! Prioritized migrations: one instance at a time, with timeouts, retries and a report.

mod applied_migrations;
mod apply;
mod attempt;
mod attempt_extent;
mod backoff;
mod connection_check;
mod deadlock_count;
mod distinct;
mod embedded;
mod event;
mod harness;
mod history;
mod history_statement;
mod instance_wait;
mod limits;
mod lock_recorder;
mod lock_timeout;
mod lock_timeout_cap;
mod lock_timeout_text;
mod locks_first;
mod migration_harness;
mod migration_lock;
mod options;
mod read_history;
mod report;
mod retry;
mod run;
mod settings;
mod watched;

pub use backoff::Backoff;
pub use embedded::MIGRATIONS;
pub use event::MigrationEvent;
pub use harness::PrioritizedHarness;
pub use instance_wait::InstanceWait;
pub use options::MigrationOptions;
pub use report::{HarnessReport, MigrationReport, TakenLock};
