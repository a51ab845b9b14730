use clap::{ArgGroup, Args};
use diesel::PgConnection;
use diesel_pglock::{SignalKind, SignalOutcome};
use serde::Serialize;

use crate::failure::{Failure, Outcome};
use crate::field::Row;
use crate::json::show_json;
use crate::output::{ask, note, show};
use crate::selection::Selection;
use crate::signalling::{Victim, victims};
use crate::terminal_text::clean;

/// What is to be done about the sessions that are shown.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(group = ArgGroup::new("action").args(["cancel", "terminate"]))]
pub struct ActionArgs {
    /// Cancels the running queries of the sessions shown; with --blocking, of those in the way
    #[arg(long)]
    cancel: bool,
    /// Ends the sessions shown; with --blocking, those in the way
    #[arg(long)]
    terminate: bool,
    /// Does not ask
    #[arg(short, long, requires = "action")]
    yes: bool,
    /// Shows which sessions would be hit, and does nothing
    #[arg(long, requires = "action")]
    dry_run: bool,
}

/// What came of it, as `--json` has it.
#[derive(Debug, Serialize)]
struct Sent {
    pid: i32,
    kind: SignalKind,
    outcome: &'static str,
    reason: Option<String>,
}

impl ActionArgs {
    pub fn kind(&self) -> Option<SignalKind> {
        match (self.cancel, self.terminate) {
            (true, _) => Some(SignalKind::Cancel),
            (_, true) => Some(SignalKind::Terminate),
            _ => None,
        }
    }

    /// Asks, and signals the sessions that are shown.
    pub fn run(
        &self,
        kind: SignalKind,
        shown: &[Row],
        selection: &Selection,
        conn: &mut PgConnection,
        json: bool,
    ) -> Result<Outcome, Failure> {
        let meant = victims(shown);
        if meant.is_empty() {
            return nothing("no session to signal\n", json);
        }
        if self.dry_run {
            let sent = meant
                .iter()
                .map(|victim| Sent::new(victim, kind, "dry_run", None));
            let text = format!(
                "{} {}:\n{}",
                "would",
                told(kind, meant.len()),
                list(&meant, kind)
            );
            return report(&sent.collect::<Vec<_>>(), &text, json);
        }
        if !self.yes {
            let question = capital(&told(kind, meant.len()));
            if !ask(&format!("{question}?\n{}[y/N] ", list(&meant, kind)))? {
                return nothing("nothing was done\n", json);
            }
        }
        // Time has passed at the prompt: who no longer matches is left alone.
        let now = victims(&selection.load(conn)?);
        let (mut sent, mut text) = (Vec::new(), String::new());
        for victim in &meant {
            let outcome = match now.iter().find(|it| it.is(victim)) {
                Some(victim) => victim.signal(conn, kind)?,
                None => SignalOutcome::Gone,
            };
            text += &format!("{}: {kind} {}\n", victim.pid, clean(&outcome.to_string()));
            sent.push(match outcome {
                SignalOutcome::Sent => Sent::new(victim, kind, "sent", None),
                SignalOutcome::Denied(why) => Sent::new(victim, kind, "denied", Some(why)),
                _ => Sent::new(victim, kind, "gone", None),
            });
        }
        report(&sent, &text, json)
    }
}

impl Sent {
    fn new(
        victim: &Victim,
        kind: SignalKind,
        outcome: &'static str,
        reason: Option<String>,
    ) -> Self {
        Self {
            pid: victim.pid,
            kind,
            outcome,
            reason,
        }
    }
}

fn nothing(why: &str, json: bool) -> Result<Outcome, Failure> {
    note(why)?;
    report(&[], "", json)
}

fn report(sent: &[Sent], text: &str, json: bool) -> Result<Outcome, Failure> {
    match json {
        true => show_json(&sent)?,
        false => show(text)?,
    }
    let any = |outcome| sent.iter().any(|it| it.outcome == outcome);
    Ok(match (any("denied"), any("sent") || any("dry_run")) {
        (true, _) => Outcome::Denied,
        (false, true) => Outcome::Done,
        (false, false) => Outcome::Nothing,
    })
}

fn told(kind: SignalKind, count: usize) -> String {
    let what = match kind {
        SignalKind::Cancel => "cancel the queries of",
        SignalKind::Terminate => "terminate",
    };
    let sessions = if count == 1 { "session" } else { "sessions" };
    format!("{what} {count} {sessions}")
}

fn capital(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

fn list(victims: &[Victim], kind: SignalKind) -> String {
    victims
        .iter()
        .map(|victim| format!("  {}\n", victim.describe(kind)))
        .collect()
}
