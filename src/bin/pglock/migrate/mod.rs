//! Runs a directory of migrations, prioritized.

mod command;
mod deny;
mod directory;
mod event_line;
mod first_lock;
mod interrupt;
mod list;
mod metadata;
mod plan;
mod plan_interrupt;
mod priority;
mod progress;
mod redo;
mod scratch_database;
mod spare;
mod summary;

pub use command::{MigrateArgs, run};
pub use deny::RULES;
pub use priority::POLICIES;
