//! PostgreSQL itself: found, or installed where that is ours to do.

use std::fs;
use std::process::Command;

use pglock_sandbox::{SandboxError, find_postgres, is_root};

use crate::Result;
use crate::command::run;

/// Makes sure that there is a PostgreSQL server to run.
///
/// Installs it as root on Debian and its like; says what to install elsewhere.
pub fn ensure() -> Result<()> {
    match find_postgres() {
        Ok(_) => Ok(()),
        Err(SandboxError::NotInstalled) if is_root() && is_debian() => install(),
        Err(error) => Err(error.into()),
    }
}

fn install() -> Result<()> {
    run(&mut apt_get(&["update"]))?;
    run(&mut apt_get(&[
        "install",
        "-y",
        "--no-install-recommends",
        "postgresql",
    ]))?;
    find_postgres()?;
    Ok(())
}

fn apt_get(args: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive");
    command
}

fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| names_debian(&text))
}

fn names_debian(os_release: &str) -> bool {
    let ids = os_release.lines().filter_map(|line| {
        line.strip_prefix("ID=")
            .or_else(|| line.strip_prefix("ID_LIKE="))
    });
    ids.flat_map(|ids| ids.trim_matches('"').split(' '))
        .any(|id| id == "debian" || id == "ubuntu")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_known_by_its_id_or_its_likeness() {
        assert!(names_debian("NAME=x\nID=debian\n"));
        assert!(names_debian("ID=pop\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!names_debian("ID=fedora\nVERSION=debian\n"));
    }
}
