//! The statement timeout of a scope; what it shares with the lock timeout is tested there.

use std::time::Duration;

use diesel_pglock::Error;

use super::*;

const SHORT: Duration = Duration::from_millis(50);

macro_rules! assert_timeout {
    ($conn:expr, $value:literal) => {
        assert_eq!(wait!(setting($conn, "statement_timeout")), $value);
    };
}

scenario!(
    scopes_of_statement_timeouts_nest_and_restore_the_value_before,
    |db| {
        let mut conn = wait!(connect(&db.url));
        wait!(conn.batch_execute("SET statement_timeout = '55s'")).unwrap();
        let ran = wait!(conn.with_statement_timeout(
            Duration::from_secs(20),
            closure!(|conn| {
                assert_timeout!(conn, "20s");
                wait!(conn.transaction(closure!(|conn| {
                    wait!(conn.with_statement_timeout(
                        None,
                        closure!(|conn| {
                            assert_timeout!(conn, "0");
                            Ok::<_, Error>(())
                        })
                    ))?;
                    assert_timeout!(conn, "20s");
                    Ok::<_, Error>(())
                })))?;
                assert_timeout!(conn, "20s");
                Ok::<_, Error>(())
            })
        ));
        ran.unwrap();
        assert_timeout!(&mut conn, "55s");
    }
);

scenario!(
    a_statement_that_takes_too_long_is_an_error_and_the_value_is_restored,
    |db| {
        let mut conn = wait!(connect(&db.url));
        let before = wait!(setting(&mut conn, "statement_timeout"));
        let slow = wait!(conn.with_statement_timeout(
            SHORT,
            closure!(|conn| wait!(conn.batch_execute("SELECT pg_sleep(50)")))
        ));
        slow.unwrap_err();
        let slow = wait!(conn.transaction(closure!(|conn| {
            wait!(conn.with_statement_timeout(
                SHORT,
                closure!(|conn| wait!(conn.batch_execute("SELECT pg_sleep(50)")))
            ))
        })));
        slow.unwrap_err();
        assert_eq!(wait!(setting(&mut conn, "statement_timeout")), before);
        let refused =
            wait!(conn.with_statement_timeout(Duration::ZERO, closure!(|_| Ok::<_, Error>(()))));
        assert!(matches!(refused, Err(Error::InvalidTimeout(_))));
    }
);
