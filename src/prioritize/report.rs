//! The report of a run: its blockers, and the signals to them.

use std::fmt;
use std::time::Duration;

use chrono::TimeDelta;

use super::protection::Protection;
use crate::fmt::{backquoted, format_duration, single_line};
use crate::signal::{Signal, SignalOutcome};
use crate::views::{PgActivity, PgLock, PreparedTransaction};

/// A report of a prioritized run: its blockers, and the signals to them.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PrioritizerReport {
    /// Is `true` if the code returned `Ok`, `false` if it returned an error; `None` while it
    /// runs, and after a panic or a dropped future.
    pub succeeded: Option<bool>,
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
    /// The signals whose entries in the signal log could not be written.
    pub unlogged: Vec<Signal>,
}

/// A session or a prepared transaction that blocked the run, directly or through other sessions.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Blocker {
    /// The pid of the session; `None` for a prepared transaction, which cannot be signalled.
    pub pid: Option<i32>,
    /// The prepared transaction, with its name; `None` for a session.
    pub prepared: Option<PreparedTransaction>,
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

impl Blocker {
    /// Returns whether no signal can end the block: it is a prepared transaction or a session that
    /// is spared, or the server has refused the signals.
    #[cfg(feature = "migrations")]
    pub(crate) fn is_unsignallable(&self) -> bool {
        let is_refused = |it: &Signal| {
            use SignalOutcome::{Denied, Unsignallable};
            matches!(it.outcome, Denied(_) | Unsignallable)
        };
        let is_refused = self.signals.iter().any(is_refused) && !self.is_victim();
        self.pid.is_none() || self.protected || is_refused
    }

    /// Returns whether both are the same session, or the same prepared transaction.
    #[cfg(feature = "migrations")]
    pub(crate) fn is_same_session(&self, other: &Self) -> bool {
        let start = |it: &Self| it.activity.as_ref().and_then(|it| it.backend_start);
        let transaction = |it: &Self| it.prepared.as_ref().map(|it| it.transaction_id);
        (self.pid, start(self), transaction(self)) == (other.pid, start(other), transaction(other))
    }
}

/// Formats the blocker as one line for a person to read.
impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.pid, &self.prepared) {
            (Some(pid), _) => write!(f, "pid {pid}")?,
            (None, Some(it)) => {
                write!(f, "prepared transaction {} ({})", it.name(), it.origin())?;
            }
            (None, None) => write!(f, "a prepared transaction")?,
        }
        if let Some(activity) = &self.activity {
            write!(f, " ({})", properties(activity).join(", "))?;
        }
        f.write_str(", blocks ")?;
        // The wait may have ended before its lock was read, or be hidden from this role.
        if self.lock != PgLock::default() {
            let target = single_line(&self.lock.target().to_string(), 120);
            write!(f, "{} on {target} ", self.lock.mode)?;
        }
        write!(f, "for {}", format_duration(to_delta(self.blocked_for)))?;
        for signal in &self.signals {
            let outcome = single_line(&signal.outcome.to_string(), 120);
            write!(f, ": {} {outcome}", signal.kind)?;
        }
        if let Some(protection) = self.protection {
            write!(f, ": spared, {protection}")?;
        }
        if let Some(prepared) = &self.prepared {
            write!(
                f,
                ": no signal ends it; type in its database: {}",
                prepared.rollback_statement()
            )?;
        }
        Ok(())
    }
}

/// Returns the properties of a session that tell a person which one it is, and what it does.
fn properties(activity: &PgActivity) -> Vec<String> {
    let named = |name: &str, value: &Option<String>| {
        let value = value.as_deref().unwrap_or_default();
        (!value.is_empty()).then(|| format!("{name} {}", backquoted(value, 40)))
    };
    let backend_type = activity.backend_type.as_deref();
    let client = activity
        .client_addr
        .map(|address| format!("client {address}"));
    let query = activity.query.as_deref().filter(|query| !query.is_empty());
    let properties = [
        named("application", &activity.application_name),
        named("user", &activity.user),
        named("database", &activity.database),
        client,
        backend_type
            .filter(|it| *it != "client backend")
            .map(str::to_owned),
        activity.state.as_ref().map(ToString::to_string),
        activity
            .transaction_duration
            .map(|it| format!("transaction open for {}", format_duration(it))),
        activity.backend_xid.map(|_| "has written".to_owned()),
        query.map(|query| backquoted(query, 80)),
    ];
    properties.into_iter().flatten().collect()
}

fn to_delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// Formats the report for a person to read: whether the code got through, how long it waited,
/// a line per blocker, and a line per error.
impl fmt::Display for PrioritizerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let outcome = match self.succeeded {
            Some(true) => "succeeded",
            Some(false) => "failed",
            None => "has not ended",
        };
        let waited = format_duration(to_delta(self.waited));
        writeln!(f, "the code {outcome}, and waited {waited} for locks")?;
        if self.blockers.is_empty() {
            writeln!(f, "no session blocked it")?;
        }
        for blocker in &self.blockers {
            writeln!(f, "{blocker}")?;
        }
        for signal in &self.unlogged {
            writeln!(
                f,
                "not in the signal log: {} of pid {}",
                signal.kind, signal.pid
            )?;
        }
        for error in &self.errors {
            writeln!(f, "the watcher failed: {}", single_line(error, 400))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocker(pid: Option<i32>) -> Blocker {
        Blocker {
            pid,
            prepared: None,
            activity: None,
            lock: PgLock::default(),
            blocked_for: Duration::from_secs(1),
            protected: false,
            protection: None,
            signals: Vec::new(),
        }
    }

    #[test]
    fn an_unknown_lock_is_left_out() {
        let line = blocker(Some(7)).to_string();
        assert_eq!(line, "pid 7, blocks for 1.0 s");
        let mut known = blocker(Some(7));
        known.lock.transaction_id = Some(9);
        assert!(known.to_string().starts_with("pid 7, blocks "), "{known}");
        assert_ne!(known.to_string(), line);
    }

    #[test]
    fn the_name_of_a_prepared_transaction_stays_in_its_line() {
        let mut blocker = blocker(None);
        blocker.prepared = Some(PreparedTransaction {
            transaction_id: 9,
            gid: "a\n'b".to_owned(),
            prepared: chrono::DateTime::UNIX_EPOCH,
            duration: TimeDelta::seconds(5),
            owner: "app".to_owned(),
            database: "shop".to_owned(),
        });
        let line = "prepared transaction E'a\\u000a''b' (of app in database shop, prepared 5.0 s ago), \
            blocks for 1.0 s: no signal ends it; type in its database: ROLLBACK PREPARED E'a\\u000a''b'";
        assert_eq!(blocker.to_string(), line);
    }
}
