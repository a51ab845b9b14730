//! Migrations that one instance at a time runs, prioritized, with timeouts, retries and a report.

mod attempt_extent;
mod backoff;
mod deadlock_count;
mod embedded;
mod event;
mod harness;
mod history;
mod lock_timeout_text;
mod report;
mod retry;
mod run;

pub use backoff::Backoff;
pub use embedded::MIGRATIONS;
pub use event::MigrationEvent;
pub use harness::PrioritizedHarness;
pub use report::{HarnessReport, MigrationReport, TakenLock};
