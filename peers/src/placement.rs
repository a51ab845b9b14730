//! The CPUs of a run: one for the server and the client, or all.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

/// The CPUs that the server and the client may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// Both share one CPU, so that the figures do not depend on the scheduler.
    OneCpu,
    AllCpus,
}

impl Placement {
    /// Returns true if this machine can do that.
    pub fn is_available(self) -> bool {
        let mut tried = self.command("true");
        let tried = tried.stdout(Stdio::null()).stderr(Stdio::null()).status();
        tried.is_ok_and(|status| status.success())
    }

    /// Returns a command on these CPUs; all processes that it starts inherit them.
    pub fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::AllCpus => Command::new(program),
            Self::OneCpu => {
                let mut taskset = taskset();
                taskset.arg(program);
                taskset
            }
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OneCpu => "one",
            Self::AllCpus => "all",
        })
    }
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
