//! Guards, which only sync connections have.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use diesel::connection::{InstrumentationEvent, SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, Error};

use crate::support::*;

const KEY: AdvisoryKey = AdvisoryKey::new(42);

fn fail(conn: &mut PgConnection) -> Result<(), Error> {
    Ok(conn.batch_execute("SELECT 1/0")?)
}

#[test]
fn a_guard_holds_the_lock_until_it_is_dropped_or_released() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let guard = a.advisory(KEY).acquire().unwrap();
    assert!(b.advisory(KEY).try_acquire().unwrap().is_none());
    let refused = b.advisory(KEY).nowait().acquire().unwrap_err();
    assert!(refused.is_not_acquired(), "{refused}");
    guard.release().unwrap();
    drop(b.advisory(KEY).try_acquire().unwrap().expect("released"));
    let guard = a.advisory(KEY).try_acquire().unwrap().expect("dropped");
    drop(guard);
    assert_eq!(advisory_locks(&mut b), 0);
}

#[test]
fn guards_nest_and_are_the_connection() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let mut outer = a.advisory(KEY).acquire().unwrap();
    outer.advisory(KEY).acquire().unwrap().release().unwrap();
    assert!(b.advisory(KEY).try_acquire().unwrap().is_none());
    outer.release().unwrap();
    assert!(b.advisory(KEY).try_acquire().unwrap().is_some());
}

#[test]
fn a_release_of_a_lock_that_is_not_held_is_an_error() {
    let db = Database::new();
    let mut a = db.connect();
    let mut guard = a.advisory(KEY).acquire().unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(matches!(guard.release(), Err(Error::NotHeld(key)) if key == KEY));
}

#[test]
fn a_panic_drops_the_guard_after_the_transaction_it_left_open() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let panics = || {
        let mut guard = a.advisory(KEY).acquire().unwrap();
        let _ = guard.transaction(|conn| -> Result<(), Error> {
            let _ = fail(conn);
            panic!("in an aborted transaction")
        });
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert!(b.advisory(KEY).try_acquire().unwrap().is_some());
    assert_eq!(count(&mut a, "SELECT 1"), 1, "the session is usable");
}

#[test]
fn a_guard_that_cannot_release_ends_the_session() {
    let db = Database::new();
    ends_with_its_guard(&db, db.connect());
}

#[test]
fn a_session_under_another_role_ends_too() {
    let db = Database::new();
    let role = format!("{}_another", db.name);
    db.running(&format!("CREATE ROLE {role}"));
    for switch in ["ROLE", "SESSION AUTHORIZATION"] {
        ends_with_its_guard(&db, db.running(&format!("SET {switch} {role}")));
    }
}

fn ends_with_its_guard(db: &Database, mut a: PgConnection) {
    let _ = a.transaction(|a| {
        let mut guard = a.advisory(KEY).acquire()?;
        let failed = fail(&mut guard);
        assert!(matches!(guard.release(), Err(Error::Query(_))));
        failed
    });
    let status =
        <PgConnection as Connection>::TransactionManager::transaction_manager_status_mut(&mut a);
    assert!(
        status.transaction_depth().is_err(),
        "broken: a pool drops it"
    );
    assert!(a.batch_execute("ROLLBACK").is_err());
    let mut observer = db.connect();
    wait_until("the lock is free", || advisory_locks(&mut observer) == 0);
}

#[test]
fn a_refusal_shows_the_current_query_of_its_holder_even_in_an_older_transaction() {
    let db = Database::new();
    let mut a = db.connect();
    let refused = a.transaction(|a| -> Result<(), Error> {
        a.batch_execute("SELECT count(*) FROM pg_stat_activity")?;
        let mut holder = db.connect();
        let _guard = holder.advisory(KEY).acquire()?;
        let refused = a.advisory(KEY).nowait().acquire().map(drop);
        assert_eq!(count(a, "SELECT 1"), 1, "the transaction is usable");
        refused
    });
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("user `postgres`, idle"), "{message}");
}

/// Opens a session that reports when the lock was acquired, and when the release of a savepoint
/// failed.
fn observed(db: &Database, acquired: &Arc<AtomicBool>, failed: &Arc<AtomicBool>) -> PgConnection {
    // What it logs makes each statement longer.
    let mut conn = db.running("SET log_min_messages = debug5");
    let (acquired, failed) = (acquired.clone(), failed.clone());
    conn.set_instrumentation(move |event: InstrumentationEvent<'_>| {
        if let InstrumentationEvent::FinishQuery { query, error, .. } = event {
            let query = query.to_string();
            let is_release = query.starts_with("RELEASE SAVEPOINT");
            failed.fetch_or(is_release && error.is_some(), SeqCst);
            acquired.store(query.contains("pg_try_advisory_lock"), SeqCst);
        }
    });
    conn
}

/// Cancels come as soon as the lock is acquired, until one hits the release of the savepoint.
#[test]
fn a_savepoint_whose_release_fails_leaves_no_lock() {
    let (db, limit) = (Database::new(), Instant::now() + Duration::from_secs(30));
    let (acquired, failed) = <(Arc<AtomicBool>, Arc<AtomicBool>)>::default();
    let (session, mut observer) = (AtomicI32::new(0), db.connect());
    let goes_on = || !failed.load(SeqCst) && Instant::now() < limit;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut conn = db.connect();
            while goes_on() {
                if acquired.load(SeqCst) {
                    let session = session.load(SeqCst);
                    count(
                        &mut conn,
                        &format!("SELECT pg_cancel_backend({session})::int"),
                    );
                }
            }
        });
        while goes_on() {
            let mut conn = observed(&db, &acquired, &failed);
            session.store(pid(&mut conn), SeqCst);
            let guard = conn.transaction(|conn| conn.advisory(KEY).acquire().map(std::mem::forget));
            if failed.load(SeqCst) {
                guard.unwrap_err();
                wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
            }
        }
    });
    assert!(
        failed.load(SeqCst),
        "no cancel hit the release of the savepoint"
    );
}
