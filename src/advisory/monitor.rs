//! The settings of a monitor, and the source of its connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Watches the locks that are [`monitored`](crate::AdvisoryLock::monitored) with it.
///
/// While the closure of such a lock runs, a monitor on a connection of its own looks for the
/// lock in `pg_locks`. The lock can disappear because its session was terminated, the server
/// restarted, or the closure released it. [`Held`](crate::Held) reports this, and also reports
/// a lock as lost while the server gives no answer.
///
/// The source is a database URL, a pool or a closure: a [`WatcherSource`](crate::WatcherSource),
/// or an `AsyncWatcherSource` for async connections. The monitor needs no privileges. It may use
/// another role, and another database of the same server. Its connection is opened before the
/// lock is asked for, and closed, or returned to its pool, at the end of the run. If it fails,
/// the monitor opens another one.
///
/// A monitor is cheap to clone, and one serves many runs.
///
/// # Examples
///
/// ```
/// # include!("../../tests/support/doctest.rs");
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let mut conn = connection();
/// use std::thread::sleep;
/// use std::time::Duration;
///
/// use diesel::connection::SimpleConnection;
/// use diesel_pglock::{Error, LockMonitor, prelude::*};
///
/// let monitor = LockMonitor::new(database_url()).interval(Duration::from_millis(20));
/// let lock = conn.advisory("leader").monitored(&monitor);
/// let led = lock.run(|conn, held| {
///     assert!(!held.is_lost());
///     conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
///     while !held.is_lost() {
///         sleep(Duration::from_millis(5));
///     }
///     Ok::<_, Error>(())
/// });
/// assert!(matches!(led, Err(Error::NotHeld(_))));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct LockMonitor<S> {
    source: Arc<S>,
    settings: MonitorSettings,
}

/// The times of a monitor.
#[derive(Clone, Copy, Debug)]
pub(super) struct MonitorSettings {
    pub(super) interval: Duration,
    pub(super) patience: Duration,
}

/// The shortest interval, since each poll copies the server's lock table.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

impl<S> LockMonitor<S> {
    /// Creates a monitor with connections from `source`: a database URL, a pool, or a closure
    /// that connects.
    pub fn new(source: S) -> Self {
        Self {
            source: Arc::new(source),
            settings: MonitorSettings {
                interval: Duration::from_secs(1),
                patience: Duration::from_secs(10),
            },
        }
    }

    /// Sets the time between two polls; default: 1 s, at least 10 ms.
    ///
    /// Each poll reads `pg_locks` once. With 100,000 locks on the server a read delays other
    /// sessions noticeably; keep the interval at a second or more there.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.settings.interval = interval.max(MIN_INTERVAL);
        self
    }

    /// Sets the time without an answer after which a lock counts as lost; default: 10 s.
    ///
    /// It starts one interval after the last poll that found the lock. A monitor whose
    /// connection failed has this time to open another one. The commit of the token counts as
    /// well: if it takes longer, for example on a slow synchronous standby, the lock counts as
    /// lost from the start.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.settings.patience = patience;
        self
    }

    pub(super) fn source(&self) -> &Arc<S> {
        &self.source
    }

    pub(super) fn settings(&self) -> MonitorSettings {
        self.settings
    }
}

/// Clones share the source, which need not be `Clone`.
impl<S> Clone for LockMonitor<S> {
    fn clone(&self) -> Self {
        Self {
            source: Arc::clone(&self.source),
            settings: self.settings,
        }
    }
}

/// The source may hold a password, and is left out.
impl<S> fmt::Debug for LockMonitor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockMonitor")
            .field("interval", &self.settings.interval)
            .field("patience", &self.settings.patience)
            .finish_non_exhaustive()
    }
}
