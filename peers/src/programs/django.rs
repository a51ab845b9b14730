//! django-pglock, in a virtual environment.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use pglock_sandbox::Sandbox;

use crate::Result;

const SCRIPT: &str = include_str!("django.py");

/// The installed packages, with the version of the peer for which the targets were set.
const PACKAGES: [&str; 3] = ["django-pglock==1.8.0", "django>=5,<6", "psycopg[binary]"];

/// The marker of a finished installation.
const INSTALLED: &str = "installed";

/// A Python process that does works on request.
pub struct Django {
    process: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Django {
    /// Installs django-pglock into the folder of build results; `false` if that fails.
    pub fn install() -> Result<bool> {
        let folder = environment()?;
        Ok(folder.join(INSTALLED).exists() || create(&folder))
    }

    /// Returns true if an earlier run has installed it.
    pub fn is_installed() -> Result<bool> {
        Ok(environment()?.join(INSTALLED).exists())
    }

    /// Starts the process and connects it.
    pub fn start(server: &Sandbox) -> Result<Self> {
        let mut command = Command::new(python(&environment()?));
        command
            .args(["-c", SCRIPT])
            .arg(server.socket_dir())
            .arg(server.port().to_string());
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut django = Self {
            requests: process.stdin.take().expect("its input is piped"),
            answers: BufReader::new(process.stdout.take().expect("its output is piped")),
            process,
        };
        match django.answer()?.as_str() {
            "ready" => Ok(django),
            other => Err(format!("django-pglock did not start: {other}").into()),
        }
    }

    /// Returns the seconds of one call, as the mean of `count`.
    pub fn sample(&mut self, work: &str, count: usize) -> Result<f64> {
        writeln!(self.requests, "{work} {count}")?;
        Ok(self.answer()?.parse()?)
    }

    fn answer(&mut self) -> Result<String> {
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(answer.trim().to_owned())
    }
}

impl Drop for Django {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the folder of the virtual environment, in that of cargo's results.
fn environment() -> Result<PathBuf> {
    let program = std::env::current_exe()?;
    let target = program.ancestors().nth(2).ok_or("no target folder")?;
    Ok(target.join("django-pglock"))
}

fn create(folder: &Path) -> bool {
    let environment = run(Command::new("python3").args(["-m", "venv"]).arg(folder));
    let install = [
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
    ];
    environment
        && run(Command::new(python(folder)).args(install).args(PACKAGES))
        && fs::write(folder.join(INSTALLED), "").is_ok()
}

fn python(folder: &Path) -> PathBuf {
    folder.join("bin/python")
}

/// Runs a command whose output is of no interest; `false` if it fails or does not exist.
fn run(command: &mut Command) -> bool {
    let quiet = command.stdin(Stdio::null()).stdout(Stdio::null());
    quiet.status().is_ok_and(|status| status.success())
}
