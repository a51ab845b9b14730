//! The machine of a run, and the versions of what it measures.

use std::fs;
use std::process::Command;
use std::thread;

/// The versions of all crates.
const LOCK_FILE: &str = include_str!("../../Cargo.lock");

/// The peers that are crates.
const CRATES: [&str; 5] = [
    "diesel",
    "diesel-async",
    "diesel_migrations",
    "sqlx",
    "tokio-postgres",
];

/// Returns the date, the size of the run, and the machine, in one line.
pub fn describe(is_quick: bool) -> String {
    let date = chrono::Utc::now().format("%Y-%m-%d");
    let size = if is_quick { "quick" } else { "full" };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu_model(&info).unwrap_or(std::env::consts::ARCH);
    format!("{date}, {size} run, {model}, {cpus} CPUs.")
}

/// Returns the versions of the compiler and of the peers that are crates.
pub fn versions() -> String {
    let crates = CRATES
        .iter()
        .filter_map(|name| Some(format!("{name} {}", locked(LOCK_FILE, name)?)));
    let versions: Vec<String> = crates.chain(rustc()).collect();
    versions.join("; ")
}

fn cpu_model(info: &str) -> Option<&str> {
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim())
}

/// Returns the version of a crate in a lock file.
fn locked<'a>(lock_file: &'a str, name: &str) -> Option<&'a str> {
    let head = format!("name = \"{name}\"\nversion = \"");
    let (_, rest) = lock_file.split_once(&head)?;
    rest.split('"').next()
}

fn rustc() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (!version.is_empty()).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_a_crate_is_read() {
        let lock = "[[package]]\nname = \"diesel\"\nversion = \"2.3.9\"\n\n[[package]]\nname = \"sqlx\"\nversion = \"0.8.6\"\n";
        assert_eq!(locked(lock, "sqlx"), Some("0.8.6"));
        assert_eq!(locked(lock, "sqlx-core"), None);
    }

    #[test]
    fn every_peer_that_is_a_crate_has_a_version() {
        for name in CRATES {
            assert!(locked(LOCK_FILE, name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_model_of_the_cpu_is_read() {
        let info = "processor\t: 0\nmodel name\t: Fast CPU @ 3 GHz\nstepping\t: 1\n";
        assert_eq!(cpu_model(info), Some("Fast CPU @ 3 GHz"));
    }
}
