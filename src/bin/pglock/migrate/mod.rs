//! Runs a directory of migrations, prioritized.

mod command;
mod interrupt;
mod priority;
mod progress;

pub use command::{MigrateArgs, run};
