//! The memory of a process that loads a list of locks.

use std::fs;
use std::process::Command;

use diesel::{Connection, PgConnection, RunQueryDsl};
use diesel_pglock::PgLock;

use super::support::{LockRow, hold_locks, locks_by_hand};
use crate::bench::Bench;
use crate::figures::Spread;
use crate::row::{Figure, Row};
use crate::work::Work;
use crate::{Result, check};

pub const WORK: Work = Work {
    name: "memory",
    summary: "the peak memory of a list of 100,000 locks",
    has_free_targets: false,
    run,
};

/// The mebibytes that 100,000 locks may take, with the process itself.
const LIMIT: f64 = 120.0;

/// The mebibytes of a process that has connected.
const BASE: f64 = 10.0;

fn run(bench: &Bench) -> Result<Vec<Row>> {
    let locks = bench.pick(100_000, 30_000);
    let holders = hold_locks(bench, locks)?;
    let (ours, by_hand) = (peak(bench, locks, "ours")?, peak(bench, locks, "by-hand")?);
    drop(holders);
    let title = format!("peak memory of a list of {locks} locks");
    let most = BASE + (LIMIT - BASE) * locks as f64 / 100_000.0;
    let by_hand = row(&format!("{title}, 25 columns by hand"), by_hand);
    Ok(vec![
        row(&title, ours).at_most(most).known_gap(310.0),
        by_hand,
    ])
}

fn row(title: &str, mebibytes: f64) -> Row {
    Row::new(title, Figure::Mebibytes, Spread::exact(mebibytes), 1)
}

/// The first argument of a process that loads a list and prints its peak.
pub const CHILD: &str = "peak-of-list";

/// Returns the peak of a process of its own, whose memory no other work has used.
fn peak(bench: &Bench, locks: usize, what: &str) -> Result<f64> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args([
        CHILD,
        what,
        &bench.url,
        &bench.version().to_string(),
        &locks.to_string(),
    ]);
    let output = child.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let peak = text.trim().parse();
    peak.map_err(|_| format!("no peak: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// Loads a list, and prints the peak of this process in mebibytes.
pub fn load(arguments: &[&str]) -> Result<()> {
    let [what, url, version, locks] = arguments else {
        return Err("a list, a URL, a version and a number of locks are needed".into());
    };
    let mut conn = PgConnection::establish(url)?;
    let listed = match *what {
        "ours" => PgLock::query().load::<PgLock>(&mut conn)?.len(),
        _ => locks_by_hand(version.parse()?)
            .load::<LockRow>(&mut conn)?
            .len(),
    };
    check(listed >= locks.parse()?, || {
        format!("{listed} locks were listed")
    })?;
    let status = fs::read_to_string("/proc/self/status")?;
    println!(
        "{}",
        peak_mebibytes(&status).ok_or("no peak in /proc/self/status")?
    );
    Ok(())
}

fn peak_mebibytes(status: &str) -> Option<f64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: f64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_read_in_mebibytes() {
        let status = "VmPeak:\t  9000 kB\nVmHWM:\t    5120 kB\nVmRSS:\t 1 kB\n";
        assert_eq!(peak_mebibytes(status), Some(5.0));
        assert_eq!(peak_mebibytes("VmRSS:\t 1 kB\n"), None);
    }
}
