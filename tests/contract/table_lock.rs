//! Table locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use diesel::Identifiable;
use diesel_pglock::Error;
use diesel_pglock::TableLockMode::{self, *};

use super::*;
use crate::support::{Database, count, posts, server, users, wait_until};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// Returns a session that holds a lock on `table` until it is dropped.
fn hold(db: &Database, table: &str, mode: TableLockMode) -> diesel::PgConnection {
    db.running(&format!("BEGIN; LOCK TABLE {table} IN {mode} MODE"))
}

/// Counts the modes in which this session holds a lock on a table.
macro_rules! held {
    ($conn:expr, $table:literal) => {
        wait!(number(
            $conn,
            concat!(
                "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND granted AND relation = '",
                $table,
                "'::regclass"
            )
        ))
    };
}

scenario!(
    a_table_lock_needs_a_transaction_and_run_opens_its_own,
    |db| {
        let mut conn = wait!(connect(&db.url));
        let outside = wait!(conn.lock_table::<users::table>(Share).acquire());
        assert!(matches!(outside, Err(Error::NotInTransaction)));
        let outside = wait!(conn.lock_table::<users::table>(Share).try_acquire());
        assert!(matches!(outside, Err(Error::NotInTransaction)));
        let ran = wait!(conn.transaction(closure!(|conn| {
            let lock = conn.lock_table::<users::table>(Share);
            let inside = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
            assert!(matches!(inside, Err(Error::InTransaction)));
            let lock = conn.lock_table::<users::table>(Share);
            let inside = wait!(lock.try_run(closure!(|_| Ok::<_, Error>(()))));
            assert!(matches!(inside, Err(Error::InTransaction)));
            wait!(conn.lock_table::<users::table>(Share).acquire())?;
            assert_eq!(held!(conn, "users"), 1);
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        let ran = wait!(conn.lock_table::<users::table>(Share).run(closure!(|conn| {
            assert_eq!(held!(conn, "users"), 1);
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        assert_eq!(held!(&mut conn, "users"), 0);
    }
);

scenario!(the_conflicts_are_those_of_the_server, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    for mode in TableLockMode::ALL {
        for other in TableLockMode::ALL {
            let refused = wait!(a.lock_table::<users::table>(mode).run(closure!(|_| {
                let lock = b.lock_table::<users::table>(other);
                let taken = wait!(lock.try_run(closure!(|_| Ok::<_, Error>(()))))?;
                Ok::<_, Error>(taken.is_none())
            })));
            let conflicts = mode.conflicts_with(other);
            assert_eq!(refused.unwrap(), conflicts, "{other} while {mode} is held");
        }
    }
});

scenario!(a_refused_lock_leaves_the_transaction_usable, |db| {
    let _holder = hold(&db, "users", RowExclusive);
    let mut conn = wait!(connect(&db.url));
    let ran = wait!(conn.transaction(closure!(|conn| {
        wait!(conn.batch_execute("INSERT INTO posts (title) VALUES ('kept')"))?;
        assert!(!wait!(
            conn.lock_table::<users::table>(Share).try_acquire()
        )?);
        let lock = conn.lock_table::<users::table>(Share).nowait();
        assert!(!wait!(lock.try_acquire())?);
        let lock = conn.lock_table::<users::table>(Share).timeout(SHORT);
        assert!(!wait!(lock.try_acquire())?);
        let lock = conn.lock_table::<users::table>(Share).nowait();
        assert!(wait!(lock.acquire()).unwrap_err().is_not_acquired());
        let lock = conn.lock_table::<users::table>(Share).timeout(SHORT);
        let refused = wait!(lock.acquire()).unwrap_err();
        assert!(matches!(&refused, Error::NotAcquired { waited, .. } if *waited >= SHORT));
        let message = refused.to_string();
        assert!(
            message.starts_with("SHARE lock on `\"users\"` was not acquired within 1"),
            "{message}"
        );
        assert_eq!(wait!(setting(conn, "lock_timeout")), "0");
        wait!(conn.batch_execute("INSERT INTO posts (title) VALUES ('kept')"))?;
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    assert_eq!(wait!(number(&mut conn, "SELECT count(*) FROM posts")), 2);
});

scenario!(
    a_wait_ends_with_the_lock_and_the_callers_own_timeout,
    |db| {
        let (mut conn, mut observer) = (wait!(connect(&db.url)), db.connect());
        let waiter = wait!(backend(&mut conn));
        for timeout in [None, Some(Duration::from_secs(60))] {
            let holder = hold(&db, "users", Share);
            let ran = meanwhile!(
                wait!(conn.transaction(closure!(|conn| {
                    wait!(conn.batch_execute("SET LOCAL lock_timeout = '70s'"))?;
                    let lock = conn.lock_table::<users::table>(Exclusive);
                    let lock = match timeout {
                        Some(timeout) => lock.timeout(timeout),
                        None => lock,
                    };
                    wait!(lock.acquire())?;
                    assert_eq!(wait!(setting(conn, "lock_timeout")), "70s");
                    Ok::<_, Error>(held!(conn, "users"))
                }))),
                {
                    wait!(wait_until_blocked(&mut observer, waiter));
                    drop(holder);
                }
            );
            assert_eq!(ran.unwrap(), 1);
        }
    }
);

scenario!(the_lock_timeout_of_the_session_applies_by_default, |db| {
    let (_holder, mut conn) = (hold(&db, "users", Share), wait!(connect(&db.url)));
    wait!(conn.batch_execute("SET lock_timeout = '50ms'")).unwrap();
    let lock = conn.lock_table::<users::table>(Exclusive);
    let refused = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
    assert!(refused.unwrap_err().is_not_acquired());
});

scenario!(
    a_refusal_names_the_holder_of_the_table_or_of_a_child,
    |db| {
        diesel::table! { parent (id) { id -> Integer, } }
        db.running(
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10)",
        );
        let _reader = hold(&db, "child", AccessShare);
        let _writer = hold(&db, "child", RowExclusive);
        let mut conn = wait!(connect(&db.url));
        let lock = conn.lock_table::<parent::table>(Share).nowait();
        let refused = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
        let Err(Error::NotAcquired { holders, .. }) = refused else {
            panic!("{refused:?}")
        };
        let [writer] = &holders[..] else {
            panic!("{holders:#?}")
        };
        assert_eq!(writer.mode, RowExclusive.into());
        assert_eq!(writer.relation.as_ref().unwrap().name, "child");
        let lock = conn.lock_table::<parent::table>(Share).only().nowait();
        wait!(lock.run(closure!(|_| Ok::<_, Error>(())))).unwrap();
    }
);

scenario!(several_tables_are_locked_or_none_is, |db| {
    let _holder = hold(&db, "posts", Share);
    let mut conn = wait!(connect(&db.url));
    let ran = wait!(conn.transaction(closure!(|conn| {
        let lock = conn
            .lock_table::<posts::table>(AccessShare)
            .and::<users::table>();
        wait!(lock.acquire())?;
        let lock = conn
            .lock_table::<users::table>(RowExclusive)
            .and::<posts::table>();
        assert!(!wait!(lock.timeout(SHORT).try_acquire())?);
        assert_eq!(
            held!(conn, "users"),
            1,
            "what was locked before, and no more"
        );
        Ok::<_, Error>(())
    })));
    ran.unwrap();
});

scenario!(the_deadline_counts_for_all_tables_together, |db| {
    let (first, _second) = (hold(&db, "users", Share), hold(&db, "posts", Share));
    let (mut conn, mut observer) = (wait!(connect(&db.url)), db.connect());
    let waiter = wait!(backend(&mut conn));
    let timeout = Duration::from_secs(2);
    let refused = meanwhile!(
        {
            let lock = conn
                .lock_table::<users::table>(Exclusive)
                .and::<posts::table>();
            wait!(lock.timeout(timeout).run(closure!(|_| Ok::<_, Error>(()))))
        },
        {
            wait!(wait_until_blocked(&mut observer, waiter));
            wait!(pause(timeout * 3 / 4)); // most of the time goes to the first table
            drop(first);
        }
    );
    let Err(Error::NotAcquired { waited, .. }) = refused else {
        panic!("{refused:?}")
    };
    // Had each its own, it would be 3.5 s.
    assert!(
        waited >= timeout && waited < Duration::from_secs(3),
        "{waited:?}"
    );
});

scenario!(the_deadline_counts_for_all_partitions_together, |db| {
    diesel::table! { parent (id) { id -> Integer, } }
    db.running(
        "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
         CREATE TABLE \"it's a \\ child\" PARTITION OF parent FOR VALUES FROM (0) TO (10);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (id);
         CREATE TABLE grandchild PARTITION OF child FOR VALUES FROM (10) TO (20)",
    );
    let first = hold(&db, "\"it's a \\ child\"", Share);
    let second = hold(&db, "grandchild", Share);
    let (mut conn, mut observer) = (wait!(connect(&db.url)), db.connect());
    let waiter = wait!(backend(&mut conn));
    let timeout = Duration::from_secs(2);
    let refused = meanwhile!(
        {
            let lock = conn.lock_table::<parent::table>(Exclusive).timeout(timeout);
            wait!(lock.run(closure!(|_| Ok::<_, Error>(()))))
        },
        {
            wait!(wait_until_blocked(&mut observer, waiter));
            wait!(pause(timeout * 3 / 4));
            drop(first);
        }
    );
    let Err(Error::NotAcquired {
        waited, holders, ..
    }) = refused
    else {
        panic!("{refused:?}")
    };
    assert!(
        waited >= timeout && waited < Duration::from_secs(3),
        "{waited:?}"
    );
    assert_eq!(holders[0].relation.as_ref().unwrap().name, "grandchild");
    drop(second);
    let lock = conn.lock_table::<parent::table>(Exclusive);
    let ran = wait!(lock.timeout(Duration::from_secs(60)).run(closure!(|conn| {
        assert_eq!(
            (
                held!(conn, "parent"),
                held!(conn, "child"),
                held!(conn, "grandchild")
            ),
            (1, 1, 1)
        );
        Ok::<_, Error>(())
    })));
    ran.unwrap();
});

scenario!(
    a_role_without_rights_on_the_partitions_locks_them_through_the_parent,
    |db| {
        diesel::table! { parent (id) { id -> Integer, } }
        let mut conn = wait!(connect(&db.role_url()));
        db.running(&format!(
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10);
         GRANT ALL ON parent TO {}_role",
            db.name
        ));
        let lock = conn.lock_table::<parent::table>(Exclusive).timeout(SHORT);
        let ran = wait!(lock.run(closure!(|conn| Ok::<_, Error>(held!(conn, "child")))));
        assert_eq!(ran.unwrap(), 1);
        let _holder = hold(&db, "child", Share);
        let lock = conn.lock_table::<parent::table>(Exclusive).timeout(SHORT);
        let ran = wait!(lock.try_run(closure!(|_| Ok::<_, Error>(()))));
        assert_eq!(ran.unwrap(), None);
    }
);

scenario!(
    the_deadline_counts_even_if_only_the_parent_may_be_locked,
    |db| {
        diesel::table! { parent (id) { id -> Integer, } }
        let (mut conn, mut observer) = (wait!(connect(&db.role_url())), db.connect());
        db.running(&format!(
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
             CREATE TABLE one PARTITION OF parent FOR VALUES FROM (0) TO (10);
             CREATE TABLE two PARTITION OF parent FOR VALUES FROM (10) TO (20);
             GRANT ALL ON parent TO {}_role",
            db.name
        ));
        let (first, _second) = (hold(&db, "one", Share), hold(&db, "two", Share));
        let waiter = wait!(backend(&mut conn));
        let timeout = Duration::from_secs(2);
        let refused = meanwhile!(
            {
                let lock = conn.lock_table::<parent::table>(Exclusive).timeout(timeout);
                wait!(lock.run(closure!(|_| Ok::<_, Error>(()))))
            },
            {
                wait!(wait_until_blocked(&mut observer, waiter));
                wait!(pause(timeout * 3 / 4));
                drop(first);
            }
        );
        let Err(Error::NotAcquired { waited, .. }) = refused else {
            panic!("{refused:?}")
        };
        // Had each partition the time that is left, it would be 3.5 s.
        assert!(
            waited >= timeout && waited < Duration::from_secs(3),
            "{waited:?}"
        );
    }
);

scenario!(
    a_role_without_rights_on_the_partitions_keeps_its_place_in_the_queue,
    |db| {
        diesel::table! { parent (id) { id -> Integer, } }
        let mut conn = wait!(connect(&db.role_url()));
        db.running(&format!(
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
             DO $$ BEGIN FOR i IN 0..49 LOOP EXECUTE format('CREATE TABLE part_%s PARTITION OF parent
               FOR VALUES FROM (%s) TO (%s)', i, i, i + 1); END LOOP; END $$;
             GRANT ALL ON parent TO {}_role",
            db.name
        ));
        let readers = overlapping_readers(&db, "part_7");
        for _ in 0..3 {
            let lock = conn.lock_table::<parent::table>(AccessExclusive);
            let ran = wait!(lock.timeout(LONG).run(closure!(|_| Ok::<_, Error>(()))));
            ran.unwrap();
        }
        drop(readers);
    }
);

scenario!(
    a_timeout_over_many_partitions_takes_one_subtransaction,
    |db| {
        diesel::table! { parent (id) { id -> Integer, } }
        let (mut conn, mut observer) = (wait!(connect(&db.url)), db.connect());
        db.running(
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
             DO $$ BEGIN FOR i IN 0..99 LOOP EXECUTE format('CREATE TABLE part_%s PARTITION OF parent
               FOR VALUES FROM (%s) TO (%s)', i, i, i + 1); END LOOP; END $$",
        );
        let next = "SELECT txid_current()";
        let before = count(&mut observer, next);
        let lock = conn.lock_table::<parent::table>(AccessExclusive);
        let ran = wait!(lock.timeout(LONG).run(closure!(|_| Ok::<_, Error>(()))));
        ran.unwrap();
        let taken = count(&mut observer, next) - before;
        // An AccessExclusive lock gives the transaction and the subtransaction a number each;
        // other tests on this server take some, but none takes one per partition here.
        assert!(taken < 100, "{taken} transaction numbers");
    }
);

scenario!(a_table_that_inherits_twice_is_locked_once, |db| {
    diesel::table! { top (id) { id -> Integer, } }
    db.running(
        "CREATE TABLE top (id int); CREATE TABLE a0 () INHERITS (top); CREATE TABLE b0 () INHERITS (top);
         DO $$ BEGIN FOR i IN 1..15 LOOP
           EXECUTE format('CREATE TABLE a%s () INHERITS (a%s, b%s)', i, i - 1, i - 1);
           EXECUTE format('CREATE TABLE b%s () INHERITS (a%s, b%s)', i, i - 1, i - 1);
         END LOOP; END $$",
    );
    let mut conn = wait!(connect(&db.url));
    // Walked along each path, the last of them would come 32,768 times.
    for timeout in [LONG, SHORT] {
        let lock = conn.lock_table::<top::table>(Exclusive).timeout(timeout);
        let ran = wait!(lock.run(closure!(|conn| Ok::<_, Error>(held!(conn, "b15")))));
        assert_eq!(ran.unwrap(), 1);
    }
});

scenario!(
    a_statement_timeout_of_the_session_stays_an_error_and_comes_back,
    |db| {
        let _holder = hold(&db, "users", Share);
        let mut conn = wait!(connect(&db.url));
        wait!(conn.batch_execute("SET statement_timeout = '100ms'")).unwrap();
        let lock = conn.lock_table::<users::table>(Exclusive).timeout(LONG);
        let failed = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
        assert!(matches!(failed, Err(Error::Query(_))), "{failed:?}");
        wait!(conn.batch_execute("SET statement_timeout = '50s'")).unwrap();
        let ran = wait!(conn.transaction(closure!(|conn| {
            let lock = conn.lock_table::<users::table>(Exclusive).timeout(SHORT);
            assert!(!wait!(lock.try_acquire())?);
            assert_eq!(wait!(setting(conn, "statement_timeout")), "50s");
            assert_eq!(wait!(setting(conn, "lock_timeout")), "0");
            let lock = conn.lock_table::<users::table>(AccessShare).timeout(LONG);
            assert!(wait!(lock.try_acquire())?);
            for (name, value) in [("statement_timeout", "50s"), ("lock_timeout", "0")] {
                assert_eq!(wait!(setting(conn, name)), value);
            }
            if server().version() >= 14 {
                assert_eq!(
                    wait!(setting(conn, "client_connection_check_interval")),
                    "0"
                );
            }
            Ok::<_, Error>(())
        })));
        ran.unwrap();
    }
);

/// Starts sessions that read a table in short transactions: at each moment one of them has it
/// locked.
struct Readers {
    done: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

fn overlapping_readers(db: &Database, table: &str) -> Readers {
    let done = Arc::new(AtomicBool::new(false));
    let reader = || {
        let (mut conn, done) = (db.connect(), Arc::clone(&done));
        let read = format!("BEGIN; SELECT count(*) FROM {table}; SELECT pg_sleep(0.12); COMMIT");
        std::thread::spawn(move || {
            while !AtomicBool::load(&done, Ordering::SeqCst) {
                diesel::connection::SimpleConnection::batch_execute(&mut conn, &read).unwrap();
            }
        })
    };
    let threads = (0..3).map(|_| reader()).collect();
    let reads = format!("SELECT count(*) FROM pg_locks WHERE relation = '{table}'::regclass");
    let mut observer = db.connect();
    wait_until("the readers overlap", || count(&mut observer, &reads) > 1);
    Readers { done, threads }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.done.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            thread.join().expect("a reader");
        }
    }
}

scenario!(a_table_that_inherits_may_be_dropped_meanwhile, |db| {
    diesel::table! { parent (id) { id -> Integer, } }
    db.running(
        "CREATE TABLE parent (id int);
         CREATE TABLE one () INHERITS (parent); CREATE TABLE two () INHERITS (parent)",
    );
    let (mut conn, mut observer) = (wait!(connect(&db.url)), db.connect());
    let holder = hold(&db, "one", Share);
    let waiter = wait!(backend(&mut conn));
    let ran = meanwhile!(
        {
            let lock = conn.lock_table::<parent::table>(Exclusive).timeout(LONG);
            wait!(lock.run(closure!(|conn| Ok::<_, Error>(held!(conn, "one")))))
        },
        {
            wait!(wait_until_blocked(&mut observer, waiter));
            db.running("DROP TABLE two");
            drop(holder);
        }
    );
    assert_eq!(ran.unwrap(), 1);
});

scenario!(
    a_refusal_that_cannot_be_explained_leaves_the_transaction_usable,
    |db| {
        let mut conn = wait!(connect(&db.role_url()));
        db.running("REVOKE SELECT ON pg_catalog.pg_stat_activity FROM PUBLIC");
        let _holder = db.running("SELECT pg_advisory_lock(7); BEGIN; LOCK TABLE users");
        let ran = wait!(conn.transaction(closure!(|conn| {
            let lock = conn.lock_table::<users::table>(Share).nowait();
            assert!(wait!(lock.acquire()).unwrap_err().is_not_acquired());
            let lock = conn.advisory(7).xact().nowait();
            assert!(wait!(lock.acquire()).unwrap_err().is_not_acquired());
            wait!(conn.batch_execute("INSERT INTO posts (id) VALUES (1)"))?;
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        let kept = count(&mut db.connect(), "SELECT count(*) FROM posts");
        assert_eq!(kept, 1);
    }
);

scenario!(a_deadlock_is_an_error_of_its_own, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let mut observer = db.connect();
    let waiter = wait!(backend(&mut b));
    let minute = Duration::from_secs(60);
    let mut theirs = Ok(());
    let mine = wait!(a.lock_table::<users::table>(Share).run(closure!(|a| {
        let mut mine = Ok(());
        theirs = meanwhile!(
            wait!(b.lock_table::<posts::table>(Share).run(closure!(|b| {
                wait!(
                    b.lock_table::<users::table>(Exclusive)
                        .timeout(minute)
                        .acquire()
                )
            }))),
            {
                wait!(wait_until_blocked(&mut observer, waiter));
                mine = wait!(
                    a.lock_table::<posts::table>(Exclusive)
                        .timeout(minute)
                        .acquire()
                );
                if mine.is_err() {
                    wait!(a.batch_execute("ROLLBACK")).unwrap(); // the other still waits
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
});

scenario!(a_cancelled_wait_is_an_error_of_its_own, |db| {
    let (_holder, mut conn) = (hold(&db, "users", Share), wait!(connect(&db.url)));
    wait!(conn.batch_execute("SET statement_timeout = '50ms'")).unwrap();
    let lock = conn.lock_table::<users::table>(Exclusive);
    let ran = wait!(
        lock.timeout(Duration::from_secs(60))
            .run(closure!(|_| Ok::<_, Error>(())))
    );
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
    assert_eq!(wait!(setting(&mut conn, "lock_timeout")), "0");
});

scenario!(a_model_is_locked_by_its_table, |db| {
    #[derive(Identifiable)]
    #[diesel(table_name = users)]
    struct User {
        id: i32,
    }
    let mut conn = wait!(connect(&db.url));
    let _ = User { id: 1 }.id;
    let ran = wait!(
        conn.lock_table::<User>(Exclusive)
            .and::<&User>()
            .run(closure!(|conn| { Ok::<_, Error>(held!(conn, "users")) }))
    );
    assert_eq!(ran.unwrap(), 1);
});

scenario!(names_may_hold_anything, |db| {
    diesel::table! {
        #[sql_name = "we\"ird $pglock$ $pglock_$ 'näme'; --\\"]
        app.weird (id) { id -> Integer, }
    }
    db.running(
        "CREATE SCHEMA app; CREATE TABLE app.\"we\"\"ird $pglock$ $pglock_$ 'näme'; --\\\" (id int)",
    );
    let mut conn = wait!(connect(&db.url));
    for conforming in ["on", "off"] {
        let setting = format!("SET standard_conforming_strings = {conforming}");
        wait!(conn.batch_execute(&setting)).unwrap();
        for timeout in [None, Some(SHORT)] {
            let lock = conn.lock_table::<weird::table>(Exclusive);
            let lock = match timeout {
                Some(timeout) => lock.timeout(timeout),
                None => lock,
            };
            let ran = wait!(lock.run(closure!(|conn| {
                let locked = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                              WHERE c.relname LIKE 'we\"ird%' AND l.mode = 'ExclusiveLock'";
                Ok::<_, Error>(wait!(number(conn, locked)))
            })));
            assert_eq!(ran.unwrap(), 1);
        }
    }
});

scenario!(only_leaves_the_partitions_out, |db| {
    diesel::table! { parent (id) { id -> Integer, } }
    db.running(
        "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10)",
    );
    let mut conn = wait!(connect(&db.url));
    let ran = wait!(conn.transaction(closure!(|conn| {
        wait!(conn.lock_table::<parent::table>(Share).only().acquire())?;
        wait!(
            conn.lock_table::<parent::table>(Share)
                .only()
                .timeout(SHORT)
                .acquire()
        )?;
        assert_eq!((held!(conn, "parent"), held!(conn, "child")), (1, 0));
        wait!(conn.lock_table::<parent::table>(Share).acquire())?;
        assert_eq!((held!(conn, "parent"), held!(conn, "child")), (1, 1));
        Ok::<_, Error>(())
    })));
    ran.unwrap();
});

scenario!(a_view_is_locked_with_the_table_below, |db| {
    diesel::table! { names (id) { id -> Integer, } }
    db.running("CREATE VIEW names AS SELECT id FROM users");
    let mut conn = wait!(connect(&db.url));
    let lock = conn.lock_table::<names::table>(Share).timeout(SHORT);
    let ran = wait!(lock.run(closure!(|conn| {
        Ok::<_, Error>((held!(conn, "names"), held!(conn, "users")))
    })));
    assert_eq!(ran.unwrap(), (1, 1));
});

scenario!(the_same_table_may_be_named_twice, |db| {
    let mut conn = wait!(connect(&db.url));
    let lock = conn.lock_table::<users::table>(Share).and::<users::table>();
    wait!(lock.run(closure!(|_| Ok::<_, Error>(())))).unwrap();
});

scenario!(a_missing_table_is_an_error_of_the_server, |db| {
    diesel::table! { missing (id) { id -> Integer, } }
    let mut conn = wait!(connect(&db.url));
    for timeout in [None, Some(SHORT)] {
        let lock = conn.lock_table::<missing::table>(Share);
        let lock = match timeout {
            Some(timeout) => lock.timeout(timeout),
            None => lock,
        };
        let error = wait!(lock.run(closure!(|_| Ok::<_, Error>(())))).unwrap_err();
        assert!(matches!(error, Error::Query(_)), "{error}");
        assert_eq!(wait!(number(&mut conn, "SELECT 1")), 1);
    }
});

scenario!(a_panic_under_a_table_lock_rolls_back, |db| {
    let mut conn = wait!(connect(&db.url));
    assert!(panics!(wait!(conn.lock_table::<users::table>(Share).run(
        closure!(|conn| -> Result<(), Error> {
            wait!(conn.batch_execute("INSERT INTO posts (title) VALUES ('lost')"))?;
            panic!("in the closure")
        })
    ))));
    assert_eq!(held!(&mut conn, "users"), 0);
    assert_eq!(wait!(number(&mut conn, "SELECT count(*) FROM posts")), 0);
});

scenario!(no_type_of_an_earlier_schema_is_used, |db| {
    let mut conn = wait!(connect(&db.url));
    db.running(
        "CREATE SCHEMA evil;
         CREATE FUNCTION evil.spy(pg_catalog.text) RETURNS bool LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'a type of another schema was used'; END $$",
    );
    for name in [
        "text",
        "timestamptz",
        "interval",
        "int4",
        "int8",
        "bool",
        "oid",
        "regclass",
    ] {
        db.running(&format!(
            "CREATE DOMAIN evil.{name} AS pg_catalog.{name} CHECK (evil.spy(VALUE::pg_catalog.text))"
        ));
    }
    let search_path = "SET search_path = evil, pg_catalog, public";
    let _holder = db.running("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users");
    wait!(conn.batch_execute(search_path)).unwrap();
    for limit in [None, Some(SHORT)] {
        let tables = conn.lock_table::<users::table>(Exclusive);
        let tables = match limit {
            Some(limit) => tables.timeout(limit),
            None => tables.nowait(),
        };
        let refused = wait!(tables.run(closure!(|_| Ok::<_, Error>(()))));
        assert!(refused.unwrap_err().is_not_acquired());
        let key = conn.advisory(1);
        let key = match limit {
            Some(limit) => key.timeout(limit),
            None => key.nowait(),
        };
        let refused = wait!(key.run(closure!(|_| Ok::<_, Error>(()))));
        assert!(refused.unwrap_err().is_not_acquired());
    }
    let ran = wait!(conn.with_statement_timeout(
        LONG,
        closure!(|conn| {
            let lock = conn.lock_table::<posts::table>(Exclusive).timeout(LONG);
            wait!(lock.run(closure!(|_| Ok::<_, Error>(()))))
        })
    ));
    ran.unwrap();
});
