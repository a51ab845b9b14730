//! Connections of an r2d2 pool: a returned connection holds no lock and no changed setting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, TableLockMode::Share};

use crate::support::*;

type Handle = PooledConnection<ConnectionManager<PgConnection>>;

/// One use of a connection.
type Use<'u> = dyn Fn(&mut Handle) -> Result<(), Error> + 'u;

fn fail(conn: &mut Handle) -> Result<(), Error> {
    Ok(conn.batch_execute("SELECT 1/0")?)
}

fn die(conn: &mut Handle) -> Result<(), Error> {
    Ok(conn.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")?)
}

/// Returns a pool of one connection, so that the next use finds all that a use leaves behind.
fn pool(db: &Database) -> Pool<ConnectionManager<PgConnection>> {
    Pool::builder()
        .max_size(1)
        .build(ConnectionManager::new(&db.url))
        .expect("a pool")
}

/// Ends each kind of lock and timeout in each way; the next user finds a fresh session.
#[test]
fn no_outcome_leaves_a_lock_or_a_setting_behind() {
    let db = Database::new();
    let (pool, mut observer) = (pool(&db), db.connect());
    let panic = |_: &mut Handle| panic!("in the closure");
    let endings: [&Use<'_>; 4] = [&|_| Ok(()), &fail, &die, &panic];
    for end in endings {
        let uses: [&Use<'_>; 7] = [
            &|conn| conn.advisory(1).run(|conn| end(conn)),
            &|conn| conn.advisory(1).xact().run(|conn| end(conn)),
            &|conn| conn.lock_table::<users::table>(Share).run(|conn| end(conn)),
            &|conn| conn.with_lock_timeout(Duration::from_secs(1), |conn| end(conn)),
            &|conn| end(&mut *conn.advisory(1).acquire()?),
            &|conn| {
                conn.transaction(|conn| {
                    conn.with_lock_timeout(None, |conn| conn.advisory(1).run(|conn| end(conn)))
                })
            },
            // In the aborted transaction the guard cannot release.
            &|conn| conn.transaction(|conn| end(&mut *conn.advisory(1).acquire()?)),
        ];
        for used in uses {
            let mut conn = pool.get().unwrap();
            let _ = catch_unwind(AssertUnwindSafe(|| used(&mut conn)));
            drop(conn);
            wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
            let mut conn = pool.get().unwrap();
            assert_eq!(setting(&mut conn, "lock_timeout"), "0");
            let taken = conn.lock_table::<users::table>(Share);
            assert!(taken.try_run(|_| Ok::<_, Error>(())).unwrap().is_some());
        }
    }
}

#[test]
fn a_release_that_failed_outside_a_transaction_does_not_come_back_with_the_next_statement() {
    let db = Database::new();
    let (url, mut observer) = (db.role_url(), db.connect());
    let pool = Pool::builder()
        .max_size(1)
        .build(ConnectionManager::<PgConnection>::new(url))
        .unwrap();
    db.running("REVOKE EXECUTE ON FUNCTION pg_advisory_unlock(bigint) FROM PUBLIC");
    let mut conn = pool.get().unwrap();
    let before = conn.backend_pid().unwrap();
    conn.advisory(1).run(|_| Ok::<_, Error>(())).unwrap_err();
    let _ = conn.batch_execute("SELECT 1"); // would take the mark back on a session that lives
    drop(conn);
    wait_until("no lock is held", || advisory_locks(&mut observer) == 0);
    assert_ne!(pool.get().unwrap().backend_pid().unwrap(), before);
}
