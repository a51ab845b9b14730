//! Dropping the future of a call, at each of its await points in turn.
//!
//! A call is polled until it has been pending `n` times, then dropped, for
//! n = 1, 2, 3 … until one runs to its end before that. After each, the pool hands out a
//! connection that holds nothing, and no lock is left.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8::Pool};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, TableLockMode::Exclusive};

use crate::async_contract::{eventually, setting};
use crate::support::*;

type Handle<'p> = diesel_async::pooled_connection::bb8::PooledConnection<'p, AsyncPgConnection>;

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(50);

/// Polls a future until it has been pending `n` times; `None` if it did not end before.
async fn at_most<T>(n: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut pending = 0;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => {
            pending += 1;
            match pending < n {
                true => Poll::Pending,
                false => Poll::Ready(None),
            }
        }
    })
    .await
}

/// Runs a call that drops its future after `n` times pending; `before` creates the lock for which
/// it waits.
async fn dropped_everywhere<B>(
    before: impl Fn(&Database) -> B,
    call: impl AsyncFn(&mut Handle<'_>, usize) -> Option<Result<(), Error>>,
) {
    let db = Database::new();
    let manager = AsyncDieselConnectionManager::new(&db.url);
    let pool: Pool<AsyncPgConnection> = Pool::builder().max_size(1).build(manager).await.unwrap();
    let mut observer = db.connect();
    for n in 1..500 {
        let holder = before(&db);
        let mut conn = pool.get().await.unwrap();
        let ended = call(&mut conn, n).await;
        drop((conn, holder));
        eventually("no lock is left", || advisory_locks(&mut observer) == 0).await;
        let mut conn = pool.get().await.unwrap();
        assert_eq!(setting(&mut conn, "lock_timeout").await, "0", "n = {n}");
        let taken = conn.lock_table::<users::table>(Exclusive);
        let taken = taken
            .timeout(LONG)
            .try_run(async |_| Ok::<_, Error>(()))
            .await;
        assert!(taken.unwrap().is_some(), "n = {n}");
        if ended.is_some() {
            assert!(n > 1, "there was nothing to drop");
            return;
        }
    }
    panic!("it never ends");
}

fn nothing(_: &Database) {}

/// Returns a session that holds the lock for longer than the call waits.
fn a_holder(db: &Database) -> diesel::PgConnection {
    db.running("SELECT pg_advisory_lock(1); BEGIN; LOCK TABLE users IN SHARE MODE")
}

/// Starts a session that releases the lock while the call waits.
fn a_short_holder(db: &Database) -> std::thread::JoinHandle<()> {
    let holder = a_holder(db);
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        drop(holder);
    })
}

async fn work(conn: &mut Handle<'_>) -> Result<(), Error> {
    conn.batch_execute("SELECT 1").await?;
    Ok(conn.batch_execute("SELECT pg_sleep(0.001)").await?)
}

async fn fail(conn: &mut Handle<'_>) -> Result<(), Error> {
    work(conn).await?;
    Ok(conn.batch_execute("SELECT 1/0").await?)
}

/// Runs in a transaction that continues, and commits, after the inner future was dropped.
macro_rules! in_a_transaction {
    ($conn:ident, $n:ident, $inner:expr) => {{
        let mut ended = None;
        let _ = $conn
            .transaction(async |$conn| {
                ended = at_most($n, $inner).await;
                Ok::<_, Error>(())
            })
            .await;
        ended
    }};
}

macro_rules! dropped_everywhere {
    ($name:ident, $before:expr, |$conn:ident, $n:ident| $call:expr) => {
        #[tokio::test]
        async fn $name() {
            dropped_everywhere($before, async |$conn, $n| $call).await;
        }
    };
}

dropped_everywhere!(a_run_under_a_free_lock, nothing, |conn, n| {
    at_most(n, conn.advisory(1).run(async |conn| work(conn).await)).await
});

dropped_everywhere!(a_run_whose_closure_fails, nothing, |conn, n| {
    at_most(n, conn.advisory(1).run(async |conn| fail(conn).await)).await
});

dropped_everywhere!(
    a_run_that_waits_and_gets_the_lock,
    a_short_holder,
    |conn, n| { at_most(n, conn.advisory(1).run(async |conn| work(conn).await)).await }
);

dropped_everywhere!(a_run_that_waits_in_vain, a_holder, |conn, n| {
    let lock = conn.advisory(1).timeout(SHORT);
    at_most(n, lock.run(async |conn| work(conn).await)).await
});

dropped_everywhere!(a_run_inside_a_transaction, nothing, |conn, n| {
    in_a_transaction!(conn, n, conn.advisory(1).run(async |conn| work(conn).await))
});

dropped_everywhere!(
    a_run_inside_a_transaction_whose_closure_fails,
    nothing,
    |conn, n| { in_a_transaction!(conn, n, conn.advisory(1).run(async |conn| fail(conn).await)) }
);

dropped_everywhere!(
    a_run_inside_a_transaction_that_waits,
    a_short_holder,
    |conn, n| {
        let lock_and_run = async |conn: &mut Handle<'_>| {
            conn.advisory(1)
                .timeout(LONG)
                .run(async |conn| work(conn).await)
                .await
        };
        in_a_transaction!(conn, n, lock_and_run(conn))
    }
);

dropped_everywhere!(
    an_xact_lock_with_its_own_transaction,
    a_short_holder,
    |conn, n| {
        let lock = conn.advisory(1).xact().timeout(LONG);
        at_most(n, lock.run(async |conn| work(conn).await)).await
    }
);

dropped_everywhere!(an_xact_lock_in_a_transaction, a_short_holder, |conn, n| {
    in_a_transaction!(conn, n, conn.advisory(1).xact().timeout(LONG).acquire())
});

dropped_everywhere!(
    a_table_lock_with_its_own_transaction,
    a_short_holder,
    |conn, n| {
        let lock = conn.lock_table::<users::table>(Exclusive).timeout(LONG);
        at_most(n, lock.run(async |conn| work(conn).await)).await
    }
);

dropped_everywhere!(a_table_lock_in_a_transaction, a_short_holder, |conn, n| {
    let lock = async |conn: &mut Handle<'_>| {
        let lock = conn.lock_table::<users::table>(Exclusive);
        lock.timeout(LONG).acquire().await
    };
    in_a_transaction!(conn, n, lock(conn))
});

dropped_everywhere!(a_lock_timeout, nothing, |conn, n| {
    at_most(
        n,
        conn.with_lock_timeout(LONG, async |conn| work(conn).await),
    )
    .await
});

dropped_everywhere!(a_lock_timeout_in_a_transaction, nothing, |conn, n| {
    in_a_transaction!(
        conn,
        n,
        conn.with_lock_timeout(LONG, async |conn| work(conn).await)
    )
});

/// Transfers in two halves, in a transaction of its own.
async fn transfer(conn: &mut Handle<'_>) -> Result<(), Error> {
    conn.transaction(async |conn| {
        conn.batch_execute("UPDATE accounts SET balance = balance - 100 WHERE id = 1")
            .await?;
        conn.batch_execute("UPDATE accounts SET balance = balance + 100 WHERE id = 2")
            .await?;
        Ok(())
    })
    .await
}

/// Drops an inner transaction after `n` times pending, in a closure that then returns `Ok`.
macro_rules! no_half_of_an_inner_transaction {
    ($name:ident, |$conn:ident, $inner:ident| $call:expr) => {
        #[tokio::test]
        async fn $name() {
            let db = Database::new();
            let mut observer = db.running(
                "CREATE TABLE accounts (id int PRIMARY KEY, balance int);
                 INSERT INTO accounts VALUES (1, 1000), (2, 1000)",
            );
            let manager = AsyncDieselConnectionManager::new(&db.url);
            let pool: Pool<AsyncPgConnection> =
                Pool::builder().max_size(1).build(manager).await.unwrap();
            for n in 1..100 {
                let mut handle = pool.get().await.unwrap();
                let $conn = &mut handle;
                let mut ended = None;
                let $inner = async |conn: &mut Handle<'_>| {
                    ended = at_most(n, transfer(conn)).await;
                    Ok::<_, Error>(())
                };
                // A connection that broke halfway is an error, and commits nothing either.
                let _ = $call.await;
                drop(handle);
                let total = "SELECT sum(balance) FROM accounts";
                assert_eq!(count(&mut observer, total), 2000, "n = {n}");
                if ended.is_some() {
                    assert!(n > 2, "there was nothing to drop");
                    return;
                }
            }
            panic!("it never ends");
        }
    };
}

no_half_of_an_inner_transaction!(
    an_inner_transaction_under_a_transaction_lock,
    |conn, inner| conn.advisory(1).xact().run(inner)
);

no_half_of_an_inner_transaction!(an_inner_transaction_under_a_table_lock, |conn, inner| conn
    .lock_table::<users::table>(Exclusive)
    .run(inner));

no_half_of_an_inner_transaction!(
    an_inner_transaction_under_a_lock_in_a_transaction,
    |conn, inner| conn.transaction(async |conn| conn.advisory(1).run(inner).await)
);

#[tokio::test]
async fn an_owned_connection_releases_the_lock_too() {
    let db = Database::new();
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let forever =
        async |_: &mut AsyncPgConnection| std::future::pending::<Result<(), Error>>().await;
    let cancelled = tokio::time::timeout(SHORT, conn.advisory(1).run(forever)).await;
    assert!(cancelled.is_err());
    let mut observer = db.connect();
    eventually("the lock is free", || advisory_locks(&mut observer) == 0).await;
    assert!(conn.batch_execute("SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_future_dropped_in_an_aborted_transaction_ends_the_session_too() {
    async fn aborted(conn: &mut AsyncPgConnection) -> Result<(), Error> {
        conn.transaction(async |conn| {
            assert!(conn.batch_execute("SELECT 1/0").await.is_err());
            std::future::pending().await
        })
        .await
    }
    let db = Database::new();
    let mut observer = db.connect();
    for with_lock in [true, false] {
        let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
        let session = conn.backend_pid().await.unwrap();
        let run = async {
            match with_lock {
                true => conn.advisory(1).run(aborted).await,
                false => conn.with_lock_timeout(LONG, aborted).await,
            }
        };
        assert!(tokio::time::timeout(SHORT, run).await.is_err());
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {session}");
        eventually("the session ends", || count(&mut observer, &alive) == 0).await;
        assert_eq!(advisory_locks(&mut observer), 0);
    }
}

#[tokio::test]
async fn a_future_dropped_under_another_role_ends_the_session_too() {
    let db = Database::new();
    let role = format!("{}_another", db.name);
    let mut observer = db.running(&format!("CREATE ROLE {role}"));
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    conn.batch_execute(&format!("SET ROLE {role}"))
        .await
        .unwrap();
    let forever =
        async |_: &mut AsyncPgConnection| std::future::pending::<Result<(), Error>>().await;
    let cancelled = tokio::time::timeout(SHORT, conn.advisory(1).run(forever)).await;
    assert!(cancelled.is_err());
    eventually("the lock is free", || advisory_locks(&mut observer) == 0).await;
}

/// A session that may not end itself can do nothing once it was returned, until the server ends
/// it.
#[tokio::test]
async fn a_future_dropped_without_the_privilege_to_end_a_session_ends_it_too() {
    let db = Database::new();
    let (mut observer, url) = (db.connect(), db.role_url());
    db.running("REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC");
    let mut conn = AsyncPgConnection::establish(&url).await.unwrap();
    let forever =
        async |_: &mut AsyncPgConnection| std::future::pending::<Result<(), Error>>().await;
    let cancelled = tokio::time::timeout(SHORT, conn.advisory(1).run(forever)).await;
    assert!(cancelled.is_err());
    conn.batch_execute("CREATE TABLE mine (a int)")
        .await
        .unwrap_err();
    eventually("the lock is free", || advisory_locks(&mut observer) == 0).await;
}

/// One cancel, at a random moment, does not keep the session from ending.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_future_dropped_while_a_cancel_arrives_ends_the_session_too() {
    let db = Database::new();
    let (mut observer, mut chance) = (db.connect(), Chance(1));
    for _ in 0..300 {
        let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
        let session = conn.backend_pid().await.unwrap();
        let entered = tokio::sync::Notify::new();
        let forever = async |_: &mut AsyncPgConnection| -> Result<(), Error> {
            entered.notify_one();
            std::future::pending().await
        };
        tokio::select! {
            _ = conn.advisory(1).run(forever) => unreachable!("it never ends"),
            () = entered.notified() => {}
        }
        let moment = Instant::now() + chance.micros(400);
        while Instant::now() < moment {}
        let cancel = format!("SELECT pg_cancel_backend({session})::int");
        count(&mut observer, &cancel);
        let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {session}");
        eventually("the session ends", || count(&mut observer, &alive) == 0).await;
    }
}

/// PostgreSQL 14 and later check for lost clients, and end their waits.
#[tokio::test]
async fn waits_whose_futures_were_dropped_do_not_pile_up_behind_a_pool() {
    if server().version() < 14 {
        return;
    }
    let db = Database::new();
    let manager = AsyncDieselConnectionManager::new(&db.url);
    let pool: Pool<AsyncPgConnection> = Pool::builder().max_size(2).build(manager).await.unwrap();
    let (_holder, mut observer) = (a_holder(&db), db.connect());
    let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = \
                   (SELECT oid FROM pg_database WHERE datname = current_database())";
    for request in 0..10 {
        let mut conn = pool.get().await.unwrap();
        let dropped = if request % 2 == 0 {
            let wait = conn.advisory(1).run(async |conn| work(conn).await);
            tokio::time::timeout(SHORT, wait).await.is_err()
        } else {
            let lock = conn.lock_table::<users::table>(Exclusive);
            let wait = lock.run(async |conn| work(conn).await);
            tokio::time::timeout(SHORT, wait).await.is_err()
        };
        assert!(dropped, "request {request}");
    }
    eventually("the waits end", || count(&mut observer, waiting) == 0).await;
}
