//! The last lines of a migration run: the locks of each migration, and the totals.

use std::fmt::Write;
use std::time::Duration;

use chrono::TimeDelta;
use diesel_pglock::internal::format_duration;
use diesel_pglock::{HarnessReport, MigrationReport};

use super::command::Action;
use crate::output::clean;

/// Returns the locks of each migration, and the totals of the run.
pub fn summary(report: &HarnessReport, action: Action) -> String {
    let mut text: String = report.migrations.iter().map(lock_lines).collect();
    text += &counts(&report.migrations, action);
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

fn counts(migrations: &[MigrationReport], action: Action) -> String {
    let done = |reverted| {
        let done = migrations.iter().filter(|it| it.succeeded);
        done.filter(|it| it.reverted == reverted).count()
    };
    let (reverted, run) = (done(true), done(false));
    if migrations.is_empty() {
        return match action {
            Action::Revert | Action::Redo => "nothing to revert".to_owned(),
            _ => "nothing to run".to_owned(),
        };
    }
    let counted = match action {
        Action::Revert => format!("{reverted} reverted"),
        Action::Redo => format!("{reverted} reverted, {run} run"),
        _ => format!("{run} run"),
    };
    match migrations.len() - reverted - run {
        0 => counted,
        failed => format!("{counted}, {failed} failed"),
    }
}

fn victims(report: &HarnessReport) -> usize {
    let of_history = report.history_blockers.iter().filter(|it| it.is_victim());
    let of_migrations = report.migrations.iter().flat_map(MigrationReport::victims);
    of_history.chain(of_migrations).count()
}
