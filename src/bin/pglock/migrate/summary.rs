//! The last lines of a migration run: the locks of each migration, and the totals.

use std::fmt::Write;
use std::time::Duration;

use chrono::TimeDelta;
use diesel_pglock::internal::format_duration;
use diesel_pglock::{HarnessReport, MigrationReport};

use crate::output::clean;

/// Returns the locks of each migration, and the totals of the run.
pub fn summary(report: &HarnessReport, reverted: bool) -> String {
    let mut text: String = report.migrations.iter().map(lock_lines).collect();
    text += &counts(&report.migrations, reverted);
    match victims(report) {
        0 => {}
        1 => text += ", 1 blocker signalled",
        more => {
            let _ = write!(text, ", {more} blockers signalled");
        }
    }
    let waited: Duration = report.migrations.iter().map(|it| it.waited).sum();
    if waited.as_millis() > 0 {
        let waited = TimeDelta::from_std(waited).unwrap_or(TimeDelta::MAX);
        let _ = write!(text, ", {} waiting for locks", format_duration(waited));
    }
    text + "\n"
}

fn lock_lines(migration: &MigrationReport) -> String {
    let name = clean(&migration.name);
    let locks = migration.locks.iter();
    let lines = locks.map(|lock| {
        let relation = clean(&lock.relation.to_string());
        format!("{name} locked {relation} in {} mode\n", lock.mode)
    });
    lines.collect()
}

fn counts(migrations: &[MigrationReport], reverted: bool) -> String {
    let done = migrations.iter().filter(|it| it.succeeded).count();
    let failed = migrations.len() - done;
    let (past, infinitive) = if reverted {
        ("reverted", "revert")
    } else {
        ("run", "run")
    };
    match (done, failed) {
        (0, 0) => format!("nothing to {infinitive}"),
        (_, 0) => format!("{done} {past}"),
        _ => format!("{done} {past}, {failed} failed"),
    }
}

fn victims(report: &HarnessReport) -> usize {
    let of_history = report.history_blockers.iter().filter(|it| it.is_victim());
    let of_migrations = report.migrations.iter().flat_map(MigrationReport::victims);
    of_history.chain(of_migrations).count()
}
