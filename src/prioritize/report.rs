use std::fmt;
use std::time::Duration;

use super::protection::Protection;
use crate::fmt::backquoted;
use crate::signal::{Signal, SignalOutcome};
use crate::views::{PgActivity, PgLock};

/// What a prioritized run found in its way and did about it.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PrioritizerReport {
    /// The sessions in the way, in the order they were found: an entry per session, however
    /// often it blocked.
    pub blockers: Vec<Blocker>,
    /// What went wrong with the watcher, once in a row; none of it fails the run.
    pub errors: Vec<String>,
    /// How long the run waited for locks, to within the watcher's interval.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub waited: Duration,
    /// How often the watcher looked.
    pub looks: u64,
}

/// A session that was in the way.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Blocker {
    /// The session; `None` for a prepared transaction, which cannot be signalled.
    pub pid: Option<i32>,
    /// Who it is and what it did, as seen last.
    pub activity: Option<PgActivity>,
    /// The lock that it kept somebody waiting for: us, or a session that blocked us. In the
    /// report, that of its longest block; in an event, that of the present one.
    pub lock: PgLock,
    /// How long it was in the way, as the watcher saw it: its longest block in the report,
    /// the present one in an event.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub blocked_for: Duration,
    /// Whether it is spared whatever the policy says: whether there is a `protection`.
    pub protected: bool,
    /// Why it is spared whatever the policy says, as seen last.
    pub protection: Option<Protection>,
    /// What was sent, and what came of it; what came of it several times is here once.
    pub signals: Vec<Signal>,
}

impl PrioritizerReport {
    /// Those that were sent a signal.
    pub fn victims(&self) -> impl Iterator<Item = &Blocker> {
        self.blockers.iter().filter(|blocker| blocker.is_victim())
    }
}

impl Blocker {
    /// Whether it was sent a signal.
    pub fn is_victim(&self) -> bool {
        let sent = |signal: &Signal| matches!(signal.outcome, SignalOutcome::Sent);
        self.signals.iter().any(sent)
    }
}

/// A line for a person to read.
impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "pid {pid}")?,
            None => write!(f, "a prepared transaction")?,
        }
        if let Some(activity) = &self.activity {
            describe(activity, f)?;
        }
        write!(
            f,
            ", in the way of {} for {} ms",
            self.lock.mode,
            self.blocked_for.as_millis()
        )?;
        if let Some(relation) = &self.lock.relation {
            write!(f, " on `{relation}`")?;
        }
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

/// A line per session in the way, and per error.
impl fmt::Display for PrioritizerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.blockers.is_empty() {
            writeln!(f, "nobody was in the way")?;
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
