//! The live view.

mod command;
mod feed;
mod session;
mod state;
mod view;

pub use command::{TopArgs, run};
