//! The question before a signal, and the report after it.

use std::fmt;
use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel_pglock::{SignalKind, SignalOutcome};
use serde::Serialize;

use super::proof::{Before, Effect, Proof};
use super::victims::Victim;
use crate::connect::LimitArgs;
use crate::failure::Failure;
use crate::output::clean;

/// The answer to a question that was not confirmed.
pub const DECLINED: &str = "nothing was done";

/// A signal to some sessions that is not yet confirmed.
#[derive(Clone, Debug)]
pub struct SignalRequest {
    pub kind: SignalKind,
    pub targets: Vec<Victim>,
}

impl SignalRequest {
    /// Returns `terminate 2 sessions`.
    pub fn describe(&self) -> String {
        let count = self.targets.len();
        match (self.kind, count) {
            (SignalKind::Cancel, 1) => "cancel the query of 1 session".to_owned(),
            (SignalKind::Cancel, _) => format!("cancel the queries of {count} sessions"),
            (SignalKind::Terminate, 1) => "terminate 1 session".to_owned(),
            (SignalKind::Terminate, _) => format!("terminate {count} sessions"),
        }
    }

    /// Returns `Terminate 2 sessions?`.
    pub fn question(&self) -> String {
        capitalize(&self.describe()) + "?"
    }

    /// Returns a line for each session, and below it what the signal will do.
    pub fn list(&self) -> String {
        let lines = |it: &Victim| {
            let consequences = match it.consequences(self.kind).join("; ") {
                none if none.is_empty() => none,
                some => format!("    {some}\n"),
            };
            format!("  {}\n{consequences}", it.describe())
        };
        self.targets.iter().map(lines).collect()
    }

    pub fn pids(&self) -> impl Iterator<Item = i32> {
        self.targets.iter().map(|target| target.pid)
    }

    /// Signals the sessions, and waits up to `limit` for the effects.
    pub fn send(
        &self,
        conn: &mut PgConnection,
        timeout: LimitArgs,
        limit: Duration,
    ) -> Result<Vec<SignalResult>, Failure> {
        self.send_to_current(conn, &self.targets, timeout, limit)
    }

    /// Signals the sessions that are still among `current`, and waits up to `limit` for the effects.
    pub fn send_to_current(
        &self,
        conn: &mut PgConnection,
        current: &[Victim],
        timeout: LimitArgs,
        limit: Duration,
    ) -> Result<Vec<SignalResult>, Failure> {
        let pids: Vec<i32> = self.pids().collect();
        let before = timeout.within(conn, |conn| Before::load(conn, &pids))?;
        let mut results = Vec::new();
        for target in &self.targets {
            results.push(match current.iter().find(|it| it.is_same_session(target)) {
                Some(current) => self.send_one(conn, current, &before, timeout)?,
                None => SignalResult::new(target.pid, self.kind, SignalOutcome::Gone),
            });
        }
        if !limit.is_zero() {
            before.prove(conn, &mut results, timeout, limit)?;
        }
        Ok(results)
    }

    /// Signals a session, and records that in the signal log if there is one.
    fn send_one(
        &self,
        conn: &mut PgConnection,
        target: &Victim,
        before: &Before,
        timeout: LimitArgs,
    ) -> Result<SignalResult, Failure> {
        let entry = before.entry(conn, target.pid, timeout);
        let mut result = timeout.within(conn, |conn| target.signal(conn, self.kind))?;
        let written = entry.and_then(|entry| match entry {
            Some(entry) => timeout.within(conn, |conn| {
                // No limit ends a wait for a synchronous standby.
                conn.batch_execute(
                    "SET LOCAL synchronous_commit = local; SET LOCAL lock_timeout = 500",
                )?;
                Ok(entry.write(conn, self.kind, result.signalled.clone())?)
            }),
            None => Ok(()),
        });
        let not_logged = written.err().map(|failure| failure.to_string());
        result.not_logged = not_logged.or_else(|| before.nameless.clone());
        Ok(result)
    }

    /// Returns the results of `--dry-run`.
    pub fn dry_run(&self) -> Vec<SignalResult> {
        let result = |target: &Victim| SignalResult {
            pid: target.pid,
            kind: self.kind,
            outcome: Delivery::DryRun,
            reason: None,
            not_logged: None,
            proof: None,
            signalled: SignalOutcome::Gone,
        };
        self.targets.iter().map(result).collect()
    }
}

fn capitalize(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

/// A signal to one session, and its outcome: an object of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct SignalResult {
    pub pid: i32,
    pub kind: SignalKind,
    pub outcome: Delivery,
    reason: Option<String>,
    /// The error that kept the signal from being logged.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_logged: Option<String>,
    #[serde(skip)]
    signalled: SignalOutcome,
    /// What became of the session; `None` if nothing was sent or verified.
    #[serde(flatten)]
    pub proof: Option<Proof>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    Sent,
    Gone,
    Denied,
    /// PostgreSQL does not signal processes of its own.
    Unsignallable,
    DryRun,
}

impl SignalResult {
    pub fn new(pid: i32, kind: SignalKind, outcome: SignalOutcome) -> Self {
        let signalled = outcome.clone();
        let (outcome, reason) = match outcome {
            SignalOutcome::Sent => (Delivery::Sent, None),
            SignalOutcome::Denied(reason) => (Delivery::Denied, Some(reason)),
            SignalOutcome::Unsignallable => (Delivery::Unsignallable, None),
            _ => (Delivery::Gone, None),
        };
        Self {
            pid,
            kind,
            outcome,
            reason,
            not_logged: None,
            signalled,
            proof: None,
        }
    }

    /// Adds what would help to the reason of a denial.
    pub fn with_advice(mut self, advice: Option<String>) -> Self {
        let advice = advice.filter(|_| self.outcome == Delivery::Denied);
        if let (Some(reason), Some(advice)) = (&mut self.reason, advice) {
            *reason += &format!("; {advice}");
        }
        self
    }
}

impl SignalResult {
    fn fmt_not_logged(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.not_logged {
            Some(error) => write!(f, "; not in the signal log: {}", clean(error)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for SignalResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, kind, .. } = self;
        if let Some(proof) = &self.proof {
            write!(f, "{pid} {}", describe(proof, *kind))?;
            return self.fmt_not_logged(f);
        }
        let outcome = match self.outcome {
            Delivery::Sent => "sent",
            Delivery::Gone => "gone",
            Delivery::Denied => "denied",
            Delivery::Unsignallable => "not possible: it is a process of the server",
            Delivery::DryRun => "not sent",
        };
        write!(f, "{pid}: {kind} {outcome}")?;
        if let Some(reason) = &self.reason {
            write!(f, ": {}", clean(reason))?;
        }
        self.fmt_not_logged(f)
    }
}

/// Returns `ended; 31 sessions go on`, or what to try.
fn describe(proof: &Proof, kind: SignalKind) -> String {
    let effect = match (proof.effect, kind) {
        (Effect::Ended, _) => "ended",
        (Effect::QueryEnded, _) => "ended its query",
        (Effect::NoQuery, _) => {
            "is still there: it runs no query, so a cancel changes nothing; try --terminate"
        }
        (Effect::StillThere, SignalKind::Cancel) => {
            "is still there: its query goes on; try --terminate"
        }
        (Effect::StillThere, SignalKind::Terminate) => {
            "is still there: it may be rolling back, or its client does not read; look again"
        }
    };
    let count = |count, one: &str, many: &str| match count {
        0 => String::new(),
        1 => format!("; 1 session {one}"),
        count => format!("; {count} sessions {many}"),
    };
    let went_on = count(proof.went_on, "goes on", "go on");
    let waiting = count(proof.still_waiting, "still waits", "still wait");
    format!("{effect}{went_on}{waiting}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: SignalKind, pids: &[i32]) -> SignalRequest {
        let targets = pids.iter().map(|pid| Victim::new(*pid, None)).collect();
        SignalRequest { kind, targets }
    }

    #[test]
    fn a_question_counts_and_lists_the_sessions() {
        let cancel = request(SignalKind::Cancel, &[7]);
        assert_eq!(cancel.question(), "Cancel the query of 1 session?");
        let terminate = request(SignalKind::Terminate, &[7, 8]);
        assert_eq!(terminate.question(), "Terminate 2 sessions?");
        assert_eq!(terminate.list(), "  7\n  8\n");
    }

    #[test]
    fn a_denied_signal_is_shown_with_its_clean_reason() {
        let denied = SignalOutcome::Denied("not\u{1b} allowed\n".to_owned());
        let result = SignalResult::new(7, SignalKind::Terminate, denied);
        assert_eq!(result.to_string(), "7: terminate denied: not allowed");
    }

    #[test]
    fn a_proof_names_what_changed_and_what_to_try() {
        let mut result = SignalResult::new(7, SignalKind::Terminate, SignalOutcome::Sent);
        let mut shown = |effect, went_on, still_waiting| {
            let proof = Proof {
                effect,
                went_on,
                still_waiting,
            };
            result.proof = Some(proof);
            result.to_string()
        };
        assert_eq!(shown(Effect::Ended, 31, 0), "7 ended; 31 sessions go on");
        let two = "7 ended its query; 1 session goes on; 2 sessions still wait";
        assert_eq!(shown(Effect::QueryEnded, 1, 2), two);
        assert!(shown(Effect::NoQuery, 0, 1).ends_with("try --terminate; 1 session still waits"));
    }
}
