//! The settings of a harness that apply to each migration.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use diesel::migration::Migration;
use diesel::pg::Pg;

use super::backoff::Backoff;
use super::event::MigrationEvent;
use super::invalid_index::IndexRepair;
use super::options::MigrationOptions;
use crate::error::{Error, Result};
use crate::prioritize::Prioritizer;

/// The lock timeout of a migration, if neither the harness nor the prioritizer has one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The attempts at a migration, if the harness has no number.
const ATTEMPTS: u32 = 3;

/// The lock timeout of the first, unprioritized, attempt to read the history.
///
/// The watcher takes a connection of its own, which a history that is free does not need.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(100);

/// The limit of a wait for other instances.
pub(crate) const WAIT_FOR_INSTANCES: Duration = Duration::from_secs(600);

type OnEvent = Arc<dyn Fn(&MigrationEvent) + Send + Sync>;

/// The settings of a harness that apply to each migration.
#[derive(Clone, Default)]
pub(crate) struct Settings {
    pub(crate) options: MigrationOptions,
    /// The options of single migrations, by version.
    pub(crate) exceptions: HashMap<String, MigrationOptions>,
    pub(crate) backoff: Backoff,
    /// Inside the caller's transaction.
    pub(crate) within_transaction: bool,
    /// `None`: invalid indexes are reported only.
    pub(crate) index_repair: Option<IndexRepair>,
    pub(crate) on_event: Option<OnEvent>,
}

impl Settings {
    /// Returns the lock timeout of a statement, under this prioritizer; `None`: no limit.
    pub(crate) fn lock_timeout<S>(&self, prioritizer: &Prioritizer<S>) -> Option<Duration> {
        let of_prioritizer = prioritizer.settings().lock_timeout;
        let default = of_prioritizer.or(Some(LOCK_TIMEOUT));
        self.options.lock_timeout.unwrap_or(default)
    }

    /// Returns the attempts at the reading of the history, and at a migration without an exception.
    pub(crate) fn attempts(&self) -> u32 {
        self.options.attempts.unwrap_or(ATTEMPTS)
    }

    /// Refuses a prioritizer that the lock timeouts of all attempts leave no time to signal.
    ///
    /// A block in one transaction goes on in the next attempt.
    pub(crate) fn refuse_slow_policy<S>(&self, prioritizer: &Prioritizer<S>) -> Result<()> {
        let Some(timeout) = self.lock_timeout(prioritizer) else {
            return Ok(());
        };
        let settings = prioritizer.settings();
        let needed = settings.grace.saturating_add(settings.policy.duration());
        let timeouts = timeout.saturating_mul(self.attempts());
        match needed > timeouts && !settings.is_observed() {
            true => Err(Error::NeverSignals { needed, timeouts }),
            false => Ok(()),
        }
    }

    /// Sets options for the migration with this version, or this name.
    pub(crate) fn set_exception(
        &mut self,
        version: &str,
        options: impl FnOnce(MigrationOptions) -> MigrationOptions,
    ) {
        // As Diesel reads the name of a migration.
        let version = version.split('_').next().unwrap_or_default();
        let exception = self.exceptions.entry(version.replace('-', "")).or_default();
        *exception = options(mem::take(exception));
    }

    /// Returns the options that were set for this migration alone.
    pub(crate) fn exception(&self, migration: &dyn Migration<Pg>) -> MigrationOptions {
        let version = migration.name().version().to_string();
        self.exceptions.get(&version).cloned().unwrap_or_default()
    }

    /// Passes an event to `tracing` and to the caller's listener.
    pub(crate) fn emit(&self, event: &MigrationEvent) {
        event.trace();
        if let Some(on_event) = &self.on_event {
            on_event(event);
        }
    }
}
