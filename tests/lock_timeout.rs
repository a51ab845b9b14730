//! `with_lock_timeout` on a sync connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::Error;
use diesel_pglock::prelude::*;

use crate::support::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lock_timeout(conn: &mut PgConnection) -> String {
    setting(conn, "lock_timeout")
}

#[test]
fn scopes_nest_and_each_restores_what_was_there() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.with_lock_timeout(seconds(1), |conn| {
        assert_eq!(lock_timeout(conn), "1s");
        conn.with_lock_timeout(seconds(2), |conn| {
            assert_eq!(lock_timeout(conn), "2s");
            Ok::<_, Error>(())
        })?;
        assert_eq!(lock_timeout(conn), "1s");
        conn.transaction(|conn| {
            conn.with_lock_timeout(seconds(3), |conn| {
                let failed = conn.transaction(|conn| {
                    conn.with_lock_timeout(seconds(4), |conn| {
                        assert_eq!(lock_timeout(conn), "4s");
                        conn.with_lock_timeout(seconds(5), |conn| {
                            assert_eq!(lock_timeout(conn), "5s");
                            conn.batch_execute("INSERT INTO users (name) VALUES (NULL)")
                        })
                    })
                });
                assert!(failed.is_err());
                assert_eq!(lock_timeout(conn), "3s", "back with the rollback");
                conn.with_lock_timeout(None, |conn| {
                    assert_eq!(lock_timeout(conn), "0");
                    Ok::<_, Error>(())
                })?;
                assert_eq!(lock_timeout(conn), "3s");
                Ok::<_, Error>(())
            })
        })?;
        assert_eq!(lock_timeout(conn), "1s");
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(lock_timeout(&mut conn), "0");
}

#[test]
fn a_setting_of_the_callers_own_comes_back() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute("SET lock_timeout = '7s'").unwrap();
    conn.with_lock_timeout(seconds(1), |_| Ok::<_, Error>(()))
        .unwrap();
    assert_eq!(lock_timeout(&mut conn), "7s");
    conn.transaction(|conn| {
        conn.batch_execute("SET lock_timeout = '8s'")?;
        conn.with_lock_timeout(seconds(1), |_| Ok::<_, Error>(()))?;
        assert_eq!(lock_timeout(conn), "8s");
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(
        lock_timeout(&mut conn),
        "8s",
        "a `SET` outlives its transaction"
    );
}

#[test]
fn an_error_and_a_panic_restore() {
    let db = Database::new();
    let mut conn = db.connect();
    let failed = conn.with_lock_timeout(seconds(1), |conn| conn.batch_execute("SELECT 1/0"));
    assert!(failed.is_err());
    assert_eq!(lock_timeout(&mut conn), "0");
    let panics = || {
        conn.with_lock_timeout(seconds(1), |_| -> Result<(), Error> {
            panic!("in the closure")
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(lock_timeout(&mut conn), "0");
}

#[test]
fn an_aborted_transaction_restores_by_its_rollback() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.batch_execute("SET lock_timeout = '7s'").unwrap();
    let failed = conn.transaction(|conn| {
        conn.with_lock_timeout(seconds(1), |conn| conn.batch_execute("SELECT 1/0"))
    });
    assert!(
        matches!(failed, Err(diesel::result::Error::DatabaseError(..))),
        "the closure's error"
    );
    assert_eq!(lock_timeout(&mut conn), "7s");
}

#[test]
fn a_timeout_has_a_range() {
    let db = Database::new();
    let mut conn = db.connect();
    for refused in [
        Duration::ZERO,
        Duration::from_micros(1),
        seconds(60 * 60 * 24 * 25),
    ] {
        let error = conn
            .with_lock_timeout(refused, |_| Ok::<_, Error>(()))
            .unwrap_err();
        assert!(matches!(error, Error::InvalidTimeout(d) if d == refused));
    }
    conn.with_lock_timeout(Duration::from_micros(1500), |conn| {
        assert_eq!(lock_timeout(conn), "2ms");
        Ok::<_, Error>(())
    })
    .unwrap();
}
