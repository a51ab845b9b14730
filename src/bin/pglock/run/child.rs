//! The process of the command: its signals, its end, and the loss of the lock.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, exit};
use std::thread::sleep;
use std::time::Duration;

use diesel_pglock::Held;
use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use super::exec::{cannot_run, command};
use crate::failure::NOT_RUN;
use crate::output::print_error;

/// The lock was lost while the command ran.
pub const LOST: u8 = 123;

/// The variable in which the command finds the fencing token.
const TOKEN: &str = "PGLOCK_TOKEN";

/// The time between two looks at the process and the lock.
const POLL: Duration = Duration::from_millis(20);

/// Runs a command to its end, and returns the exit code. If the lock is lost, the command gets
/// SIGTERM, and `pglock` ends with it.
pub fn run(words: &[OsString], held: &Held) -> u8 {
    // From here on a signal does not end this process before the command has ended.
    let signals = match Signals::new([SIGTERM, SIGHUP, SIGINT, SIGQUIT]) {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    match command(words).env(TOKEN, held.token().to_string()).spawn() {
        Ok(child) => attend(child, signals, held).unwrap_or_else(|error| failed(&error)),
        Err(error) => cannot_run(words, &error),
    }
}

fn failed(error: &std::io::Error) -> u8 {
    print_error(&error.to_string());
    NOT_RUN
}

/// Waits for the end of the command.
fn attend(mut child: Child, mut signals: Signals, held: &Held) -> std::io::Result<u8> {
    let mut is_told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            if is_told {
                // The lock's session may not answer any more; it ends with this process.
                exit(LOST.into());
            }
            return Ok(code(status));
        }
        for signal in signals.pending() {
            forward(&child, signal);
        }
        if held.is_lost() && !is_told {
            is_told = true;
            print_error("the lock is lost; SIGTERM is sent to the command");
            forward(&child, SIGTERM);
        }
        sleep(POLL);
    }
}

/// Sends a signal to the command, unless a terminal has sent it there already.
fn forward(child: &Child, signal: i32) {
    if let (SIGTERM | SIGHUP, Some(signal)) = (signal, Signal::from_named_raw(signal)) {
        // The process exists until its end is read.
        let _ = kill_process(Pid::from_child(child), signal);
    }
}

/// Returns the exit code of a process, as shells count it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .unwrap_or(u8::MAX)
}
