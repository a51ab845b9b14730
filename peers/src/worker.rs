//! The process that measures: it has a server of its own, on the same CPUs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use diesel::RunQueryDsl;
use diesel::dsl::sql;
use diesel::sql_types::Text;

use crate::Result;
use crate::bench::Bench;
use crate::message::Message;
use crate::options::Options;
use crate::pinning;
use crate::works;

/// Measures all chosen works in this process, and reports them on the standard output.
pub fn measure(options: &Options, is_pinned: bool) -> Result<()> {
    let bench = Bench::start(options.is_quick, is_pinned)?;
    send(&Message::Server(server_version(&bench)?))?;
    let chosen = works::ALL
        .iter()
        .filter(|work| work.is_chosen(&options.names));
    // A quick run measures on all CPUs only what has targets there.
    let chosen = chosen.filter(|work| is_pinned || !options.is_quick || work.has_free_targets);
    for work in chosen {
        eprintln!(
            "measuring {} {}",
            work.name,
            if is_pinned {
                "on one CPU"
            } else {
                "on all CPUs"
            }
        );
        match work.measure(&bench) {
            Ok(rows) => rows
                .into_iter()
                .try_for_each(|row| send(&Message::Row(Box::new(row))))?,
            Err(error) => send(&Message::Failed(format!(
                "{}: {}",
                work.name,
                with_sources(&*error)
            )))?,
        }
        bench
            .take_notes()
            .into_iter()
            .try_for_each(|note| send(&Message::Note(note)))?;
    }
    Ok(())
}

/// Measures in another process, on one CPU or on all, and passes on what it reports.
pub fn run(options: &Options, is_pinned: bool, mut receive: impl FnMut(Message)) -> Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    if is_pinned {
        command = pinning::pinned(&command);
    }
    command.arg(if is_pinned {
        "--worker=pinned"
    } else {
        "--worker=free"
    });
    command.args(options.arguments());
    let mut worker = command.stdout(Stdio::piped()).spawn()?;
    let reports = worker.stdout.take().expect("its output is piped");
    for line in BufReader::new(reports).lines() {
        receive(serde_json::from_str(&line?)?);
    }
    let status = worker.wait()?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("the measuring process failed: {status}").into())
    }
}

/// Returns the message of an error, and those of its causes.
fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let errors = std::iter::successors(Some(error), |error| error.source());
    let messages: Vec<String> = errors.map(ToString::to_string).collect();
    messages.join(": ")
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
