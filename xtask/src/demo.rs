//! `cargo xtask demo`: a blocked migration, step by step.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::command::{self, cargo, root};
use crate::{Result, package, postgres};

const EXAMPLE: &str = "prioritized_migration";

/// Builds the example and replaces this process with it.
pub fn run(args: &[String]) -> Result<()> {
    if env::var_os("DATABASE_URL").is_none_or(|url| url.is_empty()) {
        postgres::ensure()?;
    }
    command::run(&mut cargo(&[
        "build",
        "--example",
        EXAMPLE,
        "--features",
        &package::all_features()?,
    ]))?;
    // The example replaces this process, so that a signal to the demo reaches the server's owner.
    let program = env::current_exe()?.with_file_name("examples").join(EXAMPLE);
    let error = Command::new(&program).args(args).current_dir(root()).exec();
    Err(format!("could not run `{}`: {error}", program.display()).into())
}
