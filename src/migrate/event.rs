use std::time::Duration;

use super::report::MigrationReport;
use crate::prioritize::PrioritizerEvent;

/// What a [`PrioritizedHarness`](crate::PrioritizedHarness) tells while it runs.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // few, and passed by reference
#[non_exhaustive]
pub enum MigrationEvent {
    /// Another runner holds the runners' lock.
    WaitingForInstance,
    /// The history of migrations cannot be read at once. In a run, sessions that lock it are
    /// dealt with as if they blocked a migration; a question waits for them.
    #[non_exhaustive]
    ReadingHistory {
        /// Which try it is, counted from 1.
        attempt: u32,
    },
    /// A migration begins.
    #[non_exhaustive]
    Running {
        /// Its name.
        name: String,
        /// Which try it is, counted from 1.
        attempt: u32,
    },
    /// Somebody is in the way, was signalled, or the watcher failed.
    Prioritizer(PrioritizerEvent),
    /// A migration, or the reading of the history, failed for want of a lock, and is tried again.
    #[non_exhaustive]
    Retrying {
        /// Its name, or that of the history.
        name: String,
        /// After how long.
        after: Duration,
        /// What failed.
        error: String,
    },
    /// Something went wrong beside the migrations, and is no reason for one to fail.
    Warning(String),
    /// A migration is done, or has failed for good.
    Finished(MigrationReport),
}

impl MigrationEvent {
    /// Emits the event to the subscriber of `tracing`; the prioritizer emits its own.
    #[cfg_attr(not(feature = "tracing"), allow(clippy::unused_self))]
    pub(crate) fn trace(&self) {
        #[cfg(feature = "tracing")]
        match self {
            Self::WaitingForInstance => {
                tracing::info!("another runner is at the migrations; waiting for it");
            }
            Self::ReadingHistory { attempt } => {
                tracing::info!(
                    attempt,
                    "the history of migrations is locked; waiting for it"
                );
            }
            Self::Running { name, attempt } => {
                tracing::info!(%name, attempt, "running a migration");
            }
            Self::Prioritizer(_) => {}
            Self::Retrying { name, after, error } => {
                tracing::warn!(%name, ?after, %error, "a migration failed for want of a lock; trying it again");
            }
            Self::Warning(warning) => {
                tracing::warn!(%warning, "something went wrong beside the migrations");
            }
            Self::Finished(report) => {
                tracing::info!(name = %report.name, succeeded = report.succeeded, %report, "a migration has ended");
            }
        }
    }
}
