//! Runs a directory of migrations, prioritized.

mod command;
mod directory;
mod event_line;
mod first_lock;
mod interrupt;
mod list;
mod metadata;
mod priority;
mod progress;
mod redo;
mod spare;
mod summary;

pub use command::{MigrateArgs, run};
