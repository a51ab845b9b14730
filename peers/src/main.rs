//! Measures diesel-pglock beside what users would pick instead: `cargo xtask bench`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

mod bench;
mod contest;
mod figures;
mod machine;
mod message;
mod options;
mod page;
mod peer;
mod placement;
mod programs;
mod report;
mod row;
mod table;
mod target;
mod work;
mod worker;
mod works;

use std::process::ExitCode;

use options::{HELP, Options};
use placement::Placement;
use report::Report;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

/// Fails with a message unless a result is right, whose time would mean nothing.
fn check(is_right: bool, problem: impl FnOnce() -> String) -> Result<()> {
    if is_right {
        Ok(())
    } else {
        Err(problem().into())
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match start(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: &[&str]) -> Result<ExitCode> {
    if let [works::memory::CHILD, rest @ ..] = arguments {
        works::memory::load(rest)?;
        return Ok(ExitCode::SUCCESS);
    }
    run(&Options::read(arguments.iter().map(ToString::to_string))?)
}

fn run(options: &Options) -> Result<ExitCode> {
    if options.helps {
        println!("{HELP}");
    } else if options.lists {
        works::ALL
            .iter()
            .for_each(|work| println!("{:24}{}", work.name, work.summary));
    } else if let Some(placement) = options.worker {
        worker::measure(options, placement)?;
    } else {
        return compare(options);
    }
    Ok(ExitCode::SUCCESS)
}

/// Measures on one CPU and on all, and prints the table.
fn compare(options: &Options) -> Result<ExitCode> {
    let mut report = Report::new(options.is_quick);
    for placement in [Placement::OneCpu, Placement::AllCpus] {
        if placement.is_available() {
            worker::run(options, placement, |message| report.add(message))?;
        } else {
            report.note("`taskset` was not found: nothing was measured on one CPU.");
        }
    }
    println!("{report}");
    if let Some(file) = &options.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report)?)?;
    }
    if options.updates_page {
        page::update(&report)?;
    }
    Ok(if report.has_failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
