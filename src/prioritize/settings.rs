//! The settings of a watcher.

use std::sync::Arc;
use std::time::Duration;

use super::event::PrioritizerEvent;
use super::policy::Policy;

/// The minimum time between two polls: the precision of timers.
pub(super) const MIN_INTERVAL: Duration = Duration::from_millis(1);

/// The settings of a [`Prioritizer`](super::Prioritizer).
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) interval: Duration,
    pub(crate) grace: Duration,
    pub(crate) policy: Policy,
    pub(crate) victims: Victims,
    pub(crate) once: bool,
    pub(crate) max_victims: Option<usize>,
    pub(crate) lock_timeout: Option<Duration>,
    pub(crate) audit: bool,
    pub(crate) on_event: Option<OnEvent>,
}

/// The handler of events.
pub(crate) type OnEvent = Arc<dyn Fn(&PrioritizerEvent) + Send + Sync>;

/// The blockers that are signalled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Victims {
    /// Signals the roots: the blockers that do not wait themselves. They block the
    /// prioritized session directly, or through other sessions. Sessions that only queue
    /// before the prioritized session survive. In a deadlock with the prioritized session
    /// there is no root: there its direct blocker is signalled.
    #[default]
    Roots,
    /// Signals every direct blocker, waiting or not.
    All,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(100),
            grace: Duration::from_secs(1),
            policy: Policy::default(),
            victims: Victims::default(),
            once: false,
            max_victims: None,
            lock_timeout: None,
            audit: false,
            on_event: None,
        }
    }
}
