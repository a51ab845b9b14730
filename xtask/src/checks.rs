//! `cargo xtask test`: everything that has to pass, what is quick to fail first.

use std::process::Command;

use pglock_sandbox::Sandbox;

use crate::command::{self, cargo};
use crate::{Result, extras, package, postgres};

/// Runs every check; the last lines are cargo's own summaries of the tests.
pub fn run() -> Result<()> {
    postgres::ensure()?;
    extras::provide();
    let features = package::all_features()?;
    style(&features)?;
    each_feature_alone()?;
    // One server for all programs that would otherwise start one each.
    let server = Sandbox::start()?;
    examples(&features, &server)?;
    tests(&features)?;
    doctests(&features, &server)
}

fn style(features: &str) -> Result<()> {
    command::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        features,
        "--",
        "-D",
        "warnings",
    ];
    command::run(&mut cargo(&clippy))?;
    let doc = ["doc", "--workspace", "--no-deps", "--features", features];
    command::run(cargo(&doc).env("RUSTDOCFLAGS", "-D warnings"))
}

/// Features are additive, and none leans on another without saying so.
fn each_feature_alone() -> Result<()> {
    let check = ["check", "--lib", "--no-default-features"];
    command::run(&mut cargo(&check))?;
    for feature in package::features()? {
        command::run(cargo(&check).args(["--features", &feature]))?;
    }
    Ok(())
}

fn examples(features: &str, server: &Sandbox) -> Result<()> {
    for example in package::examples()? {
        let args = ["run", "--features", features, "--example", &example];
        command::run(on(server, &mut cargo(&args)))?;
    }
    Ok(())
}

fn tests(features: &str) -> Result<()> {
    command::run(&mut cargo(&[
        "test",
        "--workspace",
        "--lib",
        "--bins",
        "--tests",
        "--features",
        features,
    ]))
}

fn doctests(features: &str, server: &Sandbox) -> Result<()> {
    command::run(on(
        server,
        &mut cargo(&["test", "--workspace", "--doc", "--features", features]),
    ))
}

/// Lets a command use this server, and no other that the developer may have set.
fn on<'a>(server: &Sandbox, command: &'a mut Command) -> &'a mut Command {
    command
        .env("PGLOCK_TEST_URL", server.url())
        .env_remove("DATABASE_URL")
}
