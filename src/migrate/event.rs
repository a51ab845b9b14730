//! The events of a harness.

use std::time::Duration;

use super::index_progress::MigrationProgress;
use super::instance_wait::InstanceWait;
use super::report::MigrationReport;
use crate::prioritize::PrioritizerEvent;

/// An event that a [`PrioritizedHarness`](crate::PrioritizedHarness) emits while it runs.
///
/// With the feature `tracing` each is an event of `tracing` too.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // few, and passed by reference
#[non_exhaustive]
pub enum MigrationEvent {
    /// Another instance holds the migration lock: emitted at once, and then every ten seconds.
    WaitingForInstance(InstanceWait),
    /// The history of migrations cannot be read at once.
    ///
    /// In a run, sessions that lock it are signalled as if they blocked a migration. A question
    /// only waits for them.
    #[non_exhaustive]
    ReadingHistory {
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// A migration begins.
    #[non_exhaustive]
    Running {
        /// The name of the migration.
        name: String,
        /// The number of the attempt, from 1.
        attempt: u32,
    },
    /// A session blocks the migration or was signalled, or the watcher failed.
    Prioritizer(PrioritizerEvent),
    /// A migration outside a transaction has made progress; once a second at most.
    Progress(MigrationProgress),
    /// A migration, or the reading of the history, failed because of a lock, and is tried again.
    #[non_exhaustive]
    Retrying {
        /// The name of the migration, or of the history's table.
        name: String,
        /// The pause before the next attempt. It is longer, by the lock timeout at most, while a
        /// blocker that cannot be signalled holds its lock.
        after: Duration,
        /// The error of this attempt.
        error: String,
    },
    /// A failure that makes no migration fail.
    Warning(String),
    /// A migration succeeded, or failed in its last attempt.
    Finished(MigrationReport),
}

impl MigrationEvent {
    /// Emits the event to the subscriber of `tracing`; the prioritizer emits its own.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn trace(&self) {
        #[cfg(feature = "tracing")]
        match self {
            Self::WaitingForInstance(wait) => {
                tracing::info!(%wait, "waiting for another instance, which holds the migration lock");
            }
            Self::ReadingHistory { attempt } => {
                tracing::info!(attempt, "waiting for the history of migrations");
            }
            Self::Running { name, attempt } => {
                tracing::info!(%name, attempt, "running a migration");
            }
            Self::Prioritizer(_) => {}
            Self::Progress(progress) => {
                tracing::info!(name = %progress.name, %progress, "a migration makes progress");
            }
            Self::Retrying { name, after, error } => {
                tracing::warn!(%name, ?after, %error, "a migration failed because of a lock; trying it again");
            }
            Self::Warning(warning) => {
                tracing::warn!(%warning, "a failure beside the migrations");
            }
            Self::Finished(report) => {
                tracing::info!(name = %report.name, succeeded = report.succeeded, %report, "a migration has ended");
            }
        }
    }
}
