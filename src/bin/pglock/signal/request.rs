//! The question before a signal, and the report after it.

use std::fmt;

use diesel::PgConnection;
use diesel_pglock::{SignalKind, SignalOutcome};
use serde::Serialize;

use super::victims::Victim;
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

    /// Signals the sessions.
    pub fn send(&self, conn: &mut PgConnection) -> Result<Vec<SignalResult>, Failure> {
        let signals = self.targets.iter().map(|it| it.signal(conn, self.kind));
        signals.collect()
    }

    /// Signals the sessions that are still among `current`.
    pub fn send_to_current(
        &self,
        conn: &mut PgConnection,
        current: &[Victim],
    ) -> Result<Vec<SignalResult>, Failure> {
        let signals = self.targets.iter().map(|target| {
            match current.iter().find(|it| it.is_same_session(target)) {
                Some(current) => current.signal(conn, self.kind),
                None => Ok(SignalResult::new(
                    target.pid,
                    self.kind,
                    SignalOutcome::Gone,
                )),
            }
        });
        signals.collect()
    }

    /// Returns the results of `--dry-run`.
    pub fn dry_run(&self) -> Vec<SignalResult> {
        let result = |target: &Victim| SignalResult {
            pid: target.pid,
            kind: self.kind,
            outcome: Delivery::DryRun,
            reason: None,
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
    pid: i32,
    kind: SignalKind,
    pub outcome: Delivery,
    reason: Option<String>,
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
        }
    }
}

impl fmt::Display for SignalResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pid, kind, .. } = self;
        let outcome = match self.outcome {
            Delivery::Sent => "sent",
            Delivery::Gone => "gone",
            Delivery::Denied => "denied",
            Delivery::Unsignallable => "not possible: it is a process of the server",
            Delivery::DryRun => "not sent",
        };
        write!(f, "{pid}: {kind} {outcome}")?;
        match &self.reason {
            Some(reason) => write!(f, ": {}", clean(reason)),
            None => Ok(()),
        }
    }
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
}
