//! The options that send signals.

use clap::{ArgGroup, Args};
use diesel::PgConnection;
use diesel_pglock::SignalKind;

use super::request::{DECLINED, Delivery, SignalRequest, SignalResult};
use super::victims::victims;
use crate::failure::{Failure, Outcome};
use crate::list::Row;
use crate::list::Selection;
use crate::output::show_json;
use crate::output::{ask, note, show};

/// Signals to the sessions of a list.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(group = ArgGroup::new("action").args(["cancel", "terminate"]))]
pub struct ActionArgs {
    /// Cancels the queries of the listed sessions; with --blocking, of their blockers
    #[arg(long)]
    cancel: bool,
    /// Terminates the listed sessions; with --blocking, their blockers
    #[arg(long)]
    terminate: bool,
    /// Does not ask
    #[arg(short, long, requires = "action")]
    yes: bool,
    /// Shows which sessions would be signalled, and signals none
    #[arg(long, requires = "action")]
    dry_run: bool,
}

impl ActionArgs {
    pub fn kind(&self) -> Option<SignalKind> {
        let terminate = self.terminate.then_some(SignalKind::Terminate);
        self.cancel.then_some(SignalKind::Cancel).or(terminate)
    }

    /// Asks, and signals the sessions of the listed rows.
    pub fn run(
        &self,
        kind: SignalKind,
        listed: &[Row],
        selection: &Selection,
        conn: &mut PgConnection,
        json: bool,
    ) -> Result<Outcome, Failure> {
        let targets = victims(listed);
        let request = SignalRequest { kind, targets };
        if request.targets.is_empty() {
            return report_nothing("no session to signal", json);
        }
        if self.dry_run {
            let text = format!("would {}:\n{}", request.describe(), request.list());
            return report(&request.dry_run(), &text, json);
        }
        if !self.yes && !confirm(&request)? {
            return report_nothing(DECLINED, json);
        }
        // The list has aged at the prompt: only sessions that still match are signalled.
        let current = victims(&selection.load(conn)?);
        let results = request.send_to_current(conn, &current)?;
        report(&results, &lines(&results), json)
    }
}

fn confirm(request: &SignalRequest) -> Result<bool, Failure> {
    ask(&format!("{}\n{}[y/N] ", request.question(), request.list()))
}

fn lines(results: &[SignalResult]) -> String {
    results.iter().map(|result| format!("{result}\n")).collect()
}

fn report_nothing(reason: &str, json: bool) -> Result<Outcome, Failure> {
    note(&format!("{reason}\n"))?;
    report(&[], "", json)
}

fn report(results: &[SignalResult], text: &str, json: bool) -> Result<Outcome, Failure> {
    if json {
        show_json(&results)?;
    } else {
        show(text)?;
    }
    Ok(outcome(results))
}

fn outcome(results: &[SignalResult]) -> Outcome {
    let any = |outcome| results.iter().any(|it| it.outcome == outcome);
    if any(Delivery::Denied) || any(Delivery::Unsignallable) {
        Outcome::Denied
    } else if any(Delivery::Sent) || any(Delivery::DryRun) {
        Outcome::Done
    } else {
        Outcome::Nothing
    }
}
