//! Signals the listed sessions, after a question.

mod action;
mod request;
mod victims;

pub use action::ActionArgs;
pub use request::{DECLINED, SignalRequest};
pub use victims::Victim;
