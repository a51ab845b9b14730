//! Handles of bb8, deadpool and mobc, in spawned tasks.

use std::time::Duration;

use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8, deadpool, mobc};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{AsyncWatcherSource, Error, Prioritizer, TableLockMode::Share};

use crate::async_contract::{eventually, setting};
use crate::support::*;

type Manager = AsyncDieselConnectionManager<AsyncPgConnection>;

#[derive(Clone, Copy, Debug)]
enum End {
    Well,
    Fail,
    Panic,
    Die,
}

async fn end<C: SimpleAsyncConnection>(conn: &mut C, how: End) -> Result<(), Error> {
    match how {
        End::Well => conn.batch_execute("SELECT 1").await?,
        End::Fail => conn.batch_execute("SELECT 1/0").await?,
        End::Panic => panic!("in the closure"),
        End::Die => {
            let end = "SELECT pg_terminate_backend(pg_backend_pid())";
            conn.batch_execute(end).await?;
        }
    }
    Ok(())
}

/// Uses a handle in a spawned task of its own, in each way and with each end, then
/// looks at what the pool of one connection hands out next.
macro_rules! in_tasks {
    ($name:ident, |$manager:ident| $pool:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let db = Database::new();
            let $manager = Manager::new(&db.url);
            let pool = $pool;
            for how in [End::Well, End::Fail, End::Panic, End::Die] {
                for way in 0..5 {
                    let task = tokio::spawn({
                        let pool = pool.clone();
                        async move {
                            let mut conn = pool.get().await.unwrap();
                            let second = Duration::from_secs(1);
                            match way {
                                0 => {
                                    conn.advisory(1)
                                        .run(async |conn| end(conn, how).await)
                                        .await
                                }
                                1 => {
                                    conn.advisory(1)
                                        .xact()
                                        .run(async |conn| end(conn, how).await)
                                        .await
                                }
                                2 => {
                                    let lock = conn.lock_table::<users::table>(Share);
                                    lock.run(async |conn| end(conn, how).await).await
                                }
                                3 => {
                                    conn.with_lock_timeout(second, async |conn| {
                                        end(conn, how).await
                                    })
                                    .await
                                }
                                _ => {
                                    conn.advisory(2)
                                        .xact()
                                        .run(async |conn| {
                                            let nested = async |conn: &mut _| end(conn, how).await;
                                            conn.advisory(1).timeout(second).run(nested).await
                                        })
                                        .await
                                }
                            }
                        }
                    });
                    let _ = task.await;
                    assert_clean(&db).await;
                    let mut conn = pool.get().await.unwrap();
                    assert_eq!(
                        setting(&mut conn, "lock_timeout").await,
                        "0",
                        "{how:?} {way}"
                    );
                    let lock = conn.lock_table::<users::table>(Share);
                    let taken = lock.try_run(async |_| Ok::<_, Error>(())).await.unwrap();
                    assert!(taken.is_some(), "{how:?} {way}");
                }
            }
        }
    };
}

async fn assert_clean(db: &Database) {
    let mut observer = db.connect();
    eventually("no lock is held", || advisory_locks(&mut observer) == 0).await;
}

in_tasks!(bb8_hands_out_no_lock_and_no_setting, |manager| {
    bb8::Pool::<AsyncPgConnection>::builder()
        .max_size(1)
        .build(manager)
        .await
        .expect("a pool")
});

in_tasks!(deadpool_hands_out_no_lock_and_no_setting, |manager| {
    deadpool::Pool::builder(manager)
        .max_size(1)
        .build()
        .expect("a pool")
});

in_tasks!(mobc_hands_out_no_lock_and_no_setting, |manager| {
    mobc::Pool::<AsyncPgConnection>::builder()
        .max_open(1)
        .build(manager)
});

async fn in_every_way<C, S>(conn: &mut C, prioritizer: &Prioritizer<S>) -> Result<i32, Error>
where
    C: AsyncPgLockConnection,
    S: AsyncWatcherSource,
{
    let second = Duration::from_secs(1);
    let lock = conn.advisory(1);
    lock.run(async |conn| conn.backend_pid().await).await?;
    let lock = conn.advisory(1).xact();
    lock.run(async |conn| conn.backend_pid().await).await?;
    let lock = conn.lock_table::<users::table>(Share);
    lock.run(async |conn| conn.backend_pid().await).await?;
    conn.with_lock_timeout(second, async |conn| conn.backend_pid().await)
        .await?;
    conn.prioritize(prioritizer, async |conn| {
        let lock = conn.advisory(1);
        lock.run(async |conn| {
            conn.with_lock_timeout(second, async |conn| conn.backend_pid().await)
                .await
        })
        .await
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn code_that_is_generic_over_the_connection_runs_in_a_task() {
    let db = Database::new();
    let prioritizer = Prioritizer::new(db.url.clone());
    let pool = bb8::Pool::builder()
        .build(Manager::new(&db.url))
        .await
        .unwrap();
    let mut own = AsyncPgConnection::establish(&db.url).await.unwrap();
    let task = tokio::spawn(async move {
        let mut pooled = pool.get().await.unwrap();
        in_every_way(&mut pooled, &prioritizer).await?;
        in_every_way(&mut *pooled, &prioritizer).await?;
        in_every_way(&mut own, &prioritizer).await
    });
    task.await.unwrap().unwrap();
}

/// Drops a run in a handle of a role that may not end sessions; the pool stays idle then.
macro_rules! ended_without_the_privilege {
    ($name:ident, |$manager:ident| $pool:expr) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let db = Database::new();
            let $manager = Manager::new(db.role_url());
            db.running("REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC");
            let pool = $pool;
            let mut conn = pool.get().await.unwrap();
            let forever = async |_: &mut _| std::future::pending::<Result<(), Error>>().await;
            let run = conn.advisory(1).run(forever);
            let dropped = tokio::time::timeout(Duration::from_millis(50), run).await;
            assert!(dropped.is_err());
            drop(conn);
            assert_clean(&db).await;
        }
    };
}

ended_without_the_privilege!(
    deadpool_keeps_no_lock_while_idle_without_the_privilege,
    |manager| deadpool::Pool::<AsyncPgConnection>::builder(manager)
        .build()
        .expect("a pool")
);

ended_without_the_privilege!(
    mobc_keeps_no_lock_while_idle_without_the_privilege,
    |manager| mobc::Pool::<AsyncPgConnection>::builder().build(manager)
);
