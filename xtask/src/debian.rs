//! Packages of Debian and related distributions, which only root installs.

use std::fs;
use std::process::Command;

use pglock_sandbox::is_root;

use crate::Result;
use crate::command::run;

/// Returns `true` if this process can install packages.
pub fn may_install() -> bool {
    is_root() && is_debian()
}

/// Installs packages without the packages that they recommend.
pub fn install(packages: &[&str]) -> Result<()> {
    run(&mut apt_get(&["update"]))?;
    // Container images exclude the translations of messages.
    let mut install = apt_get(&[
        "install",
        "-y",
        "--no-install-recommends",
        "-o",
        "Dpkg::Options::=--path-include=/usr/share/locale/de/*",
    ]);
    run(install.args(packages))
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
