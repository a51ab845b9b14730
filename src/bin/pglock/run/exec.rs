//! The start of the command.
//!
//! On Linux the process first is `pglock` itself, which asks the kernel for SIGTERM in case the
//! process that holds the lock dies, and then becomes the command. A killed `pglock` would leave a
//! command that runs without the lock.

use std::ffi::{OsStr, OsString};
use std::io::{Error, ErrorKind};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use crate::output::print_error;

/// The first argument of a process that is to become a command.
const EXEC: &str = "__exec";

/// The command cannot be run, or is not found; the codes are those of shells.
const CANNOT_RUN: u8 = 126;
const NOT_FOUND: u8 = 127;

/// Returns a command that dies with this process, where the system can do that.
pub fn command(words: &[OsString]) -> Command {
    if cfg!(target_os = "linux") {
        let mut command = Command::new("/proc/self/exe");
        let parent = std::process::id().to_string();
        command.arg(EXEC).arg(parent).args(words);
        command
    } else {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Becomes a command, if this process was started for it; returns the code of the failure to do so.
pub fn become_command() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().as_deref() != Some(OsStr::new(EXEC)) {
        return None;
    }
    let parent = arguments.next()?.to_str()?.parse().ok()?;
    let words: Vec<OsString> = arguments.collect();
    let program = words.first()?;
    if let Err(error) = die_with(parent) {
        return Some(cannot_run(&words, &error).into());
    }
    let error = Command::new(program).args(&words[1..]).exec();
    Some(cannot_run(&words, &error).into())
}

/// Asks for SIGTERM at the death of the parent, which may have died before.
#[cfg(target_os = "linux")]
fn die_with(parent: u32) -> std::io::Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    set_parent_process_death_signal(Some(Signal::TERM))?;
    let is_alive = getppid().is_some_and(|it| it.as_raw_nonzero().get() as u32 == parent);
    let gone = || Error::other("the process that holds the lock has died");
    is_alive.then_some(()).ok_or_else(gone)
}

#[cfg(not(target_os = "linux"))]
fn die_with(_parent: u32) -> std::io::Result<()> {
    Ok(())
}

/// Reports why a command cannot be run, and returns the exit code.
pub fn cannot_run(words: &[OsString], error: &Error) -> u8 {
    let program = words[0].to_string_lossy();
    print_error(&format!("`{program}`: {error}"));
    match error.kind() {
        ErrorKind::NotFound => NOT_FOUND,
        _ => CANNOT_RUN,
    }
}
