//! Transactions that a closure opens and abandons: none of their work is committed.

use diesel_pglock::{Error, TableLockMode::Share};

use super::*;
use crate::support::{Database, count, users};

fn accounts(db: &Database) {
    db.running(
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int);
         INSERT INTO accounts VALUES (1, 1000), (2, 1000)",
    );
}

fn total(db: &Database) -> i64 {
    count(&mut db.connect(), "SELECT sum(balance) FROM accounts")
}

fn marked(db: &Database) -> i64 {
    count(
        &mut db.connect(),
        "SELECT count(*) FROM users WHERE name = 'done'",
    )
}

/// Begins a transfer in a transaction of its own, panics halfway, and returns `Ok`.
macro_rules! half_a_transfer {
    ($conn:expr) => {{
        let conn = $conn;
        wait!(conn.batch_execute("UPDATE users SET name = 'done' WHERE id = 1"))?;
        assert!(panics!(wait!(conn.transaction(closure!(
            |conn| -> Result<(), Error> {
                wait!(
                    conn.batch_execute("UPDATE accounts SET balance = balance - 100 WHERE id = 1")
                )?;
                panic!("halfway")
            }
        )))));
        Ok::<_, Error>(())
    }};
}

scenario!(
    the_abandoned_half_under_a_transaction_lock_is_rolled_back,
    |db| {
        accounts(&db);
        let mut conn = wait!(connect(&db.url));
        let ran = wait!(
            conn.advisory(1)
                .xact()
                .run(closure!(|conn| half_a_transfer!(conn)))
        );
        ran.unwrap();
        assert_eq!((total(&db), marked(&db)), (2000, 1));
    }
);

scenario!(the_abandoned_half_under_a_table_lock_is_rolled_back, |db| {
    accounts(&db);
    let mut conn = wait!(connect(&db.url));
    let ran = wait!(
        conn.lock_table::<users::table>(Share)
            .run(closure!(|conn| half_a_transfer!(conn)))
    );
    ran.unwrap();
    assert_eq!((total(&db), marked(&db)), (2000, 1));
});

scenario!(
    the_abandoned_half_under_a_session_lock_in_a_transaction_is_rolled_back,
    |db| {
        accounts(&db);
        let mut conn = wait!(connect(&db.url));
        let ran = wait!(conn.transaction(closure!(|conn| {
            wait!(
                conn.advisory(1)
                    .run(closure!(|conn| half_a_transfer!(conn)))
            )?;
            wait!(conn.batch_execute("UPDATE accounts SET balance = balance WHERE id = 2"))?;
            Ok::<_, Error>(())
        })));
        ran.unwrap();
        assert_eq!((total(&db), marked(&db)), (2000, 1));
    }
);

scenario!(
    an_abandoned_transaction_ends_before_a_session_lock_is_released,
    |db| {
        accounts(&db);
        let mut conn = wait!(connect(&db.url));
        wait!(
            conn.advisory(1)
                .run(closure!(|conn| half_a_transfer!(conn)))
        )
        .unwrap();
        // Without an open transaction this one is the outermost, and commits.
        let ran = wait!(conn.transaction(closure!(|conn| {
            wait!(conn.batch_execute("UPDATE users SET name = 'done' WHERE id = 2"))
        })));
        ran.unwrap();
        assert_eq!((total(&db), marked(&db)), (2000, 2));
    }
);

scenario!(
    an_abandoned_transaction_does_not_bring_the_lock_timeout_back,
    |db| {
        accounts(&db);
        let mut conn = wait!(connect(&db.url));
        let minute = std::time::Duration::from_secs(60);
        let ran = wait!(conn.with_lock_timeout(minute, closure!(|conn| half_a_transfer!(conn))));
        ran.unwrap();
        assert_eq!(wait!(setting(&mut conn, "lock_timeout")), "0");
        let ran = wait!(conn.transaction(closure!(|conn| {
            wait!(conn.batch_execute("UPDATE users SET name = 'done' WHERE id = 2"))
        })));
        ran.unwrap();
        assert_eq!((total(&db), marked(&db)), (2000, 2));
    }
);
