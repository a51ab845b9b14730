use std::fmt;
use std::time::Duration;

use super::event::MigrationEvent;
use super::run::Settings;
use crate::prioritize::Blocker;
use crate::types::TableLockMode;
use crate::views::LockedRelation;

/// What a [`PrioritizedHarness`](crate::PrioritizedHarness) did.
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HarnessReport {
    /// The migrations that were run or reverted, the one that failed last.
    pub migrations: Vec<MigrationReport>,
    /// How long it waited for other runners.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub waited_for_instances: Duration,
    /// The sessions that blocked the reading of the history, and what was done about them.
    pub history_blockers: Vec<Blocker>,
    /// What went wrong beside the migrations, and was no reason for one to fail: locks that
    /// could not be read, a migration lock that a migration released.
    pub warnings: Vec<String>,
}

impl HarnessReport {
    pub(crate) fn warn(&mut self, settings: &Settings, warning: String) {
        settings.tell(&MigrationEvent::Warning(warning.clone()));
        self.warnings.push(warning);
    }
}

/// What became of one migration.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MigrationReport {
    /// Its name, such as `2026-11-22-000000_add_age`.
    pub name: String,
    /// Whether it was reverted rather than run.
    pub reverted: bool,
    /// Whether it is done.
    pub succeeded: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// How long it waited for locks, to within the watcher's interval.
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::of_std")
    )]
    pub waited: Duration,
    /// Who was in its way, and what was done about them.
    pub blockers: Vec<Blocker>,
    /// The strongest lock that it has on each table when its SQL has run; empty for a
    /// migration outside a transaction.
    pub locks: Vec<TakenLock>,
    /// Why it was not tried again although a lock was not available: only what was exactly one
    /// transaction leaves nothing behind when it fails.
    pub not_retried: Option<String>,
    /// What went wrong with the watcher on the way.
    pub watcher_errors: Vec<String>,
    /// How long it took, with all attempts and the pauses between them.
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
    /// The strongest mode.
    pub mode: TableLockMode,
}

impl MigrationReport {
    /// Those in its way that were sent a signal.
    pub fn victims(&self) -> impl Iterator<Item = &Blocker> {
        self.blockers.iter().filter(|blocker| blocker.is_victim())
    }
}

/// A line for a person to read.
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

/// A line per migration.
impl fmt::Display for HarnessReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut migrations = self.migrations.iter();
        migrations.try_for_each(|migration| writeln!(f, "{migration}"))
    }
}
