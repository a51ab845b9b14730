//! The advisory lock by which instances take turns.

use std::thread;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;

use super::applied_migrations::BoxedError;
use super::backoff::fraction;
use super::event::MigrationEvent;
use super::lock_timeout::with_lock_timeout;
use super::report::HarnessReport;
use super::settings::{AT_ONCE, Settings};
use crate::advisory::acquire as flow;
use crate::advisory::{AdvisoryHold, AdvisoryTarget, might_hold};
use crate::error::Error;
use crate::fmt::with_sources;
use crate::session::{run_ready, uncached};
use crate::timeout::WaitOption;

/// The warning about a migration that released the lock, as `DISCARD ALL` does.
pub(crate) const REACQUIRED: &str =
    "a migration released the migration lock; it was acquired again";

/// The mean pause between two polls for the migration lock.
const POLL: Duration = Duration::from_millis(100);

/// Acquires the migration lock, and polls for it while another instance holds it.
///
/// A session that waits inside `pg_advisory_lock` holds a snapshot. A `CREATE INDEX
/// CONCURRENTLY` of the instance with the lock would wait for that snapshot: a deadlock.
pub(crate) fn acquire_migration_lock<C>(
    conn: &mut C,
    lock: AdvisoryTarget,
    timeout: Option<Duration>,
    settings: &Settings,
) -> Result<AdvisoryHold>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let started = Instant::now();
    let mut has_waited = false;
    loop {
        let is_last = timeout.is_some_and(|timeout| started.elapsed() >= timeout);
        let mut driver = uncached(conn);
        let polled = flow::try_acquire(&mut driver, lock, WaitOption::NoWait);
        if let Some(hold) = run_ready(polled)? {
            return Ok(hold);
        }
        if is_last {
            return acquire_or_name_holder(conn, lock, started.elapsed());
        }
        if !has_waited {
            settings.emit(&MigrationEvent::WaitingForInstance);
        }
        has_waited = true;
        thread::sleep(POLL.mul_f64(0.5 + fraction()));
    }
}

/// Tries once more, for the error that names the other instance.
fn acquire_or_name_holder<C>(
    conn: &mut C,
    lock: AdvisoryTarget,
    has_waited: Duration,
) -> Result<AdvisoryHold>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut acquired = acquire_at_once(conn, lock);
    if let Err(Error::NotAcquired { waited, .. }) = &mut acquired {
        *waited = has_waited;
    }
    Ok(acquired?)
}

fn acquire_at_once<C>(conn: &mut C, lock: AdvisoryTarget) -> crate::error::Result<AdvisoryHold>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = uncached(conn);
    run_ready(flow::acquire(&mut driver, lock, WaitOption::NoWait))
}

/// Releases the migration lock.
///
/// A lock that is gone, or ends with its session, undoes no migration: it becomes a warning.
pub(crate) fn release_migration_lock<C>(
    conn: &mut C,
    hold: AdvisoryHold,
    report: &mut HarnessReport,
    settings: &Settings,
) -> crate::error::Result<()>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
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

/// Acquires the migration lock again if a migration has released it, as `DISCARD ALL` and
/// `pg_advisory_unlock_all` do; returns true if so.
pub(crate) fn reacquire_migration_lock<C>(
    conn: &mut C,
    lock: AdvisoryTarget,
    report: &mut HarnessReport,
    settings: &Settings,
) -> Result<bool>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let is_held = with_lock_timeout(conn, Some(AT_ONCE), report, settings, |conn| {
        Ok(run_ready(might_hold(&mut uncached(conn), lock)))
    });
    // An unknown state counts as held.
    if is_held.unwrap_or(true) {
        return Ok(false);
    }
    acquire_again(conn, lock)?;
    report.warn(settings, REACQUIRED.to_owned());
    Ok(true)
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
