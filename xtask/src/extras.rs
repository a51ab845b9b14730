//! What some of the tests need beside PostgreSQL: a pooler, and German.
//!
//! Without them those tests say that they did not run.

use std::process::Command;

use pglock_sandbox::find_pgbouncer;

use crate::command::{run, succeeds};
use crate::{Result, debian};

/// Installs what is missing, as root on Debian and its like.
///
/// The other tests need none of it: a failure is shown and changes nothing.
pub fn provide() {
    if !debian::may_install() {
        return;
    }
    if find_pgbouncer().is_none() {
        show(debian::install(&["pgbouncer"]));
    }
    if !speaks_german() {
        show(learn_german());
    }
}

fn speaks_german() -> bool {
    succeeds(Command::new("sh").args(["-c", "locale -a | grep -qi '^de_DE.utf-\\?8$'"]))
}

/// One locale, compiled from its source: a second, where all of them take 200 MB.
fn learn_german() -> Result<()> {
    debian::install(&["locales"])?;
    let mut compile = Command::new("localedef");
    run(compile.args(["-i", "de_DE", "-f", "UTF-8", "de_DE.UTF-8"]))
}

fn show(installed: Result<()>) {
    if let Err(error) = installed {
        eprintln!("xtask: {error}; some tests will not run");
    }
}
