//! The command `pglock`, for a database that is blocked.
//!
//! Each command parses its arguments, queries the server through the public API of the
//! library, and shows the result. A hidden module of the library has the helpers they share.

mod arguments;
mod completions;
mod connect;
mod duration;
mod failure;
mod list;
mod manual;
mod migrate;
mod output;
mod report;
#[cfg(unix)]
mod run;
mod signal;
mod top;
mod watch;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use connect::{ConnectionArgs, Environment, redact_arguments};
use failure::{Failure, Outcome};
use list::ListArgs;

fn main() -> ExitCode {
    #[cfg(unix)]
    if let Some(code) = run::become_command() {
        return code;
    }
    let arguments = match Arguments::try_parse().and_then(Arguments::checked) {
        Ok(arguments) => arguments,
        Err(error) => return print_usage(&error),
    };
    match run(arguments) {
        Ok(outcome) => outcome.into(),
        Err(failure) => {
            output::print_error(&redact_arguments(&failure.to_string()));
            failure.into()
        }
    }
}

/// Prints the help, the version or an error in the arguments.
fn print_usage(error: &clap::Error) -> ExitCode {
    let text = redact_arguments(&error.render().to_string());
    // A reader that has closed the pipe needs no error.
    let _ = if error.use_stderr() {
        output::note(&text)
    } else {
        output::show(&text)
    };
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(arguments: Arguments) -> Result<Outcome, Failure> {
    match arguments.command {
        Some(Command::Completions { shell }) => completions::run(shell),
        Some(Command::Man { page }) => manual::page(page.as_deref()),
        Some(Command::Schema) => manual::schema(),
        Some(Command::Report(args)) => report::run(&args),
        command => run_on_database(command, arguments.list, &arguments.connection),
    }
}

fn run_on_database(
    command: Option<Command>,
    list: ListArgs,
    connect: &ConnectionArgs,
) -> Result<Outcome, Failure> {
    let environment = Environment::read();
    match command {
        None => match list.of_overview() {
            Some(timeout) => list::overview::run(timeout, connect, &environment),
            None => list::locks::run(list, connect, &environment),
        },
        Some(Command::Ls(args)) => list::locks::run(args, connect, &environment),
        Some(Command::Tree(args)) => list::tree::run(&args, connect, &environment),
        Some(Command::Top(args)) => top::run(&args, connect, &environment),
        Some(Command::Watch(args)) => watch::run(&args, connect, &environment),
        Some(Command::Who(args)) => list::who::run(&args, connect, &environment),
        Some(Command::Log(args)) => list::log::run(&args, connect, &environment),
        Some(Command::Migrate(args)) => migrate::run(&args, connect, &environment),
        #[cfg(unix)]
        Some(Command::Run(args)) => run::run(&args, connect, &environment),
        Some(Command::Config(args)) => connect::config::run(&args, connect, &environment),
        // These need no database.
        Some(
            Command::Report(_)
            | Command::Completions { .. }
            | Command::Man { .. }
            | Command::Schema,
        ) => Ok(Outcome::Done),
    }
}
