//! Table locks on a sync connection.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::Error;
use diesel_pglock::TableLockMode::{self, *};
use diesel_pglock::prelude::*;

use crate::support::*;

const SHORT: Duration = Duration::from_millis(100);

/// Holds a lock on `table` until dropped.
fn hold(db: &Database, table: &str, mode: TableLockMode) -> PgConnection {
    let mut conn = db.connect();
    conn.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN {mode} MODE"))
        .unwrap();
    conn
}

/// The mode that this session holds on `table`.
fn held(conn: &mut PgConnection, table: &str) -> i64 {
    count(
        conn,
        &format!(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND relation = '{table}'::regclass AND granted"
        ),
    )
}

#[test]
fn a_table_lock_wants_a_transaction_and_run_opens_its_own() {
    let db = Database::new();
    let mut conn = db.connect();
    let outside = conn.lock_table::<users::table>(Share).acquire();
    assert!(matches!(outside, Err(Error::NotInTransaction(_))));
    conn.transaction(|conn| {
        let inside = conn
            .lock_table::<users::table>(Share)
            .run(|_| Ok::<_, Error>(()));
        assert!(matches!(inside, Err(Error::InTransaction(_))));
        conn.lock_table::<users::table>(Share).acquire()?;
        assert_eq!(held(conn, "users"), 1);
        Ok::<_, Error>(())
    })
    .unwrap();
    conn.lock_table::<users::table>(Share)
        .run(|conn| {
            assert_eq!(held(conn, "users"), 1);
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(held(&mut conn, "users"), 0);
}

#[test]
fn the_conflicts_are_those_of_the_server() {
    let db = Database::new();
    let (mut a, mut b) = (db.connect(), db.connect());
    for mode in TableLockMode::ALL {
        for other in TableLockMode::ALL {
            let refused = a.lock_table::<users::table>(mode).run(|_| {
                let taken = b
                    .lock_table::<users::table>(other)
                    .try_run(|_| Ok::<_, Error>(()))?;
                Ok::<_, Error>(taken.is_none())
            });
            assert_eq!(
                refused.unwrap(),
                mode.conflicts_with(other),
                "{other} while {mode} is held"
            );
        }
    }
}

#[test]
fn a_refused_lock_leaves_the_transaction_usable() {
    let db = Database::new();
    let _holder = hold(&db, "users", RowExclusive);
    let mut conn = db.connect();
    conn.transaction(|conn| {
        conn.batch_execute("INSERT INTO posts (title) VALUES ('kept')")?;
        assert!(!conn.lock_table::<users::table>(Share).try_acquire()?);
        assert!(
            !conn
                .lock_table::<users::table>(Share)
                .nowait()
                .try_acquire()?
        );
        assert!(
            !conn
                .lock_table::<users::table>(Share)
                .timeout(SHORT)
                .try_acquire()?
        );
        let refused = conn
            .lock_table::<users::table>(Share)
            .nowait()
            .acquire()
            .unwrap_err();
        assert!(refused.is_not_acquired());
        let refused = conn
            .lock_table::<users::table>(Share)
            .timeout(SHORT)
            .acquire()
            .unwrap_err();
        assert!(matches!(&refused, Error::NotAcquired { waited, .. } if *waited >= SHORT));
        assert!(
            refused
                .to_string()
                .starts_with("SHARE lock on `\"users\"` was not acquired within"),
            "{refused}"
        );
        assert_eq!(setting(conn, "lock_timeout"), "0");
        conn.batch_execute("INSERT INTO posts (title) VALUES ('kept')")
    })
    .unwrap();
    assert_eq!(count(&mut conn, "SELECT count(*) FROM posts"), 2);
}

#[test]
fn several_tables_are_locked_under_one_deadline_or_none_is() {
    let db = Database::new();
    let (_a, _b) = (hold(&db, "users", Share), hold(&db, "posts", Share));
    let mut conn = db.connect();
    conn.transaction(|conn| {
        let lock = conn
            .lock_table::<posts::table>(AccessShare)
            .and::<users::table>();
        lock.acquire()?;
        let timeout = Duration::from_millis(400);
        let started = std::time::Instant::now();
        let lock = conn
            .lock_table::<users::table>(RowExclusive)
            .and::<posts::table>();
        assert!(!lock.timeout(timeout).try_acquire()?);
        // One deadline: had each table its own, the second wait would start at 400 ms.
        assert!(started.elapsed() >= timeout);
        assert_eq!(
            held(conn, "users"),
            1,
            "what was locked before, and no more"
        );
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn the_deadline_counts_for_all_tables_together() {
    let db = Database::new();
    let mut first = hold(&db, "users", Share);
    let _second = hold(&db, "posts", Share);
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let waiter = pid(&mut conn);
    std::thread::scope(|scope| {
        let timeout = Duration::from_secs(2);
        let waiting = scope.spawn(move || {
            let lock = conn
                .lock_table::<users::table>(Exclusive)
                .and::<posts::table>();
            lock.timeout(timeout)
                .run(|_| Ok::<_, Error>(()))
                .unwrap_err()
        });
        wait_until_blocked(&mut observer, waiter);
        std::thread::sleep(timeout / 2); // the first table takes half of the time
        first.batch_execute("COMMIT").unwrap();
        let Error::NotAcquired { waited, .. } = waiting.join().unwrap() else {
            panic!("another error")
        };
        assert!(
            waited >= timeout && waited < timeout + timeout / 2,
            "{waited:?}"
        );
    });
}

#[test]
fn a_model_is_locked_by_its_table() {
    #[derive(Identifiable)]
    #[diesel(table_name = users)]
    struct User {
        id: i32,
    }
    let db = Database::new();
    let mut conn = db.connect();
    let _ = User { id: 1 }.id;
    conn.lock_table::<&User>(Exclusive)
        .run(|conn| {
            assert_eq!(held(conn, "users"), 1);
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn names_may_hold_anything() {
    diesel::table! {
        #[sql_name = "we\"ird $pglock$ $pglock_$ 'näme'; --\\"]
        app.weird (id) { id -> Integer, }
    }
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute(
        "CREATE SCHEMA app; CREATE TABLE app.\"we\"\"ird $pglock$ $pglock_$ 'näme'; --\\\" (id int)",
    )
    .unwrap();
    conn.lock_table::<weird::table>(Exclusive)
        .run(|conn| {
            let locked = "SELECT count(*) FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
                          WHERE c.relname LIKE 'we\"ird%' AND l.mode = 'ExclusiveLock'";
            assert_eq!(count(conn, locked), 1);
            Ok::<_, Error>(())
        })
        .unwrap();
}

#[test]
fn only_leaves_the_partitions_out() {
    diesel::table! { parent (id) { id -> Integer, } }
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute(
        "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
         CREATE TABLE child PARTITION OF parent FOR VALUES FROM (0) TO (10)",
    )
    .unwrap();
    conn.transaction(|conn| {
        conn.lock_table::<parent::table>(Share).only().acquire()?;
        assert_eq!((held(conn, "parent"), held(conn, "child")), (1, 0));
        conn.lock_table::<parent::table>(Share).acquire()?;
        assert_eq!((held(conn, "parent"), held(conn, "child")), (1, 1));
        Ok::<_, Error>(())
    })
    .unwrap();
}

#[test]
fn the_same_table_may_be_named_twice() {
    let db = Database::new();
    let mut conn = db.connect();
    let lock = conn.lock_table::<users::table>(Share).and::<users::table>();
    lock.run(|_| Ok::<_, Error>(())).unwrap();
}

#[test]
fn a_table_that_is_not_there_is_an_error_of_the_server() {
    diesel::table! { missing (id) { id -> Integer, } }
    let db = Database::new();
    let mut conn = db.connect();
    let error = conn
        .lock_table::<missing::table>(Share)
        .run(|_| Ok::<_, Error>(()))
        .unwrap_err();
    assert!(matches!(error, Error::Query(_)), "{error}");
    assert_eq!(count(&mut conn, "SELECT 1"), 1);
}
