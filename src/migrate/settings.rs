//! The settings of a harness that apply to each migration.

use std::sync::Arc;
use std::time::Duration;

use super::backoff::Backoff;
use super::event::MigrationEvent;
use crate::prioritize::Prioritizer;

/// The lock timeout of a migration, if neither the harness nor the prioritizer has one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(5);

/// The lock timeout of the first, unprioritized, attempt to read the history.
///
/// The watcher takes a connection of its own, which a history that is free does not need.
pub(crate) const AT_ONCE: Duration = Duration::from_millis(100);

/// The limit of a wait for other instances.
pub(crate) const WAIT_FOR_INSTANCES: Duration = Duration::from_secs(600);

type OnEvent = Arc<dyn Fn(&MigrationEvent) + Send + Sync>;

/// The settings of a harness that apply to each migration.
#[derive(Clone)]
pub(crate) struct Settings {
    /// `None`: the prioritizer's, or else 5 s; `Some(None)`: no limit.
    pub(crate) lock_timeout: Option<Option<Duration>>,
    pub(crate) attempts: u32,
    pub(crate) backoff: Backoff,
    pub(crate) on_event: Option<OnEvent>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lock_timeout: None,
            attempts: 3,
            backoff: Backoff::default(),
            on_event: None,
        }
    }
}

impl Settings {
    /// Returns the lock timeout of a statement, under this prioritizer; `None`: no limit.
    pub(crate) fn lock_timeout<S>(&self, prioritizer: &Prioritizer<S>) -> Option<Duration> {
        let of_prioritizer = prioritizer.settings().lock_timeout;
        let default = of_prioritizer.or(Some(LOCK_TIMEOUT));
        self.lock_timeout.unwrap_or(default)
    }

    /// Passes an event to `tracing` and to the caller's listener.
    pub(crate) fn emit(&self, event: &MigrationEvent) {
        event.trace();
        if let Some(on_event) = &self.on_event {
            on_event(event);
        }
    }
}
