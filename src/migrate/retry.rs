//! Tells a migration that failed for want of a lock from one that failed for another reason.
//!
//! Diesel shows no SQLSTATE, a migration's error is a text, and that is in the
//! server's language. So the server is asked for its own words, by bringing about
//! what they are for: a wait that ends with a lock timeout, and a deadlock.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::Integer;
use diesel::{Connection, QueryResult};

use crate::connection::PgLockConnection;
use crate::error::Result;
use crate::fmt::with_sources;
use crate::prioritize::BlockingPids;
use crate::session::Driver;
use crate::session::quote;
use crate::session::uncached;
use crate::session::{BackendPid, OUTCOME, TakeOutcome, command, query};
use crate::session::{SyncDriver, run_ready};
use crate::source::WatcherSource;
use crate::types::AdvisoryKey;

/// Whether the error says what the server says of a lock timeout or a deadlock.
///
/// To hear the latter takes the server's `deadlock_timeout`. Nobody is found in a
/// deadlock without having waited as long, so what took less time is not asked.
pub(crate) fn is_want_of_lock<C>(
    error: &(dyn std::error::Error + 'static),
    took: Duration,
    conn: &mut C,
    source: &impl WatcherSource,
) -> bool
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let error = with_sources(error);
    let says = |text: String| !text.is_empty() && error.contains(&text);
    let deadlock_text = |conn: &mut C| match run_ready(uncached(conn).ask(DeadlockTimeout))? {
        millis if took < Duration::from_millis(u64::from(millis.unsigned_abs())) => {
            Ok(String::new())
        }
        millis => deadlock_text(conn, source, millis.unsigned_abs()),
    };
    lock_timeout_text(conn, source).is_ok_and(says) || deadlock_text(conn).is_ok_and(says)
}

/// A lock of two sessions that nobody else asks for.
fn key<C: PgLockConnection>(conn: &mut C, name: &str) -> Result<AdvisoryKey> {
    let pid = run_ready(uncached(conn).ask(BackendPid))?;
    Ok(AdvisoryKey::named(&format!("diesel_pglock::{name}::{pid}")))
}

/// Another session holds a lock, and ours, whose language it is, waits a millisecond for it.
fn lock_timeout_text<C: PgLockConnection>(
    conn: &mut C,
    source: &impl WatcherSource,
) -> Result<String> {
    let mut other = source.connect()?;
    let theirs = key(&mut other, "lock timeout")?;
    let held = other.advisory(theirs).nowait().acquire()?;
    let text = wait_in_vain(conn, theirs, 1);
    held.release()?;
    text
}

/// What the server says of a deadlock, to us if it can be had, whose language it is.
fn deadlock_text<C>(
    conn: &mut C,
    source: &impl WatcherSource,
    deadlock_timeout: u32,
) -> Result<String>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut other = source.connect()?;
    let mut text = String::new();
    // On a machine that stands still for a while the other session begins to wait too late.
    for _ in 0..3 {
        let (ours, theirs) = meet_in_deadlock(conn, &mut other, deadlock_timeout)?;
        if !ours.is_empty() {
            return Ok(ours);
        }
        text = theirs;
    }
    Ok(text)
}

/// We and another session each hold a lock and wait for the other's, until the server ends
/// one of the two waits: that which began first, ours. What it says to us, and to the other.
fn meet_in_deadlock<C, O>(
    conn: &mut C,
    other: &mut O,
    deadlock_timeout: u32,
) -> Result<(String, String)>
where
    C: Connection<Backend = Pg> + LoadConnection,
    O: Connection<Backend = Pg> + LoadConnection + Send,
{
    let longer = deadlock_timeout.saturating_add(10_000);
    let us = conn.backend_pid()?;
    let (ours, theirs) = (key(conn, "deadlock")?, key(other, "deadlock")?);
    let mut held = conn.advisory(ours).nowait().acquire()?;
    let mut held_by_other = other.advisory(theirs).nowait().acquire()?;
    thread::scope(|scope| {
        let waiting = scope.spawn(move || {
            // Should they never close the circle, our wait ends all the same.
            let waits = until_it_waits(&mut *held_by_other, us, longer);
            waits.and_then(|()| wait_in_vain(&mut *held_by_other, ours, longer))
        });
        let text = wait_in_vain(&mut *held, theirs, longer);
        let released = held.release();
        // Nothing of the other wait, not even a panic, may take ours with it.
        let of_other = waiting.join().unwrap_or_else(|_| Ok(String::new()));
        released?;
        Ok((text?, of_other.unwrap_or_default()))
    })
}

/// Waits until somebody is in the way of the session `pid`, for `millis` at most.
fn until_it_waits<C>(conn: &mut C, pid: i32, millis: u32) -> Result<()>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let limit = Instant::now() + Duration::from_millis(millis.into());
    let mut driver = SyncDriver(conn);
    while run_ready(driver.ask(BlockingPids(pid)))?.is_empty() && Instant::now() < limit {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Waits for the lock; the server's words when the wait fails, or nothing.
fn wait_in_vain<C>(conn: &mut C, key: AdvisoryKey, millis: u32) -> Result<String>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    let mut driver = uncached(conn);
    run_ready(async {
        driver.execute(WaitInVain { key, millis }).await?;
        let (text, _) = driver.ask(TakeOutcome { local: false }).await?;
        Ok(text.unwrap_or_default())
    })
}

/// The server's `deadlock_timeout` in milliseconds.
#[derive(Debug)]
struct DeadlockTimeout;

query!(DeadlockTimeout => Integer, i32);

impl QueryFragment<Pg> for DeadlockTimeout {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT (extract(epoch FROM pg_catalog.current_setting('deadlock_timeout')::interval) \
             OPERATOR(pg_catalog.*) 1000)::int",
        );
        Ok(())
    }
}

/// Waits for an advisory lock, and leaves the server's words if the wait fails.
#[derive(Debug)]
struct WaitInVain {
    key: AdvisoryKey,
    millis: u32,
}

command!(WaitInVain);

impl QueryFragment<Pg> for WaitInVain {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let (key, millis) = (self.key.arguments(), self.millis);
        let body = format!(
            "BEGIN PERFORM pg_catalog.set_config('{OUTCOME}', '', false); \
             BEGIN PERFORM pg_catalog.set_config('lock_timeout', '{millis}', true); \
             PERFORM pg_catalog.pg_advisory_xact_lock({key}); \
             EXCEPTION WHEN lock_not_available OR deadlock_detected THEN \
             PERFORM pg_catalog.set_config('{OUTCOME}', SQLERRM, false); \
             END; END"
        );
        out.push_sql(&quote(&body));
        out.unsafe_to_cache_prepared();
        Ok(())
    }
}
