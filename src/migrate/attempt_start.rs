//! The start of an attempt at a migration: one statement sets its lock timeout, and reads the
//! state of the session.
//!
//! The cost of a small migration is the number of its statements. After a migration that left the
//! timeouts as they were, the next one starts without a statement.

use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::migration::Result;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::{Connection, QueryResult};

use super::own_locks::OwnLock;
use super::run::MigrationRun;
use crate::advisory::AdvisoryTarget;
use crate::error::Error;
use crate::session::{Driver, query, run_ready, uncached};
use crate::timeout::scoped_timeout::{self, Previous, Swapped};
use crate::timeout::{TimeoutSetting, millis};

/// The state of a session before an attempt; `None`: unknown.
#[derive(Debug, Default)]
pub(crate) struct AttemptStart {
    pub(crate) has_migration_lock: Option<bool>,
    /// The id of the last transaction before the attempt.
    pub(crate) transaction: Option<String>,
    /// The deadlocks that the server has counted in this database.
    pub(crate) deadlocks: Option<i64>,
}

/// The state of a session with the migration lock at the end of an attempt in a transaction.
#[derive(Debug)]
pub(crate) struct AttemptEnd {
    transaction: String,
    deadlocks: Option<i64>,
    timeouts: String,
}

impl AttemptEnd {
    pub(super) fn of(locks: &[OwnLock]) -> Option<Self> {
        let lock = locks.first()?;
        Some(Self {
            transaction: lock.transaction.clone(),
            deadlocks: locks.iter().find_map(|lock| lock.deadlocks),
            timeouts: lock.timeouts.clone()?,
        })
    }
}

/// The timeouts in force for an attempt.
#[derive(Debug)]
pub(crate) struct AttemptTimeouts {
    /// The lock timeout that the attempt was given; a statement timeout may have shortened it.
    lock_timeout: Option<Duration>,
    /// The lock timeout and the statement timeout, as the server writes them.
    in_force: String,
}

impl<C, S> MigrationRun<'_, C, S>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    /// Sets the lock timeout of an attempt, and reads the state of the session.
    ///
    /// The timeout before is restored at the end of the run, unless a migration sets another one.
    pub(crate) fn start_attempt(&mut self, lock_timeout: Option<Duration>) -> Result<AttemptStart> {
        if let Some(start) = self.follow_on(lock_timeout) {
            return Ok(start);
        }
        let depth = uncached(self.conn).depth()?;
        let statement = StartAttempt {
            lock: self.lock,
            lock_timeout: lock_timeout.map_or(Ok(0), millis)?.into(),
            local: depth > 0,
        };
        let (replaced, start) = match ask(self.conn, statement) {
            Ok((swapped, statement_timeout, start)) => {
                let in_force = format!("{} {statement_timeout}", swapped.1);
                self.timeouts = Some(AttemptTimeouts {
                    lock_timeout,
                    in_force,
                });
                (Previous::swapped(LOCK, swapped, depth), start)
            }
            // To set the timeout alone needs no privilege, and less time.
            Err(_) => {
                self.timeouts = None;
                let mut driver = uncached(self.conn);
                let set = run_ready(scoped_timeout::set(&mut driver, LOCK, lock_timeout));
                (set?, AttemptStart::default())
            }
        };
        self.replaced_timeout = Some(match self.replaced_timeout.take() {
            Some(earlier) => earlier.then(replaced)?,
            None => replaced,
        });
        Ok(start)
    }

    /// Returns the start of an attempt right after another one with the same timeouts.
    fn follow_on(&mut self, lock_timeout: Option<Duration>) -> Option<AttemptStart> {
        let (end, timeouts) = (self.end.take()?, self.timeouts.take()?);
        let is_same = timeouts.lock_timeout == lock_timeout && timeouts.in_force == end.timeouts;
        if !is_same {
            return None;
        }
        self.timeouts = Some(timeouts);
        Some(AttemptStart {
            has_migration_lock: Some(true),
            transaction: Some(end.transaction),
            deadlocks: end.deadlocks,
        })
    }
}

const LOCK: TimeoutSetting = TimeoutSetting::Lock;

/// The timeouts and the state of the session.
type Answer = (Swapped, String, AttemptStart);

/// Sends the statement; a failure leaves the caller's transaction usable.
fn ask<C>(conn: &mut C, statement: StartAttempt) -> crate::error::Result<Answer>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let ask = |conn: &mut C| run_ready(uncached(conn).ask(statement));
    let (swapped, (statement_timeout, has_migration_lock, transaction, deadlocks)) =
        match statement.local {
            true => conn.transaction::<_, Error, _>(ask)?,
            false => ask(conn)?,
        };
    let start = AttemptStart {
        has_migration_lock,
        transaction,
        deadlocks,
    };
    Ok((swapped, statement_timeout, start))
}

/// Sets the lock timeout, and reads the state of the session.
///
/// The timeout is at most nine tenths of the session's statement timeout, which may be the
/// role's or the database's, or one that a migration set. A wait that the statement timeout ends
/// fails like any statement that takes too long: the server's text does not tell that it waited
/// for a lock, so it is not tried again.
#[derive(Clone, Copy, Debug)]
struct StartAttempt {
    lock: AdvisoryTarget,
    /// In milliseconds; 0: no limit.
    lock_timeout: i64,
    /// Until the transaction ends, rather than the session.
    local: bool,
}

/// The statement timeout, the migration lock, the transaction and the deadlocks.
type State = (String, Option<bool>, Option<String>, Option<i64>);

query!(
    StartAttempt =>
    ((Text, Text, Integer), (Text, Nullable<Bool>, Nullable<Text>, Nullable<BigInt>)),
    (Swapped, State)
);

impl QueryFragment<Pg> for StartAttempt {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // OFFSET 0 keeps the subquery apart, so that the old value is read first.
        out.push_sql("SELECT s.lock, pg_catalog.set_config('lock_timeout', ");
        self.push_timeout(&mut out)?;
        out.push_sql("::pg_catalog.text, ");
        out.push_bind_param::<Bool, _>(&self.local)?;
        out.push_sql(
            "), pg_catalog.pg_backend_pid(), \
             pg_catalog.current_setting('statement_timeout'), l.is_held, l.transaction, \
             pg_catalog.pg_stat_get_db_deadlocks(l.database) \
             FROM (SELECT pg_catalog.current_setting('lock_timeout') AS lock, \
               (extract(epoch FROM pg_catalog.current_setting('statement_timeout')\
                 ::pg_catalog.interval) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8 AS statement \
               OFFSET 0) AS s, \
             (SELECT pg_catalog.bool_or(",
        );
        out.push_sql(&self.lock.is_lock("l"));
        out.push_sql(
            ") AS is_held, pg_catalog.max(l.virtualtransaction) AS transaction, \
               pg_catalog.max(l.database) AS database \
             FROM pg_catalog.pg_locks AS l WHERE l.granted \
             AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) AS l",
        );
        out.unsafe_to_cache_prepared();
        Ok(())
    }
}

impl StartAttempt {
    fn push_timeout<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        if self.lock_timeout == 0 {
            return out.push_bind_param::<BigInt, _>(&self.lock_timeout);
        }
        out.push_sql("least(");
        out.push_bind_param::<BigInt, _>(&self.lock_timeout)?;
        // `least` ignores the NULL of a session without a statement timeout.
        out.push_sql(
            ", CASE WHEN s.statement OPERATOR(pg_catalog.>) 0 THEN greatest(\
             s.statement OPERATOR(pg_catalog.*) 9 OPERATOR(pg_catalog./) 10, 1) END)",
        );
        Ok(())
    }
}
