//! Advisory locks on a sync connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, Error};

use crate::support::*;

const KEY: AdvisoryKey = AdvisoryKey::new(42);
const SHORT: Duration = Duration::from_millis(100);

/// How many advisory locks sessions of this database hold or wait for.
fn advisory_locks(conn: &mut PgConnection) -> i64 {
    count(
        conn,
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
         WHERE locktype = 'advisory' AND d.datname = current_database()",
    )
}

fn fail(conn: &mut PgConnection) -> Result<(), Error> {
    Ok(conn.batch_execute("SELECT 1/0")?)
}

#[test]
fn a_second_session_is_refused_while_the_first_holds_the_lock() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let ran = a.advisory(KEY).run(|_| {
        assert!(b.advisory(KEY).try_acquire()?.is_none());
        let refused = b.advisory(KEY).nowait().acquire().unwrap_err();
        assert!(refused.is_not_acquired(), "{refused}");
        assert_eq!(b.advisory(KEY).try_run(|_| Ok::<_, Error>(1))?, None);
        Ok::<_, Error>(2)
    });
    assert_eq!(ran.unwrap(), 2);
    assert_eq!(
        b.advisory(KEY).try_run(|_| Ok::<_, Error>(1)).unwrap(),
        Some(1)
    );
    assert_eq!(advisory_locks(&mut a), 0);
}

#[test]
fn every_kind_of_key_is_a_lock_of_its_own() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let keys: [AdvisoryKey; 5] = [
        4294967298_i64.into(),
        (1, 2).into(),
        (-1).into(),
        (-1, -2).into(),
        "name".into(),
    ];
    for key in keys {
        let guard = a.advisory(key).acquire().unwrap();
        for other in keys {
            let free = b.advisory(other).try_acquire().unwrap().is_some();
            assert_eq!(free, other != key, "{other:?} while {key:?} is held");
        }
        guard.release().unwrap();
    }
}

#[test]
fn shared_locks_share_and_exclude_the_exclusive() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let guard = a.advisory(KEY).shared().acquire().unwrap();
    assert!(b.advisory(KEY).shared().try_acquire().unwrap().is_some());
    assert!(b.advisory(KEY).try_acquire().unwrap().is_none());
    drop(guard);
    assert!(b.advisory(KEY).try_acquire().unwrap().is_some());
}

#[test]
fn a_lock_nests_and_is_released_as_often_as_it_was_taken() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let mut outer = a.advisory(KEY).acquire().unwrap();
    outer.advisory(KEY).run(|_| Ok::<_, Error>(())).unwrap();
    assert!(b.advisory(KEY).try_acquire().unwrap().is_none());
    outer.release().unwrap();
    assert!(b.advisory(KEY).try_acquire().unwrap().is_some());
}

#[test]
fn a_release_of_what_is_not_held_is_an_error() {
    let db = Database::new();
    let mut a = db.connect();
    let mut guard = a.advisory(KEY).acquire().unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(matches!(guard.release(), Err(Error::NotHeld(key)) if key == KEY));
}

#[test]
fn a_timeout_ends_the_wait_outside_and_inside_a_transaction() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let _guard = a.advisory(KEY).acquire().unwrap();
    for xact in [false, true] {
        let refused = b.advisory(KEY).timeout(SHORT).acquire().unwrap_err();
        assert!(matches!(&refused, Error::NotAcquired { waited, .. } if *waited >= SHORT));
        assert!(
            refused
                .to_string()
                .starts_with("advisory lock `42` was not acquired within")
        );
        assert!(
            b.advisory(KEY)
                .timeout(SHORT)
                .try_acquire()
                .unwrap()
                .is_none()
        );
        b.transaction(|b| {
            b.batch_execute("INSERT INTO users (name) VALUES ('kept')")?;
            if xact {
                assert!(!b.advisory(KEY).xact().timeout(SHORT).try_acquire()?);
                assert!(
                    b.advisory(KEY)
                        .timeout(SHORT)
                        .xact()
                        .acquire()
                        .unwrap_err()
                        .is_not_acquired()
                );
            } else {
                assert!(b.advisory(KEY).timeout(SHORT).try_acquire()?.is_none());
                assert!(
                    b.advisory(KEY)
                        .timeout(SHORT)
                        .acquire()
                        .unwrap_err()
                        .is_not_acquired()
                );
            }
            b.batch_execute("INSERT INTO users (name) VALUES ('kept')")
        })
        .unwrap();
    }
    assert_eq!(
        count(&mut b, "SELECT count(*) FROM users WHERE name = 'kept'"),
        4
    );
    assert_eq!(setting(&mut b, "lock_timeout"), "0");
}

#[test]
fn a_wait_ends_with_the_lock() {
    let db = Database::new();
    let (mut a, mut b, mut observer) = (db.connect(), db.connect(), db.connect());
    let waiter = pid(&mut b);
    for timeout in [None, Some(Duration::from_secs(60))] {
        let guard = a.advisory(KEY).acquire().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let lock = b.advisory(KEY);
                let lock = match timeout {
                    Some(timeout) => lock.timeout(timeout),
                    None => lock,
                };
                lock.run(|conn| Ok::<_, Error>(advisory_locks(conn)))
            });
            wait_until_blocked(&mut observer, waiter);
            drop(guard);
            assert_eq!(waiting.join().unwrap().unwrap(), 1);
        });
        assert_eq!(setting(&mut b, "lock_timeout"), "0");
        assert_eq!(advisory_locks(&mut b), 0);
    }
}

#[test]
fn the_lock_timeout_of_the_session_applies_when_nothing_is_said() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let _guard = a.advisory(KEY).acquire().unwrap();
    b.batch_execute("SET lock_timeout = '50ms'").unwrap();
    assert!(b.advisory(KEY).acquire().unwrap_err().is_not_acquired());
    assert_eq!(setting(&mut b, "lock_timeout"), "50ms");
}

#[test]
fn a_cancelled_wait_is_an_error_of_its_own() {
    let db = Database::new();
    let (mut a, mut b, mut observer) = (db.connect(), db.connect(), db.connect());
    let _guard = a.advisory(KEY).acquire().unwrap();
    b.batch_execute("SET statement_timeout = '50ms'").unwrap();
    assert!(matches!(b.advisory(KEY).acquire(), Err(Error::Query(_))));
    assert!(matches!(
        b.advisory(KEY)
            .timeout(Duration::from_secs(60))
            .try_acquire(),
        Err(Error::Query(_))
    ));
    assert_eq!(advisory_locks(&mut observer), 1);
}

#[test]
fn a_deadlock_is_an_error_of_its_own() {
    let db = Database::new();
    let (mut a, mut b, mut observer) = (db.connect(), db.connect(), db.connect());
    let (waiter, mut first) = (pid(&mut b), a.advisory(1).acquire().unwrap());
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            b.advisory(2)
                .run(|b| b.advisory(1).run(|_| Ok::<_, Error>(())))
        });
        wait_until_blocked(&mut observer, waiter);
        let mine = first.advisory(2).run(|_| Ok::<_, Error>(()));
        drop(first);
        let theirs = other.join().unwrap();
        let failed: Vec<_> = [mine, theirs].into_iter().filter_map(Result::err).collect();
        assert!(matches!(failed[..], [Error::Query(_)]), "{failed:?}");
    });
    assert_eq!(advisory_locks(&mut observer), 0);
}

#[test]
fn a_lost_connection_is_not_a_refusal() {
    let db = Database::new();
    let (mut a, mut b, mut observer) = (db.connect(), db.connect(), db.connect());
    let (waiter, _guard) = (pid(&mut b), a.advisory(KEY).acquire().unwrap());
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| b.advisory(KEY).acquire().map(drop));
        wait_until_blocked(&mut observer, waiter);
        observer
            .batch_execute(&format!("SELECT pg_terminate_backend({waiter})"))
            .unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::Query(_))));
    });
}

#[test]
fn an_error_in_the_closure_releases_and_is_returned() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let failed = a.advisory(KEY).run(fail);
    assert!(matches!(failed, Err(Error::Query(_))));
    assert!(b.advisory(KEY).try_acquire().unwrap().is_some());
}

#[test]
fn an_error_inside_a_transaction_releases_and_leaves_it_usable() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    a.transaction(|a| {
        a.batch_execute("INSERT INTO users (name) VALUES ('kept')")?;
        assert!(a.advisory(KEY).run(fail).is_err());
        assert!(
            b.advisory(KEY).try_acquire()?.is_some(),
            "free before the transaction ends"
        );
        assert!(
            a.advisory(KEY)
                .run(|a| {
                    let _ = fail(a);
                    Ok::<_, Error>(())
                })
                .is_err()
        );
        assert!(b.advisory(KEY).try_acquire()?.is_some());
        a.batch_execute("INSERT INTO users (name) VALUES ('kept')")
    })
    .unwrap();
    assert_eq!(
        count(&mut a, "SELECT count(*) FROM users WHERE name = 'kept'"),
        2
    );
}

#[test]
fn a_panic_releases() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    let mut panics = |conn: &mut PgConnection, f: fn(&mut PgConnection)| {
        let run = || {
            conn.advisory(KEY).run(|conn| {
                f(conn);
                Ok::<_, Error>(())
            })
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert!(b.advisory(KEY).try_acquire().unwrap().is_some());
    };
    panics(&mut a, |_| panic!("plain"));
    panics(&mut a, |conn| {
        let _: QueryResult<()> = conn.transaction(|conn| {
            let _ = fail(conn);
            panic!("in an aborted transaction")
        });
    });
    assert_eq!(count(&mut a, "SELECT 1"), 1, "the session is usable");
    a.begin_test_transaction().unwrap();
    panics(&mut a, |conn| {
        let _ = fail(conn);
        panic!("in a transaction around")
    });
    assert_eq!(count(&mut a, "SELECT 1"), 1, "so is the transaction");
}

#[test]
fn a_guard_that_cannot_release_marks_the_connection_broken() {
    let db = Database::new();
    let mut a = db.connect();
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
}

#[test]
fn a_pool_hands_out_no_connection_that_holds_a_lock() {
    use diesel::r2d2::{ConnectionManager, Pool};
    let db = Database::new();
    let pool = Pool::builder()
        .max_size(1)
        .build(ConnectionManager::<PgConnection>::new(&db.url))
        .unwrap();
    let mut observer = db.connect();
    let leak = |f: fn(&mut PgConnection) -> Result<(), Error>| {
        let mut conn = pool.get().unwrap();
        let run = || conn.advisory(KEY).run(|conn| f(conn));
        let _ = catch_unwind(AssertUnwindSafe(run));
    };
    leak(|_| Ok(()));
    leak(fail);
    leak(|_| panic!("in the closure"));
    leak(|conn| {
        conn.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")
            .map_err(Into::into)
    });
    {
        let mut conn = pool.get().unwrap();
        let _ = conn.transaction(|conn| {
            let mut guard = conn.advisory(KEY).acquire()?;
            fail(&mut guard)
        });
    }
    wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
    let mut conn = pool.get().unwrap();
    assert!(conn.advisory(KEY).try_acquire().unwrap().is_some());
}

#[test]
fn an_xact_lock_ends_with_the_transaction() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    a.transaction(|a| {
        a.advisory(KEY).xact().acquire()?;
        assert_eq!(
            b.advisory(KEY)
                .xact()
                .try_run(|_| Ok::<_, Error>(()))
                .unwrap(),
            None
        );
        Ok::<_, Error>(())
    })
    .unwrap();
    b.advisory(KEY)
        .xact()
        .run(|b| {
            assert_eq!(a.advisory(KEY).xact().try_run(|_| Ok::<_, Error>(1))?, None);
            assert_eq!(advisory_locks(b), 1);
            fail(b)
        })
        .unwrap_err();
    assert_eq!(
        a.advisory(KEY)
            .xact()
            .try_run(|_| Ok::<_, Error>(1))
            .unwrap(),
        Some(1)
    );
    assert_eq!(advisory_locks(&mut a), 0);
}

#[test]
fn an_xact_lock_wants_a_transaction_and_run_opens_its_own() {
    let db = Database::new();
    let mut a = db.connect();
    assert!(matches!(
        a.advisory(KEY).xact().acquire(),
        Err(Error::NotInTransaction(_))
    ));
    assert!(matches!(
        a.advisory(KEY).xact().try_acquire(),
        Err(Error::NotInTransaction(_))
    ));
    a.transaction(|a| {
        let nested = a.advisory(KEY).xact().run(|_| Ok::<_, Error>(()));
        assert!(matches!(nested, Err(Error::InTransaction(_))));
        assert_eq!(count(a, "SELECT 1"), 1);
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn a_panic_under_an_xact_lock_rolls_back() {
    let db = Database::new();
    let mut a = db.connect();
    let run = || {
        a.advisory(KEY).xact().run(|a| -> Result<(), Error> {
            a.batch_execute("INSERT INTO users (name) VALUES ('lost')")?;
            panic!("in the closure")
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
    assert_eq!(advisory_locks(&mut a), 0);
    assert_eq!(
        count(&mut a, "SELECT count(*) FROM users WHERE name = 'lost'"),
        0
    );
}

#[test]
fn a_timeout_out_of_range_is_refused_before_anything_is_sent() {
    let db = Database::new();
    let mut a = db.connect();
    a.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")
        .unwrap_err();
    for refused in [
        Duration::ZERO,
        Duration::from_micros(999),
        Duration::from_secs(60 * 60 * 24 * 25),
    ] {
        let error = a.advisory(KEY).timeout(refused).acquire().unwrap_err();
        assert!(
            matches!(error, Error::InvalidTimeout(d) if d == refused),
            "{error}"
        );
        let error = a.advisory(KEY).timeout(refused).try_acquire().unwrap_err();
        assert!(matches!(error, Error::InvalidTimeout(_)), "{error}");
    }
}
