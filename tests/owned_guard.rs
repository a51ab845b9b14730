//! Guards that own their connection, on pooled and plain connections, sync and async.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8, deadpool, mobc};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{AdvisoryKey, Error};
use futures_util::FutureExt;

use crate::async_contract::eventually;
use crate::support::*;

const KEY: AdvisoryKey = AdvisoryKey::new(42);

type PgPool = Pool<ConnectionManager<PgConnection>>;
type Manager = AsyncDieselConnectionManager<AsyncPgConnection>;

fn pool(db: &Database) -> PgPool {
    let manager = ConnectionManager::new(&db.url);
    Pool::builder().max_size(1).build(manager).unwrap()
}

#[test]
fn an_owned_guard_can_move_into_a_thread_and_gives_its_connection_back() {
    let db = Database::new();
    let mut other = db.connect();
    let guard = pool(&db)
        .get()
        .unwrap()
        .advisory_owned(KEY)
        .acquire()
        .unwrap();
    let mut guard = thread::spawn(move || guard).join().unwrap();
    assert!(other.advisory(KEY).try_acquire().unwrap().is_none());
    let backend = guard.backend_pid().unwrap();
    let mut conn = guard.release().unwrap();
    assert_eq!(conn.backend_pid().unwrap(), backend);
    assert!(other.advisory(KEY).try_acquire().unwrap().is_some());
}

#[test]
fn an_owned_guard_that_is_dropped_leaves_the_pool_a_session_without_the_lock() {
    let db = Database::new();
    let (pool, mut other) = (pool(&db), db.connect());
    let mut guard = pool.get().unwrap().advisory_owned(KEY).acquire().unwrap();
    let backend = guard.backend_pid().unwrap();
    drop(guard);
    assert_eq!(advisory_locks(&mut other), 0);
    assert_eq!(pool.get().unwrap().backend_pid().unwrap(), backend);
    let _holder = other.advisory(KEY).acquire().unwrap();
    let refused = pool.get().unwrap().advisory_owned(KEY).try_acquire();
    assert!(refused.unwrap().is_none());
    let refused = pool.get().unwrap().advisory_owned(KEY).nowait().acquire();
    assert!(refused.unwrap_err().is_not_acquired());
    assert_eq!(pool.get().unwrap().backend_pid().unwrap(), backend);
}

#[test]
fn an_owned_guard_rolls_back_what_was_left_open_under_its_lock() {
    let db = Database::new();
    let (pool, mut other) = (pool(&db), db.connect());
    for statement in ["SELECT 1", "SELECT 1/0"] {
        let mut guard = pool.get().unwrap().advisory_owned(KEY).acquire().unwrap();
        begin(&mut *guard);
        guard.batch_execute("DELETE FROM users").unwrap();
        let _ = guard.batch_execute(statement);
        let mut conn = guard.release().unwrap();
        assert_eq!(count(&mut conn, "SELECT count(*) FROM users"), 2);
        assert_eq!(advisory_locks(&mut other), 0);
    }
}

fn begin<C: Connection>(conn: &mut C) {
    C::TransactionManager::begin_transaction(conn).unwrap();
}

#[test]
fn an_owned_guard_is_released_when_its_owner_panics() {
    let db = Database::new();
    let (pool, mut other) = (pool(&db), db.connect());
    let guard = pool.get().unwrap().advisory_owned(KEY).acquire().unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _guard = guard;
        panic!("the owner");
    }));
    assert!(panicked.is_err());
    assert_eq!(advisory_locks(&mut other), 0);
}

#[test]
fn an_owned_guard_whose_lock_is_gone_says_so() {
    let db = Database::new();
    let mut guard = db.connect().advisory_owned(KEY).acquire().unwrap();
    let unlock = "SELECT pg_advisory_unlock_all()";
    guard.batch_execute(unlock).unwrap();
    assert!(matches!(guard.release(), Err(Error::NotHeld(key)) if key == KEY));
}

/// Uses the owned guards of a pool of one connection in a spawned task.
macro_rules! owned_in_a_task {
    ($name:ident, |$manager:ident| $pool:expr, $handle:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let db = Database::new();
            let $manager = Manager::new(&db.url);
            let pool = $pool;
            let task = tokio::spawn(async move {
                let mut observer = db.connect();
                let conn = pool.$handle().await.unwrap();
                let guard = conn.advisory_owned(KEY).acquire().await.unwrap();
                assert_eq!(advisory_locks(&mut observer), 1);
                let mut conn = guard.release().await.unwrap();
                assert_eq!(advisory_locks(&mut observer), 0);
                let backend = conn.backend_pid().await.unwrap();

                let guard = conn.advisory_owned(KEY).try_acquire().await.unwrap();
                drop(guard.expect("free"));
                eventually("the session has ended", || {
                    !is_alive(&mut observer, backend)
                })
                .await;
                let mut conn = pool.$handle().await.unwrap();
                assert_ne!(conn.backend_pid().await.unwrap(), backend);

                let _holder = observer.advisory(KEY).acquire().unwrap();
                let refused = conn.advisory_owned(KEY).try_acquire().await;
                assert!(refused.unwrap().is_none());
            });
            task.await.unwrap();
        }
    };
}

owned_in_a_task!(
    bb8_handles_can_be_owned_by_a_guard,
    |manager| bb8::Pool::<AsyncPgConnection>::builder()
        .max_size(1)
        .build(manager)
        .await
        .unwrap(),
    get_owned
);

owned_in_a_task!(
    deadpool_handles_can_be_owned_by_a_guard,
    |manager| deadpool::Pool::<AsyncPgConnection>::builder(manager)
        .max_size(1)
        .build()
        .unwrap(),
    get
);

owned_in_a_task!(
    mobc_handles_can_be_owned_by_a_guard,
    |manager| mobc::Pool::<AsyncPgConnection>::builder()
        .max_open(1)
        .build(manager),
    get
);

#[tokio::test]
async fn an_async_owned_guard_rolls_back_what_was_left_open_under_its_lock() {
    let db = Database::new();
    let mut observer = db.connect();
    let conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let mut guard = conn.advisory_owned(KEY).acquire().await.unwrap();
    let transfer = guard.transaction(async |conn| {
        conn.batch_execute("DELETE FROM users").await?;
        std::future::pending::<QueryResult<()>>().await
    });
    let abandoned = tokio::time::timeout(Duration::from_millis(200), transfer).await;
    assert!(abandoned.is_err());
    let _conn = guard.release().await.unwrap();
    assert_eq!(count(&mut observer, "SELECT count(*) FROM users"), 2);
    assert_eq!(advisory_locks(&mut observer), 0);
}

#[tokio::test]
async fn a_wait_for_an_owned_guard_that_is_dropped_leaves_no_lock() {
    let db = Database::new();
    let (mut observer, mut holder) = (db.connect(), db.connect());
    let held = holder.advisory(KEY).acquire().unwrap();
    let conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let waiting = conn.advisory_owned(KEY).acquire();
    let dropped = tokio::time::timeout(Duration::from_millis(100), waiting).await;
    assert!(dropped.is_err());
    held.release().unwrap();
    eventually("no lock is held", || advisory_locks(&mut observer) == 0).await;
}

#[tokio::test]
async fn a_release_of_an_owned_guard_that_is_dropped_ends_the_session() {
    let db = Database::new();
    let mut observer = db.connect();
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let backend = conn.backend_pid().await.unwrap();
    let guard = conn.advisory_owned(KEY).acquire().await.unwrap();
    assert!(guard.release().now_or_never().is_none(), "it waits");
    eventually("the session has ended", || {
        !is_alive(&mut observer, backend)
    })
    .await;
}
