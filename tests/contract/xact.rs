//! Advisory locks of the transaction.

use diesel_pglock::TableLockMode::Share;
use diesel_pglock::{AdvisoryKey, Error};

use super::*;
use crate::support::{advisory_locks, users};

const KEY: AdvisoryKey = AdvisoryKey::new(42);

scenario!(an_xact_lock_ends_with_the_transaction, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let ran = wait!(a.transaction(closure!(|a| {
        wait!(a.advisory(KEY).xact().acquire())?;
        let refused = wait!(
            b.advisory(KEY)
                .xact()
                .try_run(closure!(|_| Ok::<_, Error>(())))
        )?;
        assert_eq!(refused, None);
        let refused = wait!(
            b.advisory(KEY)
                .xact()
                .nowait()
                .run(closure!(|_| Ok::<_, Error>(())))
        );
        assert!(refused.unwrap_err().is_not_acquired());
        Ok::<_, Error>(())
    })));
    ran.unwrap();
    let failed = wait!(b.advisory(KEY).xact().run(closure!(|b| {
        let refused = wait!(
            a.advisory(KEY)
                .xact()
                .try_run(closure!(|_| Ok::<_, Error>(1)))
        )?;
        assert_eq!(refused, None);
        assert_eq!(advisory_locks(&mut db.connect()), 1);
        wait!(fail(b))
    })));
    failed.unwrap_err();
    let ran = wait!(
        a.advisory(KEY)
            .xact()
            .try_run(closure!(|_| Ok::<_, Error>(1)))
    );
    assert_eq!(ran.unwrap(), Some(1));
    assert_eq!(advisory_locks(&mut db.connect()), 0);
});

scenario!(a_failed_try_in_a_transaction_leaves_it_usable, |db| {
    let (_holder, mut b) = (
        db.running("SELECT pg_advisory_lock(42)"),
        wait!(connect(&db.url)),
    );
    let ran = wait!(b.transaction(closure!(|b| {
        assert!(!wait!(b.advisory(KEY).xact().try_acquire())?);
        let refused = wait!(b.advisory(KEY).xact().nowait().acquire());
        assert!(refused.unwrap_err().is_not_acquired());
        assert!(wait!(b.advisory(KEY).xact().shared().try_acquire()).is_ok_and(|taken| !taken));
        assert!(wait!(b.advisory("another").xact().try_acquire())?);
        assert_eq!(wait!(number(b, "SELECT 1")), 1);
        Ok::<_, Error>(())
    })));
    ran.unwrap();
});

scenario!(
    an_xact_lock_needs_a_transaction_and_run_opens_its_own,
    |db| {
        let mut a = wait!(connect(&db.url));
        let outside = wait!(a.advisory(KEY).xact().acquire());
        assert!(matches!(outside, Err(Error::NotInTransaction)));
        let outside = wait!(a.advisory(KEY).xact().try_acquire());
        assert!(matches!(outside, Err(Error::NotInTransaction)));
        let ran = wait!(a.transaction(closure!(|a| {
            let nested = wait!(a.advisory(KEY).xact().run(closure!(|_| Ok::<_, Error>(()))));
            assert!(matches!(nested, Err(Error::InTransaction)));
            let nested = wait!(
                a.advisory(KEY)
                    .xact()
                    .try_run(closure!(|_| Ok::<_, Error>(())))
            );
            assert!(matches!(nested, Err(Error::InTransaction)));
            assert_eq!(wait!(number(a, "SELECT 1")), 1);
            Ok::<_, Error>(())
        })));
        ran.unwrap();
    }
);

scenario!(an_xact_lock_goes_with_the_savepoint_it_was_taken_in, |db| {
    let (mut a, mut b) = (wait!(connect(&db.url)), wait!(connect(&db.url)));
    let ran = wait!(a.transaction(closure!(|a| {
        let failed = wait!(a.transaction(closure!(|a| {
            wait!(a.advisory(KEY).xact().acquire())?;
            wait!(fail(a))
        })));
        assert!(failed.is_err());
        let free = wait!(b.advisory(KEY).try_run(closure!(|_| Ok::<_, Error>(()))))?;
        assert!(free.is_some());
        Ok::<_, Error>(())
    })));
    ran.unwrap();
});

scenario!(a_panic_under_an_xact_lock_rolls_back, |db| {
    let mut a = wait!(connect(&db.url));
    assert!(panics!(wait!(a.advisory(KEY).xact().run(closure!(
        |a| -> Result<(), Error> {
            wait!(a.batch_execute("INSERT INTO users (name) VALUES ('lost')"))?;
            panic!("in the closure")
        }
    )))));
    assert_eq!(advisory_locks(&mut db.connect()), 0);
    let lost = wait!(number(
        &mut a,
        "SELECT count(*) FROM users WHERE name = 'lost'"
    ));
    assert_eq!(lost, 0);
});

scenario!(a_prepared_transaction_is_named_as_the_holder, |db| {
    let _gone =
        db.running("BEGIN; SELECT pg_advisory_xact_lock(42); PREPARE TRANSACTION 'contract'");
    let mut b = wait!(connect(&db.url));
    let refused = wait!(
        b.advisory(KEY)
            .nowait()
            .run(closure!(|_| Ok::<_, Error>(())))
    );
    let message = refused.unwrap_err().to_string();
    wait!(b.batch_execute("ROLLBACK PREPARED 'contract'")).unwrap();
    assert!(
        message.ends_with("; held by a prepared transaction"),
        "{message}"
    );
});

scenario!(
    code_that_opens_a_transaction_can_be_tested_in_a_test_transaction,
    |db| {
        let mut a = wait!(connect(&db.url));
        wait!(a.begin_test_transaction()).unwrap();
        for fails in [false, true] {
            let ran = wait!(a.advisory(KEY).xact().run(closure!(|a| {
                wait!(a.batch_execute("INSERT INTO posts (title) VALUES ('kept')"))?;
                if fails { wait!(fail(a)) } else { Ok(()) }
            })));
            assert_eq!(ran.is_err(), fails);
        }
        let ran = wait!(
            a.lock_table::<users::table>(Share)
                .try_run(closure!(|a| wait!(a.batch_execute("SELECT 1"))))
        );
        assert_eq!(ran.unwrap(), Some(()));
        assert_eq!(
            wait!(number(&mut a, "SELECT count(*) FROM posts")),
            1,
            "the failed run is rolled back, the transaction goes on"
        );
        // A further transaction would keep the lock after `run`, as outside of tests.
        let refused = wait!(a.transaction(closure!(|a| {
            wait!(a.advisory(KEY).xact().run(closure!(|_| Ok::<_, Error>(()))))
        })));
        assert!(matches!(refused, Err(Error::InTransaction)), "{refused:?}");
        drop(a);
        let mut observer = db.connect();
        let kept = crate::support::count(&mut observer, "SELECT count(*) FROM posts");
        assert_eq!(kept, 0);
    }
);
