//! Behind a PgBouncer in transaction mode, with Diesel's statement cache off.

use std::time::Duration;

use diesel::connection::CacheSize;
use diesel_pglock::{Error, TableLockMode::Share};

use super::*;
use crate::support::{Database, advisory_locks, users};

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

macro_rules! pooled {
    ($url:expr) => {{
        let mut conn = wait!(connect(&$url));
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        conn
    }};
}

/// Occupies the backend that was used last, until its transaction ends.
fn occupy(url: &str) -> diesel::PgConnection {
    running(url, "BEGIN")
}

/// Acquires a lock on the free backend.
fn lock_shared(url: &str) -> diesel::PgConnection {
    running(url, "SELECT pg_advisory_lock_shared(1)")
}

/// Opens a sync session, in the tests of both front ends: a second async client closes its
/// statements at any time, and then the first client gets the other backend.
fn running(url: &str, query: &str) -> diesel::PgConnection {
    use diesel::{Connection, PgConnection, connection::SimpleConnection};
    let mut conn = PgConnection::establish(url).expect("a session");
    conn.batch_execute(query).expect("an answer");
    conn
}

/// Terminates the backends of a test's database.
fn clean_up(db: &Database) {
    db.running(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()",
    );
}

/// Runs the body with the URL of a fresh database through PgBouncer.
macro_rules! behind_pgbouncer {
    ($name:ident, |$db:ident, $url:ident| $body:block) => {
        scenario!($name, |$db| {
            if let Some($url) = crate::pgbouncer::url(&$db) {
                $body
                clean_up(&$db);
            }
        });
    };
}

behind_pgbouncer!(locks_of_a_transaction_work, |db, url| {
    let mut conn = pooled!(url);
    let ran = wait!(conn.transaction(closure!(|conn| {
        wait!(conn.advisory(1).xact().timeout(LONG).acquire())?;
        wait!(
            conn.lock_table::<users::table>(Share)
                .timeout(LONG)
                .acquire()
        )?;
        wait!(conn.with_lock_timeout(
            LONG,
            closure!(|conn| {
                assert_eq!(wait!(setting(conn, "lock_timeout")), "1min");
                Ok::<_, Error>(())
            })
        ))?;
        assert_eq!(wait!(setting(conn, "lock_timeout")), "0");
        // A session lock is released before the transaction frees the backend.
        wait!(conn.advisory(2).run(closure!(|_| Ok::<_, Error>(()))))?;
        assert_eq!(advisory_locks(&mut db.connect()), 1);
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    assert_eq!(advisory_locks(&mut db.connect()), 0);
});

behind_pgbouncer!(a_refusal_leaves_the_transaction_usable, |db, url| {
    let mut conn = pooled!(url);
    let _holder =
        db.running("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE");
    let ran = wait!(conn.transaction(closure!(|conn| {
        assert!(!wait!(
            conn.advisory(1).xact().timeout(SHORT).try_acquire()
        )?);
        let refused = wait!(
            conn.lock_table::<users::table>(Share)
                .timeout(SHORT)
                .acquire()
        );
        assert!(refused.unwrap_err().is_not_acquired());
        assert_eq!(wait!(setting(conn, "lock_timeout")), "0");
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    let lock = conn.advisory(1).xact().timeout(SHORT);
    let refused = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
    assert!(refused.unwrap_err().is_not_acquired());
});

behind_pgbouncer!(a_session_lock_on_another_backend_is_detected, |_db, url| {
    let mut conn = pooled!(url);
    let mut occupied = None;
    let ran = wait!(conn.advisory(1).run(closure!(|_| {
        occupied = Some(occupy(&url));
        Ok::<_, Error>(())
    })));
    let error = ran.unwrap_err();
    assert!(
        matches!(error, Error::SessionChanged { found: Some(_), .. }),
        "{error}"
    );
    let message = error.to_string();
    assert!(
        message.contains("advisory lock `1`") && message.contains("pooler"),
        "{message}"
    );
});

behind_pgbouncer!(no_lock_of_another_session_is_released, |db, url| {
    let mut conn = pooled!(url);
    let mut occupied = None;
    // Both backends hold the lock, shared.
    let ran = wait!(conn.advisory(1).shared().run(closure!(|_| {
        occupied = Some((occupy(&url), lock_shared(&url)));
        Ok::<_, Error>(())
    })));
    assert!(matches!(ran, Err(Error::SessionChanged { .. })), "{ran:?}");
    assert_eq!(advisory_locks(&mut db.connect()), 2);
});

behind_pgbouncer!(
    a_session_setting_on_another_backend_is_detected,
    |_db, url| {
        let mut conn = pooled!(url);
        let mut occupied = None;
        let ran = wait!(conn.with_lock_timeout(
            LONG,
            closure!(|_| {
                occupied = Some(occupy(&url));
                Ok::<_, Error>(())
            })
        ));
        let error = ran.unwrap_err();
        assert!(matches!(error, Error::SessionChanged { .. }), "{error}");
        assert!(
            error
                .to_string()
                .starts_with("`lock_timeout` was asked for on backend")
        );
    }
);
