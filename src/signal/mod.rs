//! Signals to sessions: one statement per pid, one outcome per pid.
//!
//! The statement that sends a signal checks what justified it once more.

pub(crate) mod action;
mod block;
mod mark;
mod statement;
mod types;

pub(crate) use action::{ActivityColumns, BlockingColumns, SessionQuery, to_activity, to_blocking};
pub(crate) use block::{AWAITED, Block, WAIT_START, Wait};
pub(crate) use mark::{IS_MARK, Unmark, walk_mark};
pub(crate) use statement::{HAS_SYNCHRONOUS_STANDBY, Precondition, SendSignal};
pub use types::{Signal, SignalKind, SignalOutcome};
