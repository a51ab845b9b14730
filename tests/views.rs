//! The lock views on a live server.

use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::schema::pg_locks;
use diesel_pglock::{BlockedPgLock, LockMode, LockType, PgLock};

use crate::support::{Database, pid, wait_until_blocked};

#[test]
fn a_waiter_is_shown_with_the_session_in_its_way() {
    let db = Database::new();
    let (mut holder, mut waiter, mut observer) = (db.connect(), db.connect(), db.connect());
    let (holder_pid, waiter_pid) = (pid(&mut holder), pid(&mut waiter));
    holder
        .batch_execute("BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE")
        .unwrap();
    let waiting = thread::spawn(move || waiter.batch_execute("BEGIN; LOCK TABLE users; COMMIT"));
    wait_until_blocked(&mut observer, waiter_pid);

    let blocked: Vec<BlockedPgLock> = BlockedPgLock::query()
        .filter(pg_locks::pid.eq(waiter_pid))
        .load(&mut observer)
        .unwrap();
    let [
        BlockedPgLock {
            lock,
            blocking_pid,
            blocking_activity,
            ..
        },
    ] = &blocked[..]
    else {
        panic!("{blocked:#?}");
    };
    assert_eq!((lock.pid, *blocking_pid), (Some(waiter_pid), holder_pid));
    assert_eq!(lock.lock_type, LockType::Relation);
    assert_eq!(lock.mode, LockMode::AccessExclusive);
    assert_eq!(lock.relation.as_ref().unwrap().to_string(), "public.users");
    assert_eq!(lock.database.as_deref(), Some(&*db.name));
    let query = lock.activity.as_ref().unwrap().query.as_deref();
    assert_eq!(query, Some("BEGIN; LOCK TABLE users; COMMIT"));
    let held_by = blocking_activity.as_ref().unwrap();
    assert!(held_by.transaction_duration >= held_by.duration);

    holder.batch_execute("COMMIT").unwrap();
    waiting.join().unwrap().unwrap();
    let free: Vec<PgLock> = PgLock::query()
        .filter(pg_locks::pid.eq(waiter_pid))
        .load(&mut observer)
        .unwrap();
    assert_eq!(free, []);
}
