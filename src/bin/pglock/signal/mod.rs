//! Signals the listed sessions, after a question.

mod action;
mod proof;
mod request;
mod victims;

pub use action::{ActionArgs, VERIFY};
pub use request::{DECLINED, SignalRequest};
pub use victims::Victim;
