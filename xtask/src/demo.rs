//! `cargo xtask demo`: the main job, for a person to watch.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::command::{self, cargo, root};
use crate::{Result, package, postgres};

const EXAMPLE: &str = "prioritized_migration";

/// Builds the example and becomes it.
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
    // Takes the place of this process: whoever kills the demo hits the owner of the server.
    let program = env::current_exe()?.with_file_name("examples").join(EXAMPLE);
    let error = Command::new(&program).args(args).current_dir(root()).exec();
    Err(format!("could not run `{}`: {error}", program.display()).into())
}
