//! The options by which `pglock migrate` prioritizes migrations.

use std::time::Duration;

use clap::{Args, ValueEnum};
use diesel::PgConnection;
use diesel_pglock::{IndexRepair, Policy, PrioritizedHarness, Prioritizer, Victims};

use super::first_lock::FirstLock;
use super::spare::Spare;
use crate::duration::parse_duration;

/// The options of the prioritizer and the harness.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Priority")]
pub struct PriorityArgs {
    /// Polls for blockers at this interval; at least 10ms
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = parse_interval)]
    interval: Duration,
    /// Signals a session once it has blocked the migration for this long
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    grace: Duration,
    /// Signals blockers by `terminate`, `cancel` or `cancel-then-terminate[:DURATION]`, or only
    /// shows them with `observe`
    #[arg(long, value_name = "POLICY", default_value = "terminate", value_parser = parse_policy)]
    policy: Policy,
    /// Shows the sessions that would be signalled, and signals none; short for `--policy observe`
    #[arg(long, conflicts_with = "policy")]
    observe: bool,
    /// Signals the root blockers, or all direct blockers
    #[arg(long, value_enum, default_value_t = VictimSelection::Roots)]
    victims: VictimSelection,
    /// Never signals sessions that match, such as `activity.application~billing`; may be repeated.
    /// Fields and operators are those of `--filter`
    #[arg(long, value_name = "FIELD~VALUE")]
    spare: Vec<Spare>,
    /// Signals in a single poll only
    #[arg(long)]
    once: bool,
    /// Signals at most this number of sessions for each migration
    #[arg(long, value_name = "NUMBER")]
    max_victims: Option<usize>,
    /// Limits how long a statement may wait for a lock, or `none`; then the migration is tried again
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = Limit::parse_timeout)]
    lock_timeout: Limit,
    /// Limits the duration of each statement, or `none`; default: the session's own limit
    #[arg(long, value_name = "DURATION", value_parser = Limit::parse_timeout)]
    statement_timeout: Option<Limit>,
    /// Repairs the invalid indexes that a migration outside a transaction leaves when it fails,
    /// and tries it again after a lock failure
    #[arg(long, value_enum, value_name = "REPAIR")]
    repair_indexes: Option<Repair>,
    /// Locks a table before the statements of each migration; several tables together or not at
    /// all; default mode: ACCESS EXCLUSIVE
    #[arg(long, value_name = "TABLE[:MODE]")]
    lock_first: Vec<FirstLock>,
    /// Limits the attempts at a migration that fails because of a lock
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// Limits the wait for another instance, or `none`
    #[arg(long, value_name = "DURATION", default_value = "10min", value_parser = Limit::parse)]
    wait_for_instances: Limit,
    /// Records each signal in the table `pglock.signal_log`, which must exist
    #[arg(long)]
    audit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum VictimSelection {
    /// Blockers that do not wait themselves
    Roots,
    /// All direct blockers
    All,
}

/// A limit; `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit(pub Option<Duration>);

impl Limit {
    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "none" => Ok(Self(None)),
            text => Ok(Self(Some(parse_duration(text)?))),
        }
    }

    /// Parses a limit in the range of the server's timeouts.
    pub fn parse_timeout(text: &str) -> Result<Self, String> {
        let limit = Self::parse(text)?;
        let most = Duration::from_millis(i32::MAX as u64);
        let range = Duration::from_millis(1)..=most;
        if limit.0.is_none_or(|timeout| range.contains(&timeout)) {
            Ok(limit)
        } else {
            Err(format!(
                "a timeout is between 1ms and {}ms, or `none`",
                i32::MAX
            ))
        }
    }
}

/// Parses the interval, which has a minimum: each poll of a blocked migration reads the server's
/// lock table.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval >= Duration::from_millis(10) {
        Ok(interval)
    } else {
        Err("an interval is at least 10ms".to_owned())
    }
}

/// The policies, without the duration that one of them may have.
pub const POLICIES: [&str; 4] = ["terminate", "cancel", "cancel-then-terminate", "observe"];

fn parse_policy(text: &str) -> Result<Policy, String> {
    let (name, after) = match text.split_once(':') {
        Some((name, after)) => (name, Some(parse_duration(after)?)),
        None => (text, None),
    };
    match (name, after) {
        ("terminate", None) => Ok(Policy::Terminate),
        ("cancel", None) => Ok(Policy::Cancel),
        ("observe", None) => Ok(Policy::Observe),
        ("cancel-then-terminate", after) => Ok(Policy::CancelThenTerminate {
            after: after.unwrap_or(Duration::from_secs(1)),
        }),
        _ => Err(format!(
            "`{text}` is not a policy; write terminate, cancel, cancel-then-terminate[:DURATION] or observe"
        )),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Repair {
    /// Drops the index
    Drop,
    /// Rebuilds the index, for migrations with IF NOT EXISTS
    Reindex,
}

impl From<Repair> for IndexRepair {
    fn from(repair: Repair) -> Self {
        match repair {
            Repair::Drop => Self::Drop,
            Repair::Reindex => Self::Reindex,
        }
    }
}

impl From<VictimSelection> for Victims {
    fn from(selection: VictimSelection) -> Self {
        match selection {
            VictimSelection::Roots => Self::Roots,
            VictimSelection::All => Self::All,
        }
    }
}

impl PriorityArgs {
    /// Returns a prioritizer whose watcher connects to this URL.
    pub fn prioritizer(&self, source: String) -> Prioritizer<String> {
        let mut prioritizer = Prioritizer::new(source)
            .interval(self.interval)
            .grace(self.grace)
            .policy(self.policy())
            .victims(self.victims.into())
            .audit(self.audit);
        for spare in self.spare.clone() {
            prioritizer = prioritizer.spare(move |activity| spare.selects(activity));
        }
        if self.once {
            prioritizer = prioritizer.once();
        }
        match self.max_victims {
            Some(most) => prioritizer.max_victims(most),
            None => prioritizer,
        }
    }

    fn policy(&self) -> Policy {
        if self.observe {
            Policy::Observe
        } else {
            self.policy.clone()
        }
    }

    /// Applies the options of the harness.
    pub fn harness<'c>(
        &self,
        harness: PrioritizedHarness<'c, PgConnection, String>,
    ) -> PrioritizedHarness<'c, PgConnection, String> {
        let mut harness = harness
            .lock_timeout(self.lock_timeout.0)
            .attempts(self.attempts)
            .wait_for_instances(self.wait_for_instances.0);
        if let Some(timeout) = self.statement_timeout {
            harness = harness.statement_timeout(timeout.0);
        }
        if let Some(repair) = self.repair_indexes {
            harness = harness.repair_indexes(repair.into());
        }
        for lock in &self.lock_first {
            harness = harness.lock_first_named([lock.table()], lock.mode());
        }
        harness
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_parsed() {
        let parse = |text| parse_policy(text).map(|policy| format!("{policy:?}"));
        assert_eq!(parse("terminate"), Ok("Terminate".to_owned()));
        assert_eq!(
            parse("cancel-then-terminate:3s"),
            Ok("CancelThenTerminate(3s)".to_owned())
        );
        assert!(POLICIES.iter().all(|name| parse(name).is_ok()));
        assert!(parse("kill").is_err());
        assert!(parse("cancel:3s").is_err());
    }

    #[test]
    fn an_interval_below_10_ms_is_refused() {
        assert!(parse_interval("0s").is_err());
        assert!(parse_interval("10ms").is_ok());
    }

    #[test]
    fn a_timeout_is_in_the_range_of_the_server() {
        assert_eq!(Limit::parse_timeout("none"), Ok(Limit(None)));
        assert!(Limit::parse_timeout("0s").is_err());
        assert!(Limit::parse_timeout("30d").is_err());
        assert!(Limit::parse_timeout("2s").is_ok());
    }
}
