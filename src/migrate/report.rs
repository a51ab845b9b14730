//! The report of a harness, and of each migration in it.

use std::fmt;
use std::time::Duration;

use super::event::MigrationEvent;
use super::invalid_index::InvalidIndex;
use super::settings::Settings;
use crate::prioritize::{Blocker, PrioritizerReport};
use crate::types::TableLockMode;
use crate::views::LockedRelation;

/// The report of a [`PrioritizedHarness`](crate::PrioritizedHarness).
///
/// `Display` shows a line for each migration. With the feature `serde` durations are in seconds.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HarnessReport {
    /// The migrations that were run or reverted, in this order; one that failed comes last.
    pub migrations: Vec<MigrationReport>,
    /// The time for which the harness waited for other instances.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub waited_for_instances: Duration,
    /// The sessions that blocked the reading of the history, and the signals to them.
    pub history_blockers: Vec<Blocker>,
    /// The failures that made no migration fail: locks that could not be read, for example, a
    /// migration lock that a migration released, or migrations that share a version.
    pub warnings: Vec<String>,
}

impl HarnessReport {
    pub(crate) fn warn(&mut self, settings: &Settings, warning: String) {
        settings.emit(&MigrationEvent::Warning(warning.clone()));
        self.warnings.push(warning);
    }
}

/// The report of one migration.
///
/// `Display` shows it in one line.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MigrationReport {
    /// The name of the migration, such as `2026-11-22-000000_add_age`.
    pub name: String,
    /// True if the migration was reverted, false if it was run.
    pub reverted: bool,
    /// True if it succeeded and is recorded in the history.
    pub succeeded: bool,
    /// The number of attempts, 1 or more.
    pub attempts: u32,
    /// The time for which it waited for locks in all attempts, to within the watcher's
    /// [interval](crate::Prioritizer::interval).
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub waited: Duration,
    /// The sessions that blocked it, and the signals to them.
    pub blockers: Vec<Blocker>,
    /// The strongest lock on each table when its SQL had run; empty for a migration outside a
    /// transaction.
    pub locks: Vec<TakenLock>,
    /// The indexes that it left invalid when it failed, outside a transaction.
    pub invalid_indexes: Vec<InvalidIndex>,
    /// The reason why it was not tried again after a lock failure. Only an attempt that was exactly
    /// one transaction leaves nothing behind when it fails.
    pub not_retried: Option<String>,
    /// The errors of the watcher, which made no migration fail.
    pub watcher_errors: Vec<String>,
    /// The duration of all attempts, with the pauses between them.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub duration: Duration,
}

/// A table that a migration locked.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TakenLock {
    /// The table.
    pub relation: LockedRelation,
    /// The strongest mode in which it was locked. See
    /// [Table-Level Locks](https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES).
    pub mode: TableLockMode,
}

impl MigrationReport {
    /// Returns the blockers that were sent a signal.
    pub fn victims(&self) -> impl Iterator<Item = &Blocker> {
        self.blockers.iter().filter(|blocker| blocker.is_victim())
    }

    /// Adds the waits and blockers of one attempt.
    pub(crate) fn add_watched(&mut self, watched: PrioritizerReport) {
        self.waited += watched.waited;
        self.blockers.extend(watched.blockers);
        self.watcher_errors.extend(watched.errors);
    }
}

impl fmt::Display for MigrationReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = match (self.succeeded, self.reverted) {
            (true, false) => "run",
            (true, true) => "reverted",
            (false, _) => "failed",
        };
        let Self { name, attempts, .. } = self;
        let victims = self.victims().count();
        let (duration, waited) = (self.duration.as_millis(), self.waited.as_millis());
        write!(
            f,
            "{name}: {done} in {duration} ms ({waited} ms waiting, attempts: {attempts}, victims: {victims})"
        )?;
        match &self.not_retried {
            Some(why) => write!(f, "; not tried again: {why}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for HarnessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut migrations = self.migrations.iter();
        migrations.try_for_each(|migration| writeln!(f, "{migration}"))
    }
}
