//! A page of a recording of `pglock watch --json`.

mod command;
mod history;
mod html;
mod lanes;
mod page;
mod recording;
mod timeline;
mod tree;

pub use command::{ReportArgs, run};
