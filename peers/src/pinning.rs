//! One CPU for the server and the client, so that a run does not depend on their placing.

use std::fs;
use std::process::{Command, Stdio};

/// Returns the same command on one CPU, which all processes that it starts inherit.
pub fn pinned(command: &Command) -> Command {
    let mut pinned = taskset();
    pinned.arg(command.get_program()).args(command.get_args());
    pinned
}

/// Returns true if this machine can pin a process.
pub fn is_available() -> bool {
    let tried = taskset()
        .arg("true")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

fn taskset() -> Command {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut taskset = Command::new("taskset");
    taskset.args(["-c", last_cpu(&status).unwrap_or("0")]);
    taskset
}

/// Returns the last CPU that the process may use: the first one serves most interrupts.
fn last_cpu(status: &str) -> Option<&str> {
    let line = status
        .lines()
        .find(|line| line.starts_with("Cpus_allowed_list:"))?;
    line.rsplit([':', ',', '-']).next().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_cpu_is_read_from_lists_and_ranges() {
        let last = |list: &str| {
            last_cpu(&format!("Name:\tx\nCpus_allowed_list:\t{list}\nMems:\t0\n"))
                .map(str::to_owned)
        };
        assert_eq!(last("0-1").as_deref(), Some("1"));
        assert_eq!(last("0-3,8").as_deref(), Some("8"));
        assert_eq!(last("0").as_deref(), Some("0"));
        assert_eq!(last_cpu("Name:\tx\n"), None);
    }
}
