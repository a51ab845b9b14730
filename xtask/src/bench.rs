//! `cargo xtask bench`: measures the crate beside what users would pick instead.

use crate::command::{self, cargo};
use crate::{Result, libpq, postgres};

/// Builds the program in `peers/`, and runs it.
pub fn run(args: &[String]) -> Result<()> {
    postgres::ensure()?;
    let mut build = cargo(&["run", "--release", "--package", "pglock-peers"]);
    if !libpq::is_installed() {
        build.args(["--features", "diesel-pglock/bundled_without_openssl"]);
    }
    command::run(build.arg("--").args(args))
}
