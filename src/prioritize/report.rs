//! The report of a run: its blockers, and the signals to them.

use std::fmt;
use std::time::Duration;

use super::protection::Protection;
use crate::fmt::backquoted;
use crate::signal::{Signal, SignalOutcome};
use crate::views::{PgActivity, PgLock};

/// A report of a prioritized run: its blockers, and the signals to them.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PrioritizerReport {
    /// The blockers, in the order in which they were found. A session has one entry, however
    /// often it blocked.
    pub blockers: Vec<Blocker>,
    /// The errors of the watcher, without repetitions in a row. They do not fail the run.
    pub errors: Vec<String>,
    /// The time for which the run waited for locks, as exact as the watcher's interval.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub waited: Duration,
    /// The number of polls.
    pub polls: u64,
}

/// A session that blocked the run, directly or through other sessions.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Blocker {
    /// The pid of the session; `None` for a prepared transaction, which cannot be signalled.
    pub pid: Option<i32>,
    /// The activity of the session at the last poll that found it.
    pub activity: Option<PgActivity>,
    /// The lock for which the blocked session waited: the prioritized session, or one that
    /// blocked it. In the report, the lock of the longest block; in an event, of the present one.
    pub lock: PgLock,
    /// The time for which the session blocked, as the polls found it. In the report, the
    /// longest block; in an event, the present one.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub blocked_for: Duration,
    /// Is `true` if the session is always spared, for the reason in `protection`.
    pub protected: bool,
    /// The reason why the session is always spared, at the last poll that found it.
    pub protection: Option<Protection>,
    /// The signals and their outcomes. The same outcome of the same signal is listed once.
    pub signals: Vec<Signal>,
}

impl PrioritizerReport {
    /// Returns the blockers that were signalled.
    pub fn victims(&self) -> impl Iterator<Item = &Blocker> {
        self.blockers.iter().filter(|blocker| blocker.is_victim())
    }
}

impl Blocker {
    /// Returns whether the session was signalled.
    pub fn is_victim(&self) -> bool {
        let sent = |signal: &Signal| matches!(signal.outcome, SignalOutcome::Sent);
        self.signals.iter().any(sent)
    }
}

/// Formats the blocker as one line for a person to read.
impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}")?,
            None => write!(f, "a prepared transaction")?,
        }
        if let Some(activity) = &self.activity {
            describe(activity, f)?;
        }
        write!(f, ", blocks {}", self.lock.mode)?;
        if let Some(relation) = &self.lock.relation {
            write!(f, " on `{relation}`")?;
        }
        write!(f, " for {} ms", self.blocked_for.as_millis())?;
        if let Some(protection) = self.protection {
            write!(f, ": spared, {protection}")?;
        }
        for signal in &self.signals {
            write!(f, ": {} {}", signal.kind, signal.outcome)?;
        }
        Ok(())
    }
}

fn describe(activity: &PgActivity, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let application = activity.application_name.as_deref().unwrap_or_default();
    write!(f, " (application {}", backquoted(application, 40))?;
    if let Some(state) = &activity.state {
        write!(f, ", {state}")?;
    }
    if let Some(query) = &activity.query {
        write!(f, ", {}", backquoted(query, 80))?;
    }
    f.write_str(")")
}

/// Formats the report with a line per blocker, and per error.
impl fmt::Display for PrioritizerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blockers.is_empty() {
            writeln!(f, "no session blocked the run")?;
        }
        for blocker in &self.blockers {
            writeln!(f, "{blocker}")?;
        }
        for error in &self.errors {
            writeln!(f, "the watcher failed: {error}")?;
        }
        Ok(())
    }
}
