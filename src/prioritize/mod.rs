//! Runs code while a watcher signals the sessions that block it.

mod blockers;
mod event;
mod policy;
mod prioritizer;
mod protection;
mod report;
mod signal_log;
mod statement;
#[cfg(feature = "async")]
pub(crate) mod task;
pub(crate) mod thread;
mod wait_chain;
mod watch;

pub use event::PrioritizerEvent;
pub use policy::Policy::{Cancel, CancelThenTerminate, Observe, Terminate};
pub use policy::{Decision, Policy};
pub use prioritizer::{Prioritizer, Victims};
pub use protection::Protection;
pub use report::{Blocker, PrioritizerReport};
