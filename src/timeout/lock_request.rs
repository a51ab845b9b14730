//! The flow that all kinds of locks share: acquire within a limit, or name the holders.

use std::fmt::Display;
use std::future::Future;
use std::time::Instant;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::wait::{WaitLimit, WaitOption};
use crate::error::{Error, Result};
use crate::session::Driver;
use crate::session::in_new_transaction;
use crate::session::{SyncDriver, run_ready};
use crate::trace;
use crate::views::PgLock;

/// A lock that a call asks for; its text names it in errors and events.
pub(crate) trait LockRequest: Display + Send + Sync {
    /// The proof that the lock is held.
    type Held: Send;

    /// Acquires the lock within the limit; `None` if it is busy.
    fn take(
        &self,
        driver: &mut impl Driver,
        limit: WaitLimit,
    ) -> impl Future<Output = Result<Option<Self::Held>>> + Send;

    /// As [`take`](Self::take), at the start of a transaction of its own, which is rolled back if
    /// the lock is busy.
    fn take_first(
        &self,
        driver: &mut impl Driver,
        limit: WaitLimit,
    ) -> impl Future<Output = Result<Option<Self::Held>>> + Send {
        self.take(driver, limit)
    }

    /// Returns the locks that conflict, held ones first.
    fn holders(&self, driver: &mut impl Driver)
    -> impl Future<Output = Result<Vec<PgLock>>> + Send;
}

/// The place of a call in its transaction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Place {
    /// In a transaction of the caller, or in none.
    Anywhere,
    /// At the start of a transaction of its own.
    First,
}

/// Acquires a lock, or fails with an error that names its holders.
pub(crate) async fn acquire<L: LockRequest>(
    driver: &mut impl Driver,
    lock: &L,
    wait: WaitOption,
) -> Result<L::Held> {
    acquire_at(Place::Anywhere, driver, lock, wait).await
}

/// Acquires a lock; `None` if it is busy.
pub(crate) async fn try_acquire<L: LockRequest>(
    driver: &mut impl Driver,
    lock: &L,
    wait: WaitOption,
) -> Result<Option<L::Held>> {
    take(Place::Anywhere, driver, lock, wait.for_try()?).await
}

pub(super) async fn acquire_at<L: LockRequest>(
    place: Place,
    driver: &mut impl Driver,
    lock: &L,
    wait: WaitOption,
) -> Result<L::Held> {
    let started = Instant::now();
    match take(place, driver, lock, wait.for_acquire()?).await? {
        Some(held) => Ok(held),
        None => Err(Error::NotAcquired {
            lock: lock.to_string(),
            waited: wait.since(started),
            holders: lock.holders(driver).await?,
        }),
    }
}

pub(super) async fn take<L: LockRequest>(
    place: Place,
    driver: &mut impl Driver,
    lock: &L,
    limit: WaitLimit,
) -> Result<Option<L::Held>> {
    let started = Instant::now();
    let held = match place {
        Place::Anywhere => lock.take(driver, limit).await?,
        Place::First => lock.take_first(driver, limit).await?,
    };
    trace::locked(lock, held.is_some(), started.elapsed());
    Ok(held)
}

/// Opens a transaction, acquires the lock, and runs `f`.
pub(crate) fn run_in_transaction<C, L, R, E>(
    conn: &mut C,
    lock: &L,
    wait: WaitOption,
    f: impl FnOnce(&mut C) -> Result<R, E>,
) -> Result<R, E>
where
    C: Connection<Backend = Pg> + LoadConnection,
    L: LockRequest,
    E: From<Error>,
{
    in_new_transaction(conn, |conn| {
        let mut driver = SyncDriver(conn);
        run_ready(acquire_at(Place::First, &mut driver, lock, wait))?;
        f(conn)
    })
}

/// Opens a transaction, and runs `f` in it if the lock is acquired; `None` if it is busy.
pub(crate) fn try_run_in_transaction<C, L, R, E>(
    conn: &mut C,
    lock: &L,
    wait: WaitOption,
    f: impl FnOnce(&mut C) -> Result<R, E>,
) -> Result<Option<R>, E>
where
    C: Connection<Backend = Pg> + LoadConnection,
    L: LockRequest,
    E: From<Error>,
{
    in_new_transaction(conn, |conn| {
        let limit = wait.for_try()?;
        let held = run_ready(take(Place::First, &mut SyncDriver(conn), lock, limit))?;
        held.map(|_| f(conn)).transpose()
    })
}
