//! `with_lock_timeout`.

use std::time::Duration;

use diesel_pglock::Error;

use super::*;

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

macro_rules! assert_timeout {
    ($conn:expr, $value:literal $(, $why:literal)?) => {
        assert_eq!(wait!(setting($conn, "lock_timeout")), $value $(, $why)?);
    };
}

scenario!(scopes_nest_and_each_restores_the_previous_value, |db| {
    let mut conn = wait!(connect(&db.url));
    let ran = wait!(conn.with_lock_timeout(
        seconds(1),
        closure!(|conn| {
            assert_timeout!(conn, "1s");
            wait!(conn.with_lock_timeout(
                seconds(2),
                closure!(|conn| {
                    assert_timeout!(conn, "2s");
                    Ok::<_, Error>(())
                })
            ))?;
            assert_timeout!(conn, "1s");
            wait!(conn.transaction(closure!(|conn| {
                wait!(conn.with_lock_timeout(
                    seconds(3),
                    closure!(|conn| {
                        let failed = wait!(conn.transaction(closure!(|conn| {
                            wait!(conn.with_lock_timeout(
                                seconds(4),
                                closure!(|conn| {
                                    assert_timeout!(conn, "4s");
                                    wait!(conn.with_lock_timeout(
                                        seconds(5),
                                        closure!(|conn| {
                                            assert_timeout!(conn, "5s");
                                            wait!(conn.batch_execute(
                                                "INSERT INTO users (name) VALUES (NULL)"
                                            ))
                                        })
                                    ))
                                })
                            ))
                        })));
                        assert!(failed.is_err());
                        assert_timeout!(conn, "3s", "back with the rollback");
                        wait!(conn.with_lock_timeout(
                            None,
                            closure!(|conn| {
                                assert_timeout!(conn, "0");
                                Ok::<_, Error>(())
                            })
                        ))?;
                        assert_timeout!(conn, "3s");
                        Ok::<_, Error>(())
                    })
                ))
            })))?;
            assert_timeout!(conn, "1s");
            Ok::<_, Error>(())
        })
    ));
    ran.unwrap();
    assert_timeout!(&mut conn, "0");
});

scenario!(a_setting_of_the_caller_is_restored, |db| {
    let mut conn = wait!(connect(&db.url));
    wait!(conn.batch_execute("SET lock_timeout = '7s'")).unwrap();
    let ran = wait!(conn.with_lock_timeout(seconds(1), closure!(|_| Ok::<_, Error>(()))));
    ran.unwrap();
    assert_timeout!(&mut conn, "7s");
    let ran = wait!(conn.transaction(closure!(|conn| {
        wait!(conn.batch_execute("SET lock_timeout = '8s'"))?;
        wait!(conn.with_lock_timeout(seconds(1), closure!(|_| Ok::<_, Error>(()))))?;
        assert_timeout!(conn, "8s");
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    assert_timeout!(&mut conn, "8s", "a `SET` outlives its transaction");
});

scenario!(an_error_and_a_panic_restore, |db| {
    let mut conn = wait!(connect(&db.url));
    let failed = wait!(conn.with_lock_timeout(seconds(1), closure!(|conn| wait!(fail(conn)))));
    assert!(failed.is_err());
    assert_timeout!(&mut conn, "0");
    assert!(panics!(wait!(conn.with_lock_timeout(
        seconds(1),
        closure!(|_| -> Result<(), Error> { panic!("in the closure") })
    ))));
    assert_timeout!(&mut conn, "0");
});

scenario!(a_panic_in_a_nested_transaction_restores_too, |db| {
    let mut conn = wait!(connect(&db.url));
    assert!(panics!(wait!(conn.with_lock_timeout(
        seconds(1),
        closure!(|conn| {
            // Diesel leaves the transaction open, and its rollback would bring the timeout back.
            wait!(conn.transaction(closure!(|_| -> Result<(), Error> {
                panic!("in a transaction")
            })))
        })
    ))));
    wait!(conn.batch_execute("ROLLBACK")).unwrap();
    assert_timeout!(&mut conn, "0");
});

scenario!(an_aborted_transaction_restores_by_its_rollback, |db| {
    let mut conn = wait!(connect(&db.url));
    wait!(conn.batch_execute("SET lock_timeout = '7s'")).unwrap();
    let failed = wait!(conn.transaction(closure!(|conn| {
        wait!(conn.with_lock_timeout(
            seconds(1),
            closure!(|conn| wait!(conn.batch_execute("SELECT 1/0")))
        ))
    })));
    let theirs = matches!(failed, Err(diesel::result::Error::DatabaseError(..)));
    assert!(theirs, "the closure's error");
    assert_timeout!(&mut conn, "7s");
});

scenario!(a_timeout_has_a_range, |db| {
    let mut conn = wait!(connect(&db.url));
    for refused in [
        Duration::ZERO,
        Duration::from_micros(1),
        seconds(60 * 60 * 24 * 25),
    ] {
        let ran = wait!(conn.with_lock_timeout(refused, closure!(|_| Ok::<_, Error>(()))));
        assert!(matches!(ran, Err(Error::InvalidTimeout(d)) if d == refused));
    }
    let rounded = Duration::from_micros(1500);
    let ran = wait!(conn.with_lock_timeout(
        rounded,
        closure!(|conn| {
            assert_timeout!(conn, "2ms");
            Ok::<_, Error>(())
        })
    ));
    ran.unwrap();
});

scenario!(a_session_whose_timeout_cannot_be_restored_is_ended, |db| {
    let mut conn = wait!(connect(&db.role_url()));
    let ran = wait!(conn.with_lock_timeout(
        seconds(1),
        closure!(|_| {
            db.running("REVOKE EXECUTE ON FUNCTION set_config(text, text, bool) FROM PUBLIC");
            Ok::<_, Error>(())
        })
    ));
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
    assert!(wait!(conn.batch_execute("SELECT 1")).is_err());
});
