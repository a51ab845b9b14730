//! The cost of a call: the statements that the server sees.

use std::time::Duration;

use diesel_pglock::{Error, TableLockMode::Share};

use super::*;
use crate::support::{logged, users};

const LONG: Duration = Duration::from_secs(60);

/// Counts the statements that a call sends.
macro_rules! cost {
    ($pid:expr, $call:expr) => {{
        let before = logged($pid);
        let answer = $call;
        (logged($pid) - before, answer)
    }};
}

macro_rules! logging {
    ($db:expr) => {{
        let mut conn = wait!(connect(&$db.url));
        wait!(conn.batch_execute("SET log_statement = 'all'")).unwrap();
        let pid = wait!(backend(&mut conn));
        (conn, pid)
    }};
}

scenario!(
    a_run_under_a_free_lock_is_two_statements_with_or_without_a_timeout,
    |db| {
        let (mut conn, pid) = logging!(db);
        for _ in 0..2 {
            let lock = conn.advisory(1);
            let (cost, ran) = cost!(pid, wait!(lock.run(closure!(|_| Ok::<_, Error>(())))));
            assert_eq!((cost, ran.unwrap()), (2, ()));
            let lock = conn.advisory(1).timeout(LONG);
            let (cost, ran) = cost!(pid, wait!(lock.run(closure!(|_| Ok::<_, Error>(())))));
            assert_eq!((cost, ran.unwrap()), (2, ()));
        }
    }
);

scenario!(
    a_lock_inside_a_transaction_is_one_statement_on_a_key_and_two_on_tables,
    |db| {
        let (mut conn, pid) = logging!(db);
        let ran = wait!(conn.transaction(closure!(|conn| {
            let lock = conn.advisory(1).xact().timeout(LONG);
            let (cost, locked) = cost!(pid, wait!(lock.acquire()));
            assert_eq!((cost, locked?), (1, ()));
            for timeout in [None, Some(LONG)] {
                let lock = conn.lock_table::<users::table>(Share);
                let lock = match timeout {
                    Some(timeout) => lock.timeout(timeout),
                    None => lock,
                };
                let (cost, locked) = cost!(pid, wait!(lock.acquire()));
                assert_eq!((cost, locked?), (2, ()));
            }
            Ok::<_, Error>(())
        })));
        ran.unwrap();
    }
);

scenario!(a_run_that_waits_reads_no_outcome, |db| {
    let (mut conn, pid) = logging!(db);
    let mut observer = db.connect();
    for timeout in ["0", "1min"] {
        wait!(conn.batch_execute(&format!("SET lock_timeout = '{timeout}'"))).unwrap();
        let holder = db.running("SELECT pg_advisory_lock(1)");
        let (cost, ran) = cost!(
            pid,
            meanwhile!(
                wait!(conn.advisory(1).run(closure!(|_| Ok::<_, Error>(())))),
                {
                    wait!(wait_until_blocked(&mut observer, pid));
                    drop(holder);
                }
            )
        );
        // A lock timeout takes one more: the outcome tells whether it has passed.
        let expected = if timeout == "0" { 3 } else { 4 };
        assert_eq!((cost, ran.unwrap()), (expected, ()), "{timeout}");
    }
});

scenario!(
    a_table_lock_in_its_own_transaction_is_three_statements,
    |db| {
        let (mut conn, pid) = logging!(db);
        for timeout in [None, Some(LONG)] {
            let lock = conn.lock_table::<users::table>(Share);
            let lock = match timeout {
                Some(timeout) => lock.timeout(timeout),
                None => lock,
            };
            let (cost, ran) = cost!(pid, wait!(lock.run(closure!(|_| Ok::<_, Error>(())))));
            assert_eq!((cost, ran.unwrap()), (3, ()));
        }
    }
);

scenario!(
    a_lock_timeout_is_two_statements_beside_those_of_the_closure,
    |db| {
        let (mut conn, pid) = logging!(db);
        let call = cost!(
            pid,
            wait!(conn.with_lock_timeout(LONG, closure!(|_| Ok::<_, Error>(()))))
        );
        assert_eq!((call.0, call.1.unwrap()), (2, ()));
        let ran = wait!(conn.transaction(closure!(|conn| {
            let call = cost!(
                pid,
                wait!(conn.with_lock_timeout(
                    LONG,
                    closure!(|conn| wait!(conn.batch_execute("SELECT 1")))
                ))
            );
            let (cost, ran) = call;
            assert_eq!((cost, ran?), (3, ()));
            Ok::<_, Error>(())
        })));
        ran.unwrap();
    }
);

scenario!(
    a_refusal_is_one_statement_more_to_name_the_holder_and_a_failed_try_is_not,
    |db| {
        let _holder = db.running("SELECT pg_advisory_lock(1)");
        let (mut conn, pid) = logging!(db);
        let lock = conn.advisory(1).nowait();
        let (cost, ran) = cost!(pid, wait!(lock.run(closure!(|_| Ok::<_, Error>(())))));
        assert_eq!((cost, ran.unwrap_err().is_not_acquired()), (2, true));
        let lock = conn.advisory(1);
        let (cost, ran) = cost!(pid, wait!(lock.try_run(closure!(|_| Ok::<_, Error>(())))));
        assert_eq!((cost, ran.unwrap()), (1, None));
    }
);
