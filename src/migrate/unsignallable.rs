//! Blockers that cannot be signalled: a migration waits for their end outside of the queue.
//!
//! A migration that waits for a lock keeps all later sessions on the same table waiting. Behind a
//! blocker that the watcher signals this is short. Behind another one it lasts until the timeout, so
//! that one lock timeout in the queue is enough.

use std::thread;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::dsl::SqlTypeOf;
use diesel::pg::Pg;
use diesel::prelude::*;

use super::applied_migrations::BoxedError;
use crate::error::Error;
use crate::prioritize::Blocker;
use crate::session::{Driver, run_ready, uncached};
use crate::tables::pg_locks;
use crate::types::{LockMode, LockType};
use crate::views::PgLock;

/// The lock timeout of an attempt behind a blocker that cannot be signalled, and still blocks.
const BRIEF: Duration = Duration::from_millis(100);

/// The pause between two reads of the locks is a hundred times as long as the read, in this range.
const READS: u32 = 100;
const MIN_PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The blockers of an attempt that cannot be signalled.
pub(crate) struct Unsignallable<'b>(Vec<&'b Blocker>);

impl<'b> Unsignallable<'b> {
    /// Selects from the blockers of all attempts; `attempt` is the first one of the last attempt.
    ///
    /// A signal that was refused in an earlier attempt is not sent again in the same block.
    pub(crate) fn of(blockers: &'b [Blocker], attempt: usize) -> Self {
        let refused = |it: &Blocker| {
            let mut same = blockers.iter().filter(|other| other.is_same_session(it));
            same.rfind(|it| it.is_unsignallable())
        };
        let last = blockers[attempt..].iter().filter(|it| !it.is_victim());
        Self(last.filter_map(refused).collect())
    }

    /// Waits until the blockers have released their locks, for as long as the lock timeout.
    /// Returns the lock timeout of the next attempt.
    ///
    /// The time is that of an attempt in the queue, so that all attempts together wait as long.
    pub(crate) fn wait<C>(&self, conn: &mut C, timeout: Option<Duration>) -> Option<Duration>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let (Some(limit), started) = (timeout, Instant::now()) else {
            return timeout;
        };
        loop {
            let asked = Instant::now();
            if self.holding(conn).is_empty() {
                return timeout;
            }
            let left = limit.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Some(limit.min(BRIEF));
            }
            let pause = (asked.elapsed() * READS).clamp(MIN_PAUSE, MAX_PAUSE);
            thread::sleep(pause.min(left));
        }
    }

    /// Returns the error of an attempt with the names of the blockers that still hold their locks.
    pub(crate) fn name_in<C>(&self, error: BoxedError, conn: &mut C) -> BoxedError
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let holding = self.holding(conn);
        if holding.is_empty() {
            return error;
        }
        Box::new(Error::Unsignallable {
            blockers: holding.iter().map(ToString::to_string).collect(),
            source: error,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the blockers that still hold their locks. One that cannot be read has none.
    fn holding<C>(&self, conn: &mut C) -> Vec<&'b Blocker>
    where
        C: Connection<Backend = Pg> + LoadConnection,
    {
        let blockers = self.0.iter().copied();
        blockers.filter(|it| holds_lock(it, conn)).collect()
    }
}

/// The columns that identify the object of a lock. Names are not read: that could wait for a
/// lock on a catalog.
const OBJECT: Object = (
    pg_locks::locktype,
    pg_locks::database,
    pg_locks::relation,
    (pg_locks::page, pg_locks::tuple),
    (pg_locks::virtualxid, pg_locks::transactionid),
    (pg_locks::classid, pg_locks::objid, pg_locks::objsubid),
);

type Object = (
    pg_locks::locktype,
    pg_locks::database,
    pg_locks::relation,
    (pg_locks::page, pg_locks::tuple),
    (pg_locks::virtualxid, pg_locks::transactionid),
    (pg_locks::classid, pg_locks::objid, pg_locks::objsubid),
);

/// The values of [`OBJECT`].
type ObjectRow = (
    LockType,
    Option<u32>,
    Option<u32>,
    (Option<i32>, Option<i16>),
    (Option<String>, Option<u32>),
    (Option<u32>, Option<u32>, Option<i16>),
);

fn object(lock: &PgLock) -> ObjectRow {
    (
        lock.lock_type.clone(),
        lock.database_oid,
        lock.relation_oid,
        (lock.page, lock.tuple),
        (lock.virtual_xid.clone(), lock.transaction_id),
        (lock.class_id, lock.object_id, lock.object_subid),
    )
}

/// Returns whether a blocker holds the awaited lock in a mode that conflicts.
///
/// All prepared transactions count as the same one.
fn holds_lock<C>(blocker: &Blocker, conn: &mut C) -> bool
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Columns = SqlTypeOf<(pg_locks::mode, Object)>;
    let held = pg_locks::table
        .select((pg_locks::mode, OBJECT))
        .filter(pg_locks::granted)
        .filter(pg_locks::pid.is_not_distinct_from(blocker.pid));
    let mut driver = uncached(conn);
    let held = driver.load_in_savepoint::<_, Columns, (LockMode, ObjectRow)>(held);
    let held = run_ready(held)
        .unwrap_or(Ok(Vec::new()))
        .unwrap_or_default();
    let awaited = object(&blocker.lock);
    held.iter()
        .any(|(mode, object)| *object == awaited && mode.conflicts_with(&blocker.lock.mode))
}
