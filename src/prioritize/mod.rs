//! Runs code while a watcher signals the sessions that block it.

mod blockers;
mod current_block;
mod cycle;
mod event;
mod evidence;
mod hard_edges;
#[cfg(feature = "cli")]
mod manual_log;
mod nameless_rows;
mod policy;
mod prepared_blockers;
mod prioritizer;
mod process;
mod protection;
mod report;
mod retention;
mod run_state;
mod seen;
mod server_clock;
mod settings;
mod signal_log;
mod signalling;
mod statement;
mod target;
#[cfg(feature = "async")]
pub(crate) mod task;
pub(crate) mod thread;
mod wait_chain;
mod watch;

#[cfg(all(test, feature = "postgres"))]
mod still_on_path_tests;

pub use event::PrioritizerEvent;
#[cfg(feature = "cli")]
pub use manual_log::{ManualEntry, ManualLog};
pub use policy::Policy::{Cancel, CancelThenTerminate, Observe, Terminate};
pub use policy::{Decision, Policy};
pub use prioritizer::Prioritizer;
pub use protection::Protection;
pub use report::{Blocker, PrioritizerReport};
pub use retention::{DeleteOldSignals, SignalLog, SignalLogQuery};
pub use settings::Victims;
