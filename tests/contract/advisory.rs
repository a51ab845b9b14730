//! Advisory locks of the session.

use std::time::Duration;

use diesel_pglock::{AdvisoryKey, BackendState, Error};

use super::*;
use crate::support::{Database, advisory_locks, count, wait_until};

const KEY: AdvisoryKey = AdvisoryKey::new(42);
const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// Returns a session that holds the lock until it releases it or is dropped.
fn hold(db: &Database) -> diesel::PgConnection {
    db.running("SELECT pg_advisory_lock(42)")
}

fn release(holder: &mut diesel::PgConnection) {
    diesel::connection::SimpleConnection::batch_execute(holder, "SELECT pg_advisory_unlock_all()")
        .unwrap();
}

/// Asserts that a second session does not acquire the lock.
macro_rules! assert_refused {
    ($conn:expr) => {
        assert_eq!(
            wait!($conn.advisory(KEY).try_run(closure!(|_| Ok::<_, Error>(1)))).unwrap(),
            None
        );
    };
}

macro_rules! assert_free {
    ($conn:expr) => {
        assert_eq!(
            wait!($conn.advisory(KEY).try_run(closure!(|_| Ok::<_, Error>(1)))).unwrap(),
            Some(1)
        );
    };
}

scenario!(
    a_second_session_is_refused_while_the_first_holds_the_lock,
    |db| {
        let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
        let ran = wait!(a.advisory(KEY).run(closure!(|_| {
            assert_refused!(b);
            let refused = wait!(
                b.advisory(KEY)
                    .nowait()
                    .run(closure!(|_| Ok::<_, Error>(1)))
            );
            assert!(refused.unwrap_err().is_not_acquired());
            Ok::<_, Error>(2)
        })));
        assert_eq!(ran.unwrap(), 2);
        assert_free!(b);
        assert_eq!(advisory_locks(&mut db.connect()), 0);
    }
);

scenario!(every_kind_of_key_is_a_lock_of_its_own, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let keys: [AdvisoryKey; 5] = [
        4294967298_i64.into(),
        (1, 2).into(),
        (-1).into(),
        (-1, -2).into(),
        "name".into(),
    ];
    for key in keys {
        let ran = wait!(a.advisory(key).run(closure!(|_| {
            for other in keys {
                let ran = wait!(b.advisory(other).try_run(closure!(|_| Ok::<_, Error>(()))))?;
                assert_eq!(
                    ran.is_some(),
                    other != key,
                    "{other:?} while {key:?} is held"
                );
            }
            Ok::<_, Error>(())
        })));
        ran.unwrap();
    }
});

scenario!(shared_locks_share_and_exclude_the_exclusive, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let ran = wait!(a.advisory(KEY).shared().run(closure!(|_| {
        let shared = wait!(
            b.advisory(KEY)
                .shared()
                .try_run(closure!(|_| Ok::<_, Error>(())))
        )?;
        assert!(shared.is_some());
        assert_refused!(b);
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    assert_free!(b);
});

scenario!(a_lock_nests_and_each_hold_is_released, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let ran = wait!(a.advisory(KEY).run(closure!(|a| {
        wait!(a.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))))?;
        assert_refused!(b);
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    assert_free!(b);
});

scenario!(a_release_of_what_is_not_held_is_an_error, |db| {
    let mut a = wait!(connect(&db.url));
    let ran = wait!(a.advisory(KEY).run(closure!(|a| {
        wait!(a.batch_execute("SELECT pg_advisory_unlock_all()"))?;
        Ok::<_, Error>(())
    })));
    assert!(matches!(ran, Err(Error::NotHeld(key)) if key == KEY));
    assert_free!(a);
});

scenario!(
    a_timeout_ends_the_wait_outside_and_inside_a_transaction,
    |db| {
        let (_holder, mut b) = (hold(&db), wait!(connect(&db.url)));
        let refused = wait!(
            b.advisory(KEY)
                .timeout(SHORT)
                .run(closure!(|_| Ok::<_, Error>(())))
        );
        let refused = refused.unwrap_err();
        assert!(matches!(&refused, Error::NotAcquired { waited, .. } if *waited >= SHORT));
        let message = refused.to_string();
        assert!(
            message.starts_with("advisory lock `42` was not acquired within 1"),
            "{message}"
        );
        let ran = wait!(
            b.advisory(KEY)
                .timeout(SHORT)
                .try_run(closure!(|_| Ok::<_, Error>(())))
        );
        assert_eq!(ran.unwrap(), None);
        let ran = wait!(b.transaction(closure!(|b| {
            wait!(b.batch_execute("INSERT INTO users (name) VALUES ('kept')"))?;
            let ran = wait!(
                b.advisory(KEY)
                    .timeout(SHORT)
                    .try_run(closure!(|_| Ok::<_, Error>(())))
            );
            assert_eq!(ran?, None);
            let ran = wait!(
                b.advisory(KEY)
                    .timeout(SHORT)
                    .run(closure!(|_| Ok::<_, Error>(())))
            );
            assert!(ran.unwrap_err().is_not_acquired());
            assert!(!wait!(b.advisory(KEY).xact().timeout(SHORT).try_acquire())?);
            let refused = wait!(b.advisory(KEY).timeout(SHORT).xact().acquire());
            assert!(refused.unwrap_err().is_not_acquired());
            wait!(b.batch_execute("INSERT INTO users (name) VALUES ('kept')"))?;
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        let kept = wait!(number(
            &mut b,
            "SELECT count(*) FROM users WHERE name = 'kept'"
        ));
        assert_eq!(kept, 2);
        assert_eq!(wait!(setting(&mut b, "lock_timeout")), "0");
    }
);

scenario!(a_wait_ends_with_the_lock, |db| {
    let (mut b, mut observer) = (wait!(connect(&db.url)), db.connect());
    let waiter = wait!(backend(&mut b));
    for timeout in [None, Some(LONG)] {
        let mut holder = hold(&db);
        let held = meanwhile!(
            {
                let lock = b.advisory(KEY);
                let lock = match timeout {
                    Some(timeout) => lock.timeout(timeout),
                    None => lock,
                };
                wait!(lock.run(closure!(|_| Ok::<_, Error>(advisory_locks(
                    &mut db.connect()
                )))))
            },
            {
                wait!(wait_until_blocked(&mut observer, waiter));
                release(&mut holder);
            }
        );
        assert_eq!(held.unwrap(), 1);
        assert_eq!(wait!(setting(&mut b, "lock_timeout")), "0");
        assert_eq!(advisory_locks(&mut observer), 0);
    }
});

scenario!(
    a_wait_in_a_transaction_ends_with_the_lock_and_the_callers_own_timeout,
    |db| {
        let (mut b, mut observer, mut holder) = (wait!(connect(&db.url)), db.connect(), hold(&db));
        let waiter = wait!(backend(&mut b));
        let ran = meanwhile!(
            wait!(b.transaction(closure!(|b| {
                wait!(b.batch_execute("SET LOCAL lock_timeout = '70s'"))?;
                wait!(
                    b.advisory(KEY)
                        .timeout(LONG)
                        .run(closure!(|_| Ok::<_, Error>(())))
                )?;
                assert_eq!(wait!(setting(b, "lock_timeout")), "70s");
                wait!(b.advisory(KEY).timeout(LONG).xact().acquire())
            }))),
            {
                wait!(wait_until_blocked(&mut observer, waiter));
                release(&mut holder);
            }
        );
        ran.unwrap();
        assert_eq!(advisory_locks(&mut observer), 0);
        assert_eq!(wait!(setting(&mut b, "lock_timeout")), "0");
    }
);

scenario!(the_lock_timeout_of_the_session_applies_by_default, |db| {
    let (_holder, mut b) = (hold(&db), wait!(connect(&db.url)));
    wait!(b.batch_execute("SET lock_timeout = '50ms'")).unwrap();
    let refused = wait!(b.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))));
    assert!(refused.unwrap_err().is_not_acquired());
    assert_eq!(wait!(setting(&mut b, "lock_timeout")), "50ms");
});

scenario!(
    a_timeout_out_of_range_is_refused_before_anything_is_sent,
    |db| {
        let mut a = wait!(connect(&db.url));
        let ended = wait!(a.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())"));
        ended.unwrap_err();
        for refused in [
            Duration::ZERO,
            Duration::from_micros(999),
            Duration::from_secs(60 * 60 * 24 * 25),
        ] {
            let ran = wait!(
                a.advisory(KEY)
                    .timeout(refused)
                    .run(closure!(|_| Ok::<_, Error>(())))
            );
            assert!(matches!(ran, Err(Error::InvalidTimeout(d)) if d == refused));
            let ran = wait!(
                a.advisory(KEY)
                    .timeout(refused)
                    .try_run(closure!(|_| Ok::<_, Error>(())))
            );
            assert!(matches!(ran, Err(Error::InvalidTimeout(_))));
        }
    }
);

scenario!(a_cancelled_wait_is_an_error_of_its_own, |db| {
    let (_holder, mut b) = (hold(&db), wait!(connect(&db.url)));
    wait!(b.batch_execute("SET statement_timeout = '50ms'")).unwrap();
    let ran = wait!(b.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))));
    assert!(matches!(ran, Err(Error::Query(_))));
    let ran = wait!(
        b.advisory(KEY)
            .timeout(LONG)
            .try_run(closure!(|_| Ok::<_, Error>(())))
    );
    assert!(matches!(ran, Err(Error::Query(_))));
    assert_eq!(advisory_locks(&mut db.connect()), 1, "the holder's");
    assert_eq!(wait!(setting(&mut b, "lock_timeout")), "0");
});

scenario!(a_deadlock_is_an_error_of_its_own, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let mut observer = db.connect();
    let waiter = wait!(backend(&mut b));
    let mut theirs = Ok(());
    let mine = wait!(a.advisory(1).run(closure!(|a| {
        let mut mine = Ok(());
        theirs = meanwhile!(
            wait!(b.advisory(2).run(closure!(|b| {
                wait!(
                    b.advisory(1)
                        .timeout(LONG)
                        .run(closure!(|_| Ok::<_, Error>(())))
                )
            }))),
            {
                wait!(wait_until_blocked(&mut observer, waiter));
                mine = wait!(a.advisory(2).run(closure!(|_| Ok::<_, Error>(()))));
                // If this was the victim, the other still waits.
                if mine.is_err() {
                    wait!(a.batch_execute("SELECT pg_advisory_unlock_all()")).unwrap();
                }
            }
        );
        mine
    })));
    let failed: Vec<_> = [mine, theirs].into_iter().filter_map(Result::err).collect();
    assert!(
        failed.iter().any(|error| matches!(error, Error::Query(_))),
        "{failed:?}"
    );
    assert!(!failed.iter().any(Error::is_not_acquired), "{failed:?}");
    assert_eq!(advisory_locks(&mut observer), 0);
});

scenario!(a_lost_connection_is_not_a_refusal, |db| {
    let (_holder, mut b, mut observer) = (hold(&db), wait!(connect(&db.url)), db.connect());
    let waiter = wait!(backend(&mut b));
    let ran = meanwhile!(
        wait!(
            b.advisory(KEY)
                .timeout(LONG)
                .run(closure!(|_| Ok::<_, Error>(())))
        ),
        {
            wait!(wait_until_blocked(&mut observer, waiter));
            count(
                &mut observer,
                &format!("SELECT pg_terminate_backend({waiter})::int"),
            );
        }
    );
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
});

scenario!(a_refusal_names_the_holder_and_the_waiters_ahead, |db| {
    let holder =
        "SET application_name = 'work`er\x1b'; SELECT pg_advisory_lock(42); BEGIN; SELECT  1";
    let (holder, mut queued) = (db.running(holder), db.connect());
    let (mut b, mut observer) = (wait!(connect(&db.url)), db.connect());
    let waiter = crate::support::pid(&mut queued);
    let waiting = std::thread::spawn(move || {
        let _ = diesel::connection::SimpleConnection::batch_execute(
            &mut queued,
            "SET lock_timeout = '30s'; SELECT pg_advisory_lock_shared(42)",
        );
    });
    wait!(wait_until_blocked(&mut observer, waiter));
    let refused = wait!(
        b.advisory(KEY)
            .timeout(SHORT)
            .run(closure!(|_| Ok::<_, Error>(())))
    );
    let refused = refused.unwrap_err();
    let message = refused.to_string();
    let Error::NotAcquired { holders, .. } = refused else {
        panic!("{message}")
    };
    assert_eq!(
        holders.len(),
        2,
        "the waiting session is not its own blocker"
    );
    assert_eq!((holders[0].granted, holders[1].granted), (true, false));
    assert_eq!(holders[1].pid, Some(waiter));
    let activity = holders[0].activity.as_ref().unwrap();
    assert_eq!(activity.state, Some(BackendState::IdleInTransaction));
    let (pid, waiter) = (activity.pid, waiter);
    for part in [
        format!("; held by pid {pid} (application `work'er"),
        "user `postgres`, idle in transaction for ".to_owned(),
        "last query `SET application_name".to_owned(),
        format!(", also awaited by pid {waiter} ("),
    ] {
        assert!(message.contains(&part), "{part} in {message}");
    }
    assert!(!message.contains(char::is_control), "{message:?}");
    drop(holder);
    waiting.join().unwrap();
});

scenario!(an_error_in_the_closure_releases_and_is_returned, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let failed = wait!(a.advisory(KEY).run(closure!(|a| wait!(fail(a)))));
    assert!(matches!(failed, Err(Error::Query(_))));
    assert_free!(b);
});

scenario!(
    an_error_inside_a_transaction_releases_and_leaves_it_usable,
    |db| {
        let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
        let ran = wait!(a.transaction(closure!(|a| {
            wait!(a.batch_execute("INSERT INTO users (name) VALUES ('kept')"))?;
            assert!(wait!(a.advisory(KEY).run(closure!(|a| wait!(fail(a))))).is_err());
            assert_free!(b);
            let swallowed = wait!(a.advisory(KEY).run(closure!(|a| {
                let _ = wait!(fail(a));
                Ok::<_, Error>(())
            })));
            assert!(swallowed.is_err(), "what it wrote is lost");
            assert_free!(b);
            wait!(a.batch_execute("INSERT INTO users (name) VALUES ('kept')"))?;
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        let kept = wait!(number(
            &mut a,
            "SELECT count(*) FROM users WHERE name = 'kept'"
        ));
        assert_eq!(kept, 2);
    }
);

scenario!(
    a_call_in_an_aborted_transaction_fails_and_takes_nothing_with_it,
    |db| {
        let mut a = wait!(connect(&db.url));
        let failed = wait!(a.transaction(closure!(|a| {
            let _ = wait!(fail(a));
            wait!(a.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))))
        })));
        assert!(matches!(failed, Err(Error::Query(_))), "{failed:?}");
        let ran = wait!(a.transaction(closure!(|a| {
            wait!(a.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))))
        })));
        ran.unwrap();
        assert_eq!(advisory_locks(&mut db.connect()), 0);
    }
);

scenario!(a_panic_releases, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    assert!(panics!(wait!(
        a.advisory(KEY)
            .run(closure!(|_| -> Result<(), Error> { panic!("plain") }))
    )));
    assert_free!(b);
    assert!(panics!(wait!(a.advisory(KEY).run(closure!(|a| {
        wait!(a.transaction(closure!(|a| -> Result<(), Error> {
            let _ = wait!(fail(a));
            panic!("in an aborted transaction")
        })))
    })))));
    assert_free!(b);
    assert_eq!(
        wait!(number(&mut a, "SELECT 1")),
        1,
        "the session is usable"
    );
    wait!(a.begin_test_transaction()).unwrap();
    assert!(panics!(wait!(a.advisory(KEY).run(closure!(
        |a| -> Result<(), Error> {
            let _ = wait!(fail(a));
            panic!("in a transaction around")
        }
    )))));
    assert_free!(b);
    assert_eq!(
        wait!(number(&mut a, "SELECT 1")),
        1,
        "so is the transaction"
    );
});

scenario!(a_wait_that_fails_with_the_lock_releases_it, |db| {
    let mut observer = db.connect();
    let mut b = wait!(connect(&db.role_url()));
    let waiter = wait!(backend(&mut b));
    // With a lock timeout the statement goes on after the lock.
    wait!(b.batch_execute("SET lock_timeout = '1min'")).unwrap();
    let mut holder = hold(&db);
    let ran = meanwhile!(
        wait!(b.advisory(KEY).run(closure!(|_| Ok::<_, Error>(())))),
        {
            wait!(wait_until_blocked(&mut observer, waiter));
            // The lock is acquired, and the rest of the statement fails.
            db.running("REVOKE EXECUTE ON FUNCTION set_config(text, text, bool) FROM PUBLIC");
            release(&mut holder);
        }
    );
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
    assert_eq!(advisory_locks(&mut observer), 0);
    assert_free!(b);
});

scenario!(
    a_release_that_fails_ends_the_session_and_the_lock_with_it,
    |db| {
        let mut observer = db.connect();
        let mut a = wait!(connect(&db.role_url()));
        db.running("REVOKE EXECUTE ON FUNCTION pg_advisory_unlock(bigint) FROM PUBLIC");
        let ran = wait!(a.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))));
        assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
        wait_until("the session has ended", || {
            advisory_locks(&mut observer) == 0
        });
        assert!(wait!(a.batch_execute("SELECT 1")).is_err());
    }
);

/// Makes this database's `pg_try_advisory_lock` fail after it took the lock, or before, like a
/// cancel at the last moment. The server calls a built-in function by its oid, so another has to
/// take over its name.
fn failing_try(db: &Database, takes: &str) {
    db.running(&format!(
        "UPDATE pg_proc SET proname = 'original_try'
         WHERE oid = 'pg_catalog.pg_try_advisory_lock(bigint)'::regprocedure;
         CREATE FUNCTION pg_catalog.pg_try_advisory_lock(bigint) RETURNS bool
         LANGUAGE plpgsql AS $$ BEGIN {takes}
         RAISE EXCEPTION USING ERRCODE = 'query_canceled'; END $$"
    ));
}

macro_rules! run_or_try {
    ($conn:expr, $try_only:expr) => {
        if $try_only {
            wait!(
                $conn
                    .advisory(KEY)
                    .try_run(closure!(|_| Ok::<_, Error>(())))
            )
            .map(drop)
        } else {
            wait!($conn.advisory(KEY).run(closure!(|_| Ok::<_, Error>(()))))
        }
    };
}

scenario!(
    a_try_that_fails_after_it_acquired_the_lock_releases_it,
    |db| {
        failing_try(&db, "PERFORM pg_advisory_lock($1);");
        let mut observer = db.connect();
        for in_transaction in [false, true] {
            for try_only in [false, true] {
                let mut a = wait!(connect(&db.url));
                let pid = wait!(backend(&mut a));
                let ran: Result<(), Error> = if in_transaction {
                    wait!(a.transaction(closure!(|a| -> Result<(), Error> {
                        run_or_try!(a, try_only)
                    })))
                } else {
                    run_or_try!(a, try_only)
                };
                ran.unwrap_err();
                wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
                let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
                wait_until("the session has ended", || {
                    count(&mut observer, &alive) == 0
                });
            }
        }
    }
);

scenario!(
    a_try_that_fails_without_the_lock_leaves_session_and_transaction_usable,
    |db| {
        failing_try(&db, "");
        let mut a = wait!(connect(&db.url));
        let ran = wait!(a.transaction(closure!(|a| {
            let tried = wait!(a.advisory(KEY).try_run(closure!(|_| Ok::<_, Error>(()))));
            tried.unwrap_err();
            wait!(a.batch_execute("UPDATE users SET name = 'usable'"))?;
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        let usable = "SELECT count(*) FROM users WHERE name = 'usable'";
        assert_eq!(wait!(number(&mut a, usable)), 2);
    }
);

scenario!(
    a_try_that_fails_in_a_transaction_leaves_an_outer_hold_or_no_lock_at_all,
    |db| {
        let mut a = wait!(connect(&db.url));
        wait!(a.batch_execute("SELECT pg_advisory_lock(42)")).unwrap();
        failing_try(&db, "");
        let tried = wait!(a.transaction(closure!(|a| {
            wait!(a.advisory(KEY).try_run(closure!(|_| Ok::<_, Error>(()))))
        })));
        tried.unwrap_err();
        // The server does not show the number of holds: with an outer hold the session ends.
        let mut observer = db.connect();
        wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
    }
);

scenario!(a_session_ends_without_the_privilege_to_end_one, |db| {
    let mut observer = db.connect();
    let url = db.role_url();
    db.running(
        "REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC;
             REVOKE EXECUTE ON FUNCTION pg_advisory_unlock(bigint) FROM PUBLIC",
    );
    for in_transaction in [false, true] {
        let mut a = wait!(connect(&url));
        let pid = wait!(backend(&mut a));
        let ran: Result<(), Error> = if in_transaction {
            wait!(a.transaction(closure!(|a| -> Result<(), Error> { run_or_try!(a, false) })))
        } else {
            run_or_try!(a, false)
        };
        ran.unwrap_err();
        // The next statement is sent at once, as the next user of a pool would.
        wait!(a.batch_execute("SELECT 1")).unwrap_err();
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
        wait_until("the session has ended", || {
            count(&mut observer, &alive) == 0
        });
        assert_eq!(advisory_locks(&mut observer), 0);
    }
});

scenario!(
    a_polling_session_holds_no_snapshot_and_acquires_the_lock_in_the_end,
    |db| {
        let (mut a, mut observer) = (wait!(connect(&db.url)), db.connect());
        let pid = wait!(backend(&mut a));
        let mut holder = hold(&db);
        let lock = a.advisory(KEY).polling().timeout(SHORT);
        let refused = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
        assert!(refused.unwrap_err().is_not_acquired());
        let ran = meanwhile!(
            wait!(
                a.advisory(KEY)
                    .polling()
                    .timeout(LONG)
                    .run(closure!(|_| Ok::<_, Error>(())))
            ),
            {
                wait!(pause(SHORT * 3));
                let waits =
                    format!("SELECT count(*) FROM pg_locks WHERE pid = {pid} AND NOT granted");
                assert_eq!(count(&mut observer, &waits), 0);
                release(&mut holder);
            }
        );
        ran.unwrap();
        assert_eq!(advisory_locks(&mut observer), 0);
    }
);
