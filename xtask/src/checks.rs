//! `cargo xtask test`: all checks, the quick checks first.

use pglock_sandbox::Sandbox;

use crate::command::{self, cargo};
use crate::{Result, bench, extras, package, postgres};

/// Runs every check; the last lines are cargo's own summaries of the tests.
pub fn run() -> Result<()> {
    postgres::ensure()?;
    extras::provide();
    let features = package::all_features()?;
    style(&features)?;
    each_feature_alone()?;
    examples(&features)?;
    tests(&features)?;
    bench::run(&["--quick".to_owned()])?;
    doctests(&features)
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

/// Checks each feature alone: none may need a feature that it does not declare.
fn each_feature_alone() -> Result<()> {
    let check = ["check", "--lib", "--no-default-features"];
    command::run(&mut cargo(&check))?;
    for feature in package::features()? {
        command::run(cargo(&check).args(["--features", &feature]))?;
    }
    Ok(())
}

/// Runs each example on a server of its own, whatever `DATABASE_URL` the developer has set.
fn examples(features: &str) -> Result<()> {
    for example in package::examples()? {
        let args = ["run", "--features", features, "--example", &example];
        command::run(cargo(&args).env_remove("DATABASE_URL"))?;
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

/// Runs the doctests on one server; otherwise each of them would start one.
fn doctests(features: &str) -> Result<()> {
    let server = Sandbox::start()?;
    let args = ["test", "--workspace", "--doc", "--features", features];
    command::run(cargo(&args).env("PGLOCK_TEST_URL", server.url()))
}
