//! The settings of a watcher.

use std::sync::Arc;
use std::time::Duration;

use super::event::PrioritizerEvent;
use super::policy::Policy;
use super::protection::Protection;
use crate::signal::PG_DUMP;
use crate::views::PgActivity;

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
    pub(crate) observe: bool,
    pub(crate) spare: Vec<Spare>,
    pub(crate) spares_pg_dump: bool,
    pub(crate) on_event: Option<OnEvent>,
}

/// A closure that selects sessions to spare.
pub(crate) type Spare = Arc<dyn Fn(&PgActivity) -> bool + Send + Sync>;

impl Settings {
    /// Returns whether signals are decided and not sent.
    pub(crate) fn is_observed(&self) -> bool {
        self.observe || matches!(self.policy, Policy::Observe)
    }

    /// Returns whether signals are written to the signal log.
    pub(super) fn writes_log(&self) -> bool {
        self.audit && !self.is_observed()
    }

    /// Returns the caller's reason to spare a session.
    pub(super) fn protection(&self, activity: &PgActivity) -> Option<Protection> {
        let is_spared = self.spare.iter().any(|spare| spare(activity));
        let is_dump = self.spares_pg_dump && is_pg_dump(activity);
        match (is_spared, is_dump) {
            (true, _) => Some(Protection::Chosen),
            (false, true) => Some(Protection::PgDump),
            (false, false) => None,
        }
    }
}

fn is_pg_dump(activity: &PgActivity) -> bool {
    activity.application_name.as_deref() == Some(PG_DUMP)
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
            observe: false,
            spare: Vec::new(),
            spares_pg_dump: true,
            on_event: None,
        }
    }
}
