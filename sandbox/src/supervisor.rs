//! The shell script that ends a server with the process that owns it.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::account::Account;
use crate::directory::Directory;
use crate::error::During;
use crate::{SandboxError, binaries};

pub(crate) const SCRIPT: &str = include_str!("supervisor.sh");

/// Starts the script, which the directory already holds, and with it the server.
pub(crate) fn start(
    bin_dir: &Path,
    directory: &Directory,
    account: Option<&Account>,
) -> Result<Child, SandboxError> {
    shell("supervisor.sh", bin_dir, directory, account)
}

/// Starts a script of the directory, with one argument.
pub(crate) fn shell(
    script: &str,
    argument: &Path,
    directory: &Directory,
    account: Option<&Account>,
) -> Result<Child, SandboxError> {
    let log = File::create(directory.log())
        .during(|| format!("create `{}`", directory.log().display()))?;
    let errors = log.try_clone().during(|| "share the log file".to_owned())?;
    let mut command = Command::new("/bin/sh");
    command
        .arg(script)
        .arg(argument)
        .current_dir(directory.path());
    // Ctrl-C in the terminal reaches the owner's group only; the supervisor notices its end.
    command.process_group(0);
    command.stdin(Stdio::piped()).stdout(log).stderr(errors);
    set_environment(&mut command, argument);
    if let Some(account) = account {
        command.uid(account.uid).gid(account.gid);
    }
    command.spawn().during(|| "start `/bin/sh`".to_owned())
}

/// Sets a fixed environment: `PGDATA` or `LANGUAGE` of the owner would change the server.
fn set_environment(command: &mut Command, bin_dir: &Path) {
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    if let Some(libraries) = binaries::library_path(bin_dir) {
        command.env("LD_LIBRARY_PATH", libraries);
    }
}

/// Requests an immediate stop and another start.
pub(crate) fn restart(supervisor: &Child) -> Result<(), SandboxError> {
    let mut orders = supervisor
        .stdin
        .as_ref()
        .expect("only `wait` takes it, at the end");
    orders
        .write_all(b"restart\n")
        .during(|| "reach the server's supervisor".to_owned())
}
