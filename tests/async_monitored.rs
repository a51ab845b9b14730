//! Monitored locks on async connections.

use std::future::Future;
use std::time::{Duration, Instant};

use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, Held, LockMonitor};
use futures_util::FutureExt;

use crate::async_contract::{eventually, pause};
use crate::monitored::{Stopped, monitor_backend, monitor_url, monitors};
use crate::support::*;

const TICK: Duration = Duration::from_millis(10);
const LIMIT: Duration = Duration::from_secs(30);
/// Longer than a condition is waited for: what is lost sooner was found by a poll.
const LONG: Duration = Duration::from_secs(600);

fn polling_monitor(db: &Database) -> LockMonitor<String> {
    LockMonitor::new(monitor_url(db))
        .interval(TICK)
        .patience(LONG)
}

async fn connect(db: &Database) -> AsyncPgConnection {
    AsyncPgConnection::establish(&db.url).await.unwrap()
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let ended = tokio::time::timeout(LIMIT, future).await;
    ended.expect("within the limit")
}

#[tokio::test]
async fn a_lock_that_is_held_is_not_lost() {
    let db = Database::new();
    let mut conn = connect(&db).await;
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(async |_, held| {
        let lost = tokio::time::timeout(30 * TICK, held.lost()).await;
        assert!(lost.is_err());
        assert!(!held.is_lost());
        Ok::<_, Error>(held.token())
    });
    let first = ran.await.unwrap();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.try_run(async |_, held| Ok::<_, Error>(held.token()));
    assert!(Some(first) < ran.await.unwrap());
}

#[tokio::test]
async fn a_run_can_be_spawned_and_a_lost_lock_wakes_it() {
    let db = Database::new();
    let (mut conn, monitor) = (connect(&db).await, polling_monitor(&db));
    let run = tokio::spawn(async move {
        let lock = conn.advisory("leader").monitored(&monitor);
        let ran = lock.run(async |conn, held| {
            conn.batch_execute("SELECT pg_advisory_unlock_all()")
                .await?;
            held.lost().await;
            Ok::<_, Error>(())
        });
        ran.await
    });
    let ran = in_time(run).await.unwrap();
    assert!(matches!(ran, Err(Error::NotHeld(_))), "{ran:?}");
}

#[tokio::test]
async fn a_lock_of_a_terminated_session_is_lost() {
    let db = Database::new();
    let (mut conn, mut other) = (connect(&db).await, db.connect());
    let holder = conn.backend_pid().await.unwrap();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(async |_, held| {
        let terminate = format!("SELECT pg_terminate_backend({holder})");
        diesel::connection::SimpleConnection::batch_execute(&mut other, &terminate)?;
        in_time(held.lost()).await;
        Ok::<_, Error>(())
    });
    assert!(in_time(ran).await.is_err());
}

#[tokio::test]
async fn a_silent_monitor_loses_the_lock_and_does_not_delay_the_return() {
    let db = Database::new();
    let (mut conn, mut observer) = (connect(&db).await, db.connect());
    let monitor = LockMonitor::new(monitor_url(&db))
        .interval(TICK)
        .patience(Duration::from_millis(500));
    let lock = conn.advisory("leader").monitored(&monitor);
    let ran = lock.run(async |_, held| {
        let stopped = Stopped::new(monitor_backend(&mut observer));
        assert!(!held.is_lost());
        in_time(held.lost()).await;
        Ok::<_, Error>((stopped, Instant::now()))
    });
    let (_stopped, returned) = in_time(ran).await.unwrap();
    let delay = returned.elapsed();
    assert!(delay < Duration::from_secs(3), "{delay:?}");
    assert_eq!(advisory_locks(&mut observer), 0);
}

#[tokio::test]
async fn a_dropped_run_ends_the_monitor_and_the_lock() {
    let db = Database::new();
    let (mut conn, mut observer) = (connect(&db).await, db.connect());
    let (send, mut receive) = tokio::sync::mpsc::unbounded_channel::<Held>();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let mut run = Box::pin(lock.run(async |_, held| {
        send.send(held.clone()).unwrap();
        std::future::pending::<Result<(), Error>>().await
    }));
    let held = tokio::select! {
        held = receive.recv() => held.unwrap(),
        _ = &mut run => unreachable!("it does not end"),
    };
    assert!(!held.is_lost());
    drop(run);
    assert!(held.is_lost());
    drop(conn);
    eventually("no lock is left", || advisory_locks(&mut observer) == 0).await;
    eventually("no monitor is left", || monitors(&mut observer) == 0).await;
}

#[tokio::test]
async fn a_panic_in_the_closure_ends_the_monitor_and_releases_the_lock() {
    let db = Database::new();
    let (mut conn, mut observer) = (connect(&db).await, db.connect());
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let run = lock.run(async |_, _| -> Result<(), Error> { panic!("in the closure") });
    let ended = std::panic::AssertUnwindSafe(run).catch_unwind().await;
    assert!(ended.is_err());
    assert_eq!(advisory_locks(&mut observer), 0);
    eventually("no monitor is left", || monitors(&mut observer) == 0).await;
}

/// Drops the run at each moment; afterwards neither pool hands out a session with a lock or with
/// an unread reply.
#[tokio::test]
async fn a_run_that_is_dropped_anywhere_leaves_nothing_behind() {
    let db = Database::new();
    let pool = |name: &str| {
        let url = format!("{}?application_name={name}", db.url);
        let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
        bb8::Pool::builder().max_size(1).build(manager)
    };
    let (pool, sessions) = (
        pool("holder").await.unwrap(),
        pool("monitor").await.unwrap(),
    );
    let monitor = LockMonitor::new(sessions.clone()).interval(TICK);
    let mut observer = db.connect();
    for polls in 1.. {
        let mut conn = pool.get().await.unwrap();
        let lock = conn.advisory("leader").monitored(&monitor);
        let run = lock.run(async |_, _| {
            pause(2 * TICK).await;
            Ok::<_, Error>(())
        });
        let ended = at_most(polls, run).await;
        drop(conn);
        eventually("no lock is left", || advisory_locks(&mut observer) == 0).await;
        for pool in [&pool, &sessions] {
            let mut conn = in_time(pool.get()).await.unwrap();
            let pid = in_time(conn.backend_pid()).await.unwrap();
            assert!(pid > 0);
        }
        if let Some(ran) = ended {
            ran.unwrap();
            assert!(polls > 10, "there was little to drop");
            return;
        }
    }
}

/// Polls a future until it has been pending `n` times; `None` if that was before its end.
async fn at_most<T>(n: usize, future: impl Future<Output = T>) -> Option<T> {
    let (mut future, mut pending) = (std::pin::pin!(future), 0);
    std::future::poll_fn(|context| match future.as_mut().poll(context) {
        std::task::Poll::Ready(value) => std::task::Poll::Ready(Some(value)),
        std::task::Poll::Pending => {
            pending += 1;
            match pending < n {
                true => std::task::Poll::Pending,
                false => std::task::Poll::Ready(None),
            }
        }
    })
    .await
}
