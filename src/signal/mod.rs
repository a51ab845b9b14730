//! Sends signals to sessions: one statement per pid, one outcome per pid.
//!
//! The statement that sends a signal checks its reason again. It and the statements that find a
//! blocker call the functions below the views: a view waits while a session locks a catalog, and
//! `VACUUM FULL pg_class` must not stop the watcher.

mod action;
mod block;
#[cfg(feature = "cli")]
mod by_hand;
mod mark;
mod precondition;
mod send;
mod session_query;
mod statement;
mod types;
mod wait_path;

pub(crate) use action::{to_activity, to_blocking};
pub(crate) use block::{AWAITED, Block, OBJECT, WAIT_START, Wait};
#[cfg(feature = "cli")]
pub use by_hand::{SignalTarget, activities_without_names};
pub(crate) use mark::{IS_MARK, walk_mark, walk_unmark};
pub(crate) use precondition::{
    CONCURRENT_INDEXES, HAS_SYNCHRONOUS_STANDBY, PG_DUMP, Precondition, StillOnPath,
};
pub(crate) use send::send;
pub(crate) use session_query::{ActivityColumns, BlockingColumns, SessionQuery};
pub(crate) use statement::SendSignal;
pub use types::{Signal, SignalKind, SignalOutcome};
pub(crate) use wait_path::WaitPath;
