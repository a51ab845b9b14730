//! How migrations are let through: all that a prioritizer can be told.

use std::time::Duration;

use clap::{Args, ValueEnum};
use diesel::PgConnection;
use diesel_pglock::{Policy, PrioritizedHarness, Prioritizer, Victims};

use crate::duration::parse_duration as parse_span;

/// Who is moved out of the way, when and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Priority")]
pub struct PriorityArgs {
    /// How often to look who is in the way
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = parse_interval)]
    interval: Duration,
    /// How long somebody may be in the way before being signalled
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_span)]
    grace: Duration,
    /// What is done then: `terminate`, `cancel`, `cancel-then-terminate[:DURATION]`, `observe`
    #[arg(long, value_name = "POLICY", default_value = "terminate", value_parser = parse_policy)]
    policy: Policy,
    /// Only looks; short for `--policy observe`
    #[arg(long, conflicts_with = "policy")]
    observe: bool,
    /// Who is moved: those at the root, or whoever is directly in the way
    #[arg(long, value_enum, default_value_t = Whom::Roots)]
    victims: Whom,
    /// Signals at one look only
    #[arg(long)]
    once: bool,
    /// Signals no more than so many sessions for each migration
    #[arg(long, value_name = "NUMBER")]
    max_victims: Option<usize>,
    /// How long a statement may wait for a lock before the migration is tried again, or `none`
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = LockTimeout::parse)]
    lock_timeout: LockTimeout,
    /// How often a migration is tried that fails for want of a lock
    #[arg(long, value_name = "NUMBER", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    attempts: u32,
    /// How long to wait for another runner; as long as it takes unless said
    #[arg(long, value_name = "DURATION", value_parser = parse_span)]
    wait_for_runners: Option<Duration>,
    /// Records each signal in the table `pglock.signal_log`, which has to be there
    #[arg(long)]
    audit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Whom {
    Roots,
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LockTimeout(Option<Duration>);

impl LockTimeout {
    fn parse(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self(None));
        }
        let timeout = parse_span(text)?;
        let most = Duration::from_millis(i32::MAX as u64);
        match (Duration::from_millis(1)..=most).contains(&timeout) {
            true => Ok(Self(Some(timeout))),
            false => Err(format!("it is between 1ms and {}ms, or `none`", i32::MAX)),
        }
    }
}

/// Each look of one who is blocked goes through the server's lock table.
fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_span(text)?;
    match interval >= Duration::from_millis(10) {
        true => Ok(interval),
        false => Err("it is 10ms at least".to_owned()),
    }
}

fn parse_policy(text: &str) -> Result<Policy, String> {
    let (name, after) = match text.split_once(':') {
        Some((name, after)) => (name, Some(parse_span(after)?)),
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
            "`{text}` is none of terminate, cancel, cancel-then-terminate[:DURATION], observe"
        )),
    }
}

impl PriorityArgs {
    pub fn prioritizer(&self, source: String) -> Prioritizer<String> {
        let policy = match self.observe {
            true => Policy::Observe,
            false => self.policy.clone(),
        };
        let mut prioritizer = Prioritizer::new(source)
            .interval(self.interval)
            .grace(self.grace)
            .policy(policy)
            .victims(match self.victims {
                Whom::Roots => Victims::Roots,
                Whom::All => Victims::All,
            })
            .audit(self.audit);
        if self.once {
            prioritizer = prioritizer.once();
        }
        match self.max_victims {
            Some(most) => prioritizer.max_victims(most),
            None => prioritizer,
        }
    }

    pub fn harness<'c>(
        &self,
        harness: PrioritizedHarness<'c, PgConnection, String>,
    ) -> PrioritizedHarness<'c, PgConnection, String> {
        harness
            .lock_timeout(self.lock_timeout.0)
            .attempts(self.attempts)
            .wait_for_instances(self.wait_for_runners)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read() {
        let read = |text| parse_policy(text).map(|policy| format!("{policy:?}"));
        assert_eq!(read("terminate"), Ok("Terminate".to_owned()));
        assert_eq!(
            read("cancel-then-terminate:3s"),
            Ok("CancelThenTerminate(3s)".to_owned())
        );
        assert!(read("kill").is_err());
        assert!(read("cancel:3s").is_err());
    }

    #[test]
    fn an_interval_leaves_the_server_in_peace() {
        assert!(parse_interval("0s").is_err());
        assert!(parse_interval("10ms").is_ok());
    }

    #[test]
    fn a_lock_timeout_is_one_that_the_server_takes() {
        assert_eq!(LockTimeout::parse("none"), Ok(LockTimeout(None)));
        assert!(LockTimeout::parse("0s").is_err());
        assert!(LockTimeout::parse("30d").is_err());
        assert!(LockTimeout::parse("2s").is_ok());
    }
}
