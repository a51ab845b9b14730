//! The advisory lock by which instances take turns.

use std::thread;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;

use super::applied_migrations::BoxedError;
use super::backoff::fraction;
use super::distinct::NamedVersion;
use super::event::MigrationEvent;
use super::history::HistoryPlace;
use super::instance_wait::InstanceWait;
use super::lock_timeout::with_lock_timeout;
use super::report::HarnessReport;
use super::settings::{AT_ONCE, Settings};
use crate::advisory::acquire as flow;
use crate::advisory::{AdvisoryHold, AdvisoryTarget};
use crate::error::Error;
use crate::fmt::{backquoted, with_sources};
use crate::session::{run_ready, uncached};
use crate::timeout::{WaitOption, lock_request};

/// The warning about a migration that released the lock, as `DISCARD ALL` does.
pub(crate) const REACQUIRED: &str =
    "a migration released the migration lock; it was acquired again";

/// The mean pause between two polls for the migration lock.
const PAUSE: Duration = Duration::from_millis(100);

/// The pause between two events of a wait.
const EVENT_PAUSE: Duration = Duration::from_secs(10);

/// A wait for the migration lock.
pub(crate) struct LockWait<'w> {
    pub(crate) lock: AdvisoryTarget,
    /// `None`: no limit.
    pub(crate) limit: Option<Duration>,
    /// The migrations of this instance, in their order; empty if it reverts migrations.
    pub(crate) names: &'w [NamedVersion],
    pub(crate) history: Option<&'w HistoryPlace>,
    pub(crate) settings: &'w Settings,
    pub(crate) report: &'w mut HarnessReport,
}

/// The result of a poll.
enum Poll {
    Acquired(MigrationHold),
    Busy(InstanceWait),
}

impl LockWait<'_> {
    /// Acquires the migration lock, and polls for it while another instance holds it.
    ///
    /// A session that waits inside `pg_advisory_lock` holds a snapshot. A `CREATE INDEX
    /// CONCURRENTLY` of the instance with the lock would wait for that snapshot: a deadlock.
    pub(crate) fn acquire<C>(mut self, conn: &mut C) -> Result<MigrationHold>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let started = Instant::now();
        let acquired = self.poll(conn, started);
        self.report.waited_for_instances += started.elapsed();
        acquired
    }

    fn poll<C>(&mut self, conn: &mut C, started: Instant) -> Result<MigrationHold>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let mut last_event = None::<Instant>;
        loop {
            let is_last = self.limit.is_some_and(|limit| started.elapsed() >= limit);
            if let Some(hold) = try_acquire(conn, self.lock)? {
                return Ok(hold);
            }
            let is_due = last_event.is_none_or(|event| event.elapsed() >= EVENT_PAUSE);
            if is_last || is_due {
                match self.acquire_or_describe(conn, started)? {
                    Poll::Acquired(hold) => return Ok(hold),
                    Poll::Busy(wait) if is_last => return Err(self.timed_out(wait).into()),
                    Poll::Busy(wait) => self
                        .settings
                        .emit(&MigrationEvent::WaitingForInstance(wait)),
                }
                last_event = Some(Instant::now());
            }
            thread::sleep(PAUSE.mul_f64(0.5 + fraction()));
        }
    }

    /// Tries once more, or reads which instance has the lock.
    fn acquire_or_describe<C>(&mut self, conn: &mut C, started: Instant) -> Result<Poll>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let holders = match acquire_at_once(conn, self.lock) {
            Ok(hold) => return Ok(Poll::Acquired(hold)),
            Err(Error::NotAcquired { holders, .. }) => holders,
            Err(error) => return Err(error.into()),
        };
        Ok(Poll::Busy(InstanceWait {
            waited: started.elapsed(),
            holders,
            next_migration: self.next_migration(conn),
        }))
    }

    /// Returns the first migration that is not applied yet, if the history can be read at once.
    fn next_migration<C>(&mut self, conn: &mut C) -> Option<String>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        if self.names.is_empty() {
            return None;
        }
        let known = self.history;
        let (report, settings) = (&mut *self.report, self.settings);
        let applied = with_lock_timeout(conn, Some(AT_ONCE), report, settings, |conn| {
            Ok(HistoryPlace::find(conn, known)?.read(conn)?)
        });
        let applied = applied.ok()?.unwrap_or_default();
        let next = self.names.iter().find(|it| !applied.contains(&it.version));
        next.map(|it| it.name.clone())
    }

    fn timed_out(&self, wait: InstanceWait) -> Error {
        let next = wait.next_migration.map(|name| backquoted(&name, 80));
        let next = next.map_or_else(String::new, |name| {
            format!("; the next migration is {name}")
        });
        Error::NotAcquired {
            lock: format!("the migration lock ({}{next})", self.lock),
            waited: wait.waited,
            holders: wait.holders,
        }
    }
}

fn try_acquire<C>(conn: &mut C, lock: AdvisoryTarget) -> crate::error::Result<Option<MigrationHold>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let (mut driver, wait) = (uncached(conn), WaitOption::NoWait);
    if lock.xact {
        let lock = flow::XactLock(lock);
        let acquired = run_ready(lock_request::try_acquire(&mut driver, &lock, wait))?;
        return Ok(acquired.map(|()| MigrationHold::Transaction));
    }
    let acquired = run_ready(flow::try_acquire(&mut driver, lock, wait))?;
    Ok(acquired.map(MigrationHold::Session))
}

/// Acquires the lock, or fails with an error that names its holders.
fn acquire_at_once<C>(conn: &mut C, lock: AdvisoryTarget) -> crate::error::Result<MigrationHold>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let (mut driver, wait) = (uncached(conn), WaitOption::NoWait);
    if lock.xact {
        let lock = flow::XactLock(lock);
        run_ready(lock_request::acquire(&mut driver, &lock, wait))?;
        return Ok(MigrationHold::Transaction);
    }
    let acquired = run_ready(flow::acquire(&mut driver, lock, wait))?;
    Ok(MigrationHold::Session(acquired))
}

/// The migration lock, while this session holds it.
pub(crate) enum MigrationHold {
    Session(AdvisoryHold),
    /// Until the caller's transaction ends.
    Transaction,
}

impl MigrationHold {
    /// Releases the lock after a panic, and rolls back what is open.
    pub(crate) fn leave<C>(self, conn: &mut C)
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        if let Self::Session(hold) = self {
            let _ = run_ready(hold.leave(&mut uncached(conn), false));
        }
    }

    /// Releases the lock, unless it ends with the transaction.
    ///
    /// A lock that is gone, or ends with its session, undoes no migration: it becomes a warning.
    pub(crate) fn release<C>(
        self,
        conn: &mut C,
        report: &mut HarnessReport,
        settings: &Settings,
    ) -> crate::error::Result<()>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let Self::Session(hold) = self else {
            return Ok(());
        };
        let released = run_ready(hold.release(&mut uncached(conn)));
        let warning = match released {
            Ok(()) | Err(Error::SessionChanged { .. }) => return released,
            Err(Error::NotHeld(_)) => "a migration released the migration lock".to_owned(),
            Err(error) => format!(
                "the migration lock could not be released, and the session was ended: {}",
                with_sources(&error)
            ),
        };
        report.warn(settings, warning);
        Ok(())
    }
}

/// Acquires a lock that a migration has released, without waiting.
pub(crate) fn acquire_again<C>(conn: &mut C, lock: AdvisoryTarget) -> crate::error::Result<()>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let acquired = acquire_at_once(conn, lock);
    // The hold of the run is released at its end.
    acquired.map(drop).map_err(lost_lock)
}

fn lost_lock(mut error: Error) -> Error {
    if let Error::NotAcquired { lock, .. } = &mut error {
        *lock = format!("the migration lock, which a migration released ({lock}),");
    }
    error
}

/// Returns true if a migration released the migration lock, and another instance has it.
pub(crate) fn is_lost_lock(error: &BoxedError) -> bool {
    error
        .downcast_ref::<Error>()
        .is_some_and(Error::is_not_acquired)
}
