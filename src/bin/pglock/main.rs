//! `pglock`: what to reach for when a database is blocked.
//!
//! Every command parses, asks the server through the crate's public API, and shows.
//! Some of how it shows is the library's as well, and too small to be published.

mod action;
mod arguments;
mod config;
mod connection;
mod duration;
mod failure;
mod field;
mod filter;
mod interrupt;
mod json;
mod list;
mod manual;
mod migrate;
mod output;
mod prepared;
mod priority;
mod progress;
mod redact;
mod relation;
mod row;
mod selection;
mod settings;
mod settings_file;
mod signal_request;
mod table;
mod terminal_text;
mod top;
mod top_feed;
mod top_state;
mod top_view;
mod tree;
mod value;
mod victims;
mod who;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use failure::{Failure, Outcome};

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse().and_then(Arguments::checked) {
        Ok(arguments) => arguments,
        Err(error) => {
            let text = redact::redact_arguments(&error.render().to_string());
            let write = if error.use_stderr() {
                output::note
            } else {
                output::show
            };
            // Whoever closed it does not want to know.
            let _ = write(&text);
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(arguments) {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            output::complain(&redact::redact_arguments(&failure.to_string()));
            failure.into()
        }
    }
}

fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    if let Some(Command::Completions { shell }) = arguments.command {
        return manual::completions(shell);
    }
    if let Some(Command::Man { command }) = &arguments.command {
        return manual::page(command.as_deref());
    }
    // What `.env` says counts like the environment, and never against it.
    let environment = connection::Environment::read();
    let connect = arguments.connection;
    match arguments.command {
        None => list::run(arguments.list, &connect, &environment),
        Some(Command::Ls(args)) => list::run(args, &connect, &environment),
        Some(Command::Tree(args)) => tree::run(args, &connect, &environment),
        Some(Command::Top(args)) => top::run(&args, &connect, &environment),
        Some(Command::Who(args)) => who::run(&args, &connect, &environment),
        Some(Command::Migrate(args)) => migrate::run(&args, &connect, &environment),
        Some(Command::Config(args)) => config::run(&args, &connect, &environment),
        Some(Command::Completions { .. } | Command::Man { .. }) => Ok(Outcome::Done),
    }
}
