//! The same outcomes on a server whose messages are German.

use std::time::Duration;

use diesel_pglock::{Error, TableLockMode::Share};

use super::*;
use crate::support::users;

const SHORT: Duration = Duration::from_millis(100);
const LONG: Duration = Duration::from_secs(60);

/// Runs the body on a database of the German server.
macro_rules! auf_deutsch {
    ($name:ident, |$db:ident| $body:block) => {
        scenario!($name, |_english| {
            if let Some($db) = crate::german::database() {
                $body
            }
        });
    };
}

auf_deutsch!(the_messages_are_not_english, |db| {
    let mut conn = wait!(connect(&db.url));
    let error = wait!(fail(&mut conn)).unwrap_err();
    assert!(format!("{:#}", anyhow::Error::from(error)).contains("Division durch Null"));
});

auf_deutsch!(a_refusal_is_a_refusal, |db| {
    let _holder =
        db.running("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE");
    let mut conn = wait!(connect(&db.url));
    let lock = conn.advisory(1).timeout(SHORT);
    let refused = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
    assert!(refused.unwrap_err().is_not_acquired());
    let lock = conn.advisory(1).timeout(SHORT);
    let refused = wait!(lock.try_run(closure!(|_| Ok::<_, Error>(()))));
    assert_eq!(refused.unwrap(), None);
    let ran = wait!(conn.transaction(closure!(|conn| {
        assert!(!wait!(
            conn.advisory(1).xact().timeout(SHORT).try_acquire()
        )?);
        let lock = conn.lock_table::<users::table>(Share);
        assert!(!wait!(lock.timeout(SHORT).try_acquire())?);
        assert!(!wait!(
            conn.lock_table::<users::table>(Share).try_acquire()
        )?);
        wait!(conn.batch_execute("SET LOCAL lock_timeout = '50ms'"))?;
        let refused = wait!(conn.lock_table::<users::table>(Share).acquire());
        assert!(refused.unwrap_err().is_not_acquired());
        Ok::<_, Error>(())
    })));
    ran.unwrap();
});

auf_deutsch!(another_error_is_not_a_refusal, |db| {
    let _holder = db.running("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users");
    let (mut conn, mut observer) = (wait!(connect(&db.url)), db.connect());
    wait!(conn.batch_execute("SET statement_timeout = '50ms'")).unwrap();
    let lock = conn.advisory(1).timeout(LONG);
    let ran = wait!(lock.run(closure!(|_| Ok::<_, Error>(()))));
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
    let lock = conn.lock_table::<users::table>(Share).timeout(LONG);
    let ran = wait!(lock.try_run(closure!(|_| Ok::<_, Error>(()))));
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
    wait!(conn.batch_execute("RESET statement_timeout")).unwrap();
    let waiter = wait!(backend(&mut conn));
    let ran = meanwhile!(
        wait!(conn.advisory(1).run(closure!(|_| Ok::<_, Error>(())))),
        {
            wait!(wait_until_blocked(&mut observer, waiter));
            let cancel = format!("SELECT pg_cancel_backend({waiter})::int");
            crate::support::count(&mut observer, &cancel);
        }
    );
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
});
