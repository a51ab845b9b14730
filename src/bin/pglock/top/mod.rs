//! The live view.

mod command;
mod feed;
mod state;
mod view;

pub use command::{TopArgs, run};
