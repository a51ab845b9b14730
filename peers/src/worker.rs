//! The process that measures: it has a server of its own, on the same CPUs.

use std::env;
use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use diesel::RunQueryDsl;
use diesel::dsl::sql;
use diesel::sql_types::Text;

use crate::bench::Bench;
use crate::message::Message;
use crate::options::Options;
use crate::placement::Placement;
use crate::work::Work;
use crate::works;
use crate::{Result, check};

/// Measures all chosen works in this process, and reports them on the standard output.
pub fn measure(options: &Options, placement: Placement) -> Result<()> {
    let bench = Bench::start(options.is_quick, placement)?;
    send(&Message::Server(server_version(&bench)?))?;
    let is_due = |work: &Work| !options.is_quick || work.has_targets_on(placement);
    let chosen = works::ALL
        .iter()
        .filter(|work| work.is_chosen(&options.names));
    chosen
        .filter(|work| is_due(work))
        .try_for_each(|work| measure_one(work, &bench))
}

fn measure_one(work: &Work, bench: &Bench) -> Result<()> {
    let started = format!("{}, CPUs: {}", work.name, bench.placement);
    send(&Message::Started(started))?;
    match work.measure(bench) {
        Ok(rows) => {
            let mut rows = rows.into_iter().map(Box::new);
            rows.try_for_each(|row| send(&Message::Row(row)))?;
        }
        Err(error) => send(&Message::Failed(failure(work, &*error)))?,
    }
    let mut notes = bench.take_notes().into_iter();
    notes.try_for_each(|note| send(&Message::Note(note)))
}

/// Returns the name of a work, the message of its error, and those of the causes.
fn failure(work: &Work, error: &(dyn Error + 'static)) -> String {
    let mut text = format!("{}: {error}", work.name);
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// Measures in another process, and passes on what it reports.
pub fn run(
    options: &Options,
    placement: Placement,
    mut receive: impl FnMut(Message),
) -> Result<()> {
    let mut command = placement.command(env::current_exe()?);
    command
        .arg(format!("--worker={placement}"))
        .args(options.arguments());
    let mut worker = command.stdout(Stdio::piped()).spawn()?;
    let reports = worker.stdout.take().expect("its output is piped");
    for line in BufReader::new(reports).lines() {
        receive(serde_json::from_str(&line?)?);
    }
    let status = worker.wait()?;
    check(status.success(), || {
        format!("the measuring process failed: {status}")
    })
}

fn send(message: &Message) -> Result<()> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, message)?;
    writeln!(out)?;
    Ok(())
}

fn server_version(bench: &Bench) -> Result<String> {
    let version = sql::<Text>("SELECT pg_catalog.current_setting('server_version')");
    Ok(version.get_result(&mut bench.connect()?)?)
}
