//! A command that runs while a lock is held, as flock(1) runs one while a file is locked.

mod child;
mod command;
mod exec;

pub use command::{RunArgs, run};
pub use exec::become_command;
