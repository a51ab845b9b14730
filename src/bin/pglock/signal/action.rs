//! The options that send signals.

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{ArgGroup, Args};
use diesel::PgConnection;
use diesel_pglock::SignalKind;

use super::request::{DECLINED, Delivery, SignalRequest, SignalResult};
use super::victims::victims;
use crate::connect::LimitArgs;
use crate::duration::parse_duration;
use crate::failure::{Failure, Outcome};
use crate::list::{Listing, Selection};
use crate::output::clean;
use crate::output::show_json;
use crate::output::{ask, note, show};

/// Signals to the sessions of a list.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(group = ArgGroup::new("action").args(["cancel", "terminate"]))]
pub struct ActionArgs {
    /// Cancels the queries of the selected sessions; with --blocking, of the roots of their waits
    #[arg(long)]
    cancel: bool,
    /// Terminates the selected sessions; with --blocking, the roots of their waits
    #[arg(long)]
    terminate: bool,
    /// With --blocking: signals the direct blockers, which may wait in a queue themselves
    #[arg(long, requires = "action", requires = "blocking")]
    queue: bool,
    /// Does not ask
    #[arg(short, long, requires = "action")]
    yes: bool,
    /// Shows which sessions would be signalled, and signals none
    #[arg(long, requires = "action")]
    dry_run: bool,
    /// Waits so long for the sessions to end and their waiters to go on; default: 2s, 0s: not at all
    #[arg(long, value_name = "DURATION", requires = "action", value_parser = parse_duration)]
    verify: Option<Duration>,
}

/// The time in which a signal is to have its effect, by default.
pub const VERIFY: Duration = Duration::from_secs(2);

impl ActionArgs {
    pub fn kind(&self) -> Option<SignalKind> {
        let terminate = self.terminate.then_some(SignalKind::Terminate);
        self.cancel.then_some(SignalKind::Cancel).or(terminate)
    }

    /// Returns the options, completed by those of a config.
    pub fn or(self, kind: Option<SignalKind>, queue: bool, yes: bool) -> Self {
        let kind = self.kind().or(kind);
        Self {
            cancel: kind == Some(SignalKind::Cancel),
            terminate: kind == Some(SignalKind::Terminate),
            queue: self.queue || queue,
            yes: self.yes || yes,
            ..self
        }
    }

    pub fn hits_queue(&self) -> bool {
        self.queue
    }

    /// Asks, and signals the selected sessions.
    pub fn run(
        &self,
        kind: SignalKind,
        selection: &Selection,
        conn: &mut PgConnection,
        timeout: LimitArgs,
        json: bool,
    ) -> Result<Outcome, Failure> {
        let listing = timeout.within(conn, |conn| selection.load(conn, usize::MAX))?;
        note(&beyond_signals(&listing, self.queue))?;
        let targets = victims(&listing.rows);
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
        let current = timeout.within(conn, |conn| selection.load(conn, usize::MAX))?;
        let current = victims(&current.rows);
        let verify = self.verify.unwrap_or(VERIFY);
        let results = request.send_to_current(conn, &current, timeout, verify)?;
        report(&results, &lines(&results), json)
    }
}

/// Describes the blockers that no signal ends: prepared transactions, and deadlocks.
fn beyond_signals(listing: &Listing, hits_queue: bool) -> String {
    let blockers = listing.rows.iter().filter_map(|row| row.blocker.as_ref());
    let prepared = blockers.filter_map(|it| it.prepared.as_ref());
    let by_gid: BTreeMap<&str, _> = prepared.map(|it| (&*it.gid, it)).collect();
    let commands = by_gid.values().map(|it| {
        let (statement, database) = (it.rollback_statement(), clean(&it.database));
        format!("no signal ends a prepared transaction; type in database {database}: {statement}\n")
    });
    let cycles = listing.cycles.iter().filter(|_| !hits_queue);
    let cycles = cycles.map(|cycle| {
        let pids: Vec<String> = cycle.iter().map(ToString::to_string).collect();
        let pids = pids.join(" → ");
        format!(
            "deadlock {pids} → {}: the server ends one; --queue signals them\n",
            cycle[0]
        )
    });
    commands.chain(cycles).collect()
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
    } else if results
        .iter()
        .any(|it| it.proof.as_ref().is_some_and(|it| !it.is_success()))
    {
        Outcome::StillThere
    } else if any(Delivery::Sent) || any(Delivery::DryRun) {
        Outcome::Done
    } else {
        Outcome::Nothing
    }
}
