//! PostgreSQL's own benchmark client.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use pglock_sandbox::find_postgres;

use crate::Result;

/// The program.
#[derive(Clone, Debug)]
pub struct Pgbench {
    program: PathBuf,
}

impl Pgbench {
    /// Finds the program beside the server's, else in `PATH`.
    ///
    /// Some packages of the server lack it; that of another version serves as well.
    pub fn find() -> Result<Option<Self>> {
        let beside = find_postgres()?.join("pgbench");
        let candidates = [
            beside,
            PathBuf::from("pgbench"),
            PathBuf::from("/usr/bin/pgbench"),
        ];
        let runs = |program: &PathBuf| {
            Command::new(program)
                .arg("--version")
                .output()
                .is_ok_and(|it| it.status.success())
        };
        let program = candidates.into_iter().find(runs);
        Ok(program.map(|program| Self { program }))
    }

    /// Returns the seconds of one run of a script, as the mean of `count` on one session.
    ///
    /// Each statement is prepared once. The time to connect does not count.
    pub fn sample(&self, url: &str, script: &str, count: usize) -> Result<f64> {
        let mut command = Command::new(&self.program);
        command.args([
            "-n", "-M", "prepared", "-c", "1", "-j", "1", "-f", "-", "-t",
        ]);
        command.arg(count.to_string()).arg(url);
        let output = feed(&mut command, script)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let tps = tps(&text)
            .ok_or_else(|| format!("pgbench: {text}{}", String::from_utf8_lossy(&output.stderr)))?;
        Ok(1.0 / tps)
    }
}

/// Runs a command that reads a text.
fn feed(command: &mut Command, text: &str) -> Result<Output> {
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn()?;
    let mut stdin = child.stdin.take().expect("its input is piped");
    stdin.write_all(text.as_bytes())?;
    drop(stdin);
    Ok(child.wait_with_output()?)
}

/// Returns the transactions per second; 13 prints two figures, the last without connecting.
fn tps(output: &str) -> Option<f64> {
    let line = output.lines().rfind(|line| line.starts_with("tps = "))?;
    line.split(' ').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figure_without_connecting_is_read() {
        let of_13 = "latency average = 0.1 ms\ntps = 9.5 (including connections establishing)\ntps = 10.5 (excluding connections establishing)\n";
        assert_eq!(tps(of_13), Some(10.5));
        assert_eq!(
            tps("tps = 7.25 (without initial connection time)\n"),
            Some(7.25)
        );
        assert_eq!(tps("pgbench: error\n"), None);
    }
}
