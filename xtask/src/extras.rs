//! Requirements of some tests beside PostgreSQL: PgBouncer and a German locale.
//!
//! Without them, these tests print that they were skipped.

use std::process::Command;

use pglock_sandbox::find_pgbouncer;

use crate::command::{run, succeeds};
use crate::{Result, debian};

/// Installs missing requirements, as root on Debian and related distributions.
///
/// The other tests do not need them: a failure is printed and changes nothing.
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

/// Compiles one locale, which takes a second; the package of all locales takes 200 MB.
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
