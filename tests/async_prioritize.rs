//! Prioritized code on an async connection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{PgConnection, QueryResult};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8, deadpool, mobc};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::prelude::*;
use diesel_pglock::{AsyncWatcherSource, Error, Prioritizer, SignalOutcome};

use crate::prioritize::bounded::{Stopped, watcher_pid};
use crate::support::*;

const TICK: Duration = Duration::from_millis(10);

fn at_once<S>(source: S) -> Prioritizer<S> {
    Prioritizer::new(source)
        .interval(TICK)
        .grace(Duration::ZERO)
}

fn idle_holder(db: &Database) -> PgConnection {
    let mut conn = db.connect();
    conn.batch_execute("BEGIN; UPDATE users SET name = 'held' WHERE id = 1")
        .unwrap();
    conn
}

async fn connect(db: &Database) -> AsyncPgConnection {
    AsyncPgConnection::establish(&db.url).await.unwrap()
}

const ALTER: &str = "ALTER TABLE users ADD COLUMN IF NOT EXISTS age int";

async fn lets_through<S: AsyncWatcherSource + 'static>(db: &Database, source: S) {
    let (mut conn, _holder) = (connect(db).await, idle_holder(db));
    let prioritizer = at_once(source);
    let task = tokio::spawn(async move {
        let altered = conn
            .prioritize(&prioritizer, async |conn| conn.batch_execute(ALTER).await)
            .await;
        altered.map(|()| prioritizer.report())
    });
    let report = task.await.unwrap().unwrap();
    assert_eq!(report.victims().count(), 1, "{report}");
    assert_eq!(report.blockers[0].signals[0].outcome, SignalOutcome::Sent);
    assert!(report.errors.is_empty(), "{report}");
}

fn manager(db: &Database) -> AsyncDieselConnectionManager<AsyncPgConnection> {
    AsyncDieselConnectionManager::new(&db.url)
}

#[tokio::test]
async fn every_source_gives_a_watcher() {
    let db = Database::new();
    lets_through(&db, db.url.clone()).await;
    let url = db.url.clone();
    lets_through(&db, move || {
        let url = url.clone();
        async move { AsyncPgConnection::establish(&url).await }
    })
    .await;
    lets_through(&db, bb8::Pool::builder().build(manager(&db)).await.unwrap()).await;
    lets_through(&db, deadpool::Pool::builder(manager(&db)).build().unwrap()).await;
    lets_through(&db, mobc::Pool::new(manager(&db))).await;
}

/// A watcher's connection that [`KILL`] knows from those of the test, and of what came before it.
async fn the_watcher(url: &str) -> diesel::ConnectionResult<AsyncPgConnection> {
    let mut watcher = AsyncPgConnection::establish(url).await?;
    let named = watcher.batch_execute("SET application_name = 'the watcher'");
    named.await.unwrap();
    Ok(watcher)
}

const KILL: &str = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE application_name LIKE 'pglock watcher for %' AND datname = current_database()";

#[tokio::test]
async fn a_watcher_that_is_killed_comes_back() {
    let db = Database::new();
    let (mut conn, mut observer) = (connect(&db).await, db.connect());
    let url = db.url.clone();
    let prioritizer = at_once(move || {
        let url = url.clone();
        async move { the_watcher(&url).await }
    });
    conn.prioritize(&prioritizer, async |conn| {
        assert_eq!(count(&mut observer, KILL), 1);
        let _holder = idle_holder(&db);
        conn.batch_execute(ALTER).await
    })
    .await
    .unwrap();
    assert!(!prioritizer.report().errors.is_empty());
    assert_eq!(prioritizer.report().victims().count(), 1);
}

#[tokio::test]
async fn a_watcher_that_finds_no_way_back_does_not_hold_up_the_end() {
    let db = Database::new();
    let (mut conn, mut observer) = (connect(&db).await, db.connect());
    let (connects, mut connecting) = tokio::sync::mpsc::unbounded_channel();
    let (url, met) = (db.url.clone(), AtomicBool::new(false));
    let prioritizer = at_once(move || {
        let (url, connects) = (url.clone(), connects.clone());
        let is_first = !met.swap(true, Ordering::SeqCst);
        async move {
            if !is_first {
                connects.send(()).unwrap();
                std::future::pending::<()>().await;
            }
            the_watcher(&url).await
        }
    });
    let ran = conn.prioritize(&prioritizer, async |_| {
        assert_eq!(count(&mut observer, KILL), 1);
        connecting.recv().await.unwrap();
        Ok::<_, Error>(())
    });
    let ended = tokio::time::timeout(Duration::from_secs(30), ran).await;
    ended.expect("it returns").unwrap();
}

#[tokio::test]
async fn an_error_and_a_panic_are_the_closures_own_and_end_the_watcher() {
    let db = Database::new();
    let mut observer = db.connect();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND backend_type = 'client backend'";
    let mut conn = connect(&db).await;
    let before = count(&mut observer, sessions);
    let prioritizer = at_once(db.url.clone()).lock_timeout(Duration::from_secs(7));
    let failed = conn
        .prioritize(&prioritizer, async |_| {
            Err::<(), _>(Error::NotHeld(1.into()))
        })
        .await;
    assert!(matches!(failed, Err(Error::NotHeld(_))));
    let panicking = tokio::spawn(async move {
        let _: Result<(), Error> = conn
            .prioritize(&prioritizer, async |_| panic!("in the closure"))
            .await;
    });
    assert!(panicking.await.unwrap_err().is_panic());
    wait_until("the watchers have gone", || {
        count(&mut observer, sessions) < before
    });
}

#[tokio::test]
async fn without_a_watcher_nothing_is_run() {
    let db = Database::new();
    let mut conn = connect(&db).await;
    let url = db.tcp_url_with_password("sup3rsecret");
    let refused = conn
        .prioritize(&Prioritizer::new(url), async |_| -> Result<(), Error> {
            panic!("run")
        })
        .await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::Watcher(_)), "{error:?}");
    assert!(!format!("{error:?}").contains("sup3rsecret"));
}

#[tokio::test]
async fn prioritized_sessions_take_turns_and_spare_each_other() {
    let db = Database::new();
    let take_turns = async || {
        let mut conn = connect(&db).await;
        let prioritizer = at_once(db.url.clone());
        let mut blockers = Vec::new();
        for _ in 0..20 {
            let locking = "BEGIN; LOCK TABLE users; SELECT pg_sleep(0.05); COMMIT";
            conn.prioritize(&prioritizer, async |conn| conn.batch_execute(locking).await)
                .await
                .expect("it lives");
            blockers.extend(prioritizer.report().blockers);
        }
        blockers
    };
    let (one, other) = tokio::join!(take_turns(), take_turns());
    let blockers = [one, other].concat();
    assert!(!blockers.is_empty(), "they blocked each other");
    for blocker in blockers {
        assert!(!blocker.is_victim(), "{blocker}");
    }
}

#[tokio::test]
async fn a_session_is_marked_while_it_is_prioritized_and_no_longer() {
    let db = Database::new();
    let pool = bb8::Pool::builder().max_size(1).build(manager(&db)).await;
    is_marked_for_the_run(&db, pool.unwrap()).await;
    let pool = deadpool::Pool::builder(manager(&db)).max_size(1).build();
    is_marked_for_the_run(&db, pool.unwrap()).await;
    let pool = mobc::Pool::builder().max_open(1).build(manager(&db));
    is_marked_for_the_run(&db, pool).await;
    is_marked_for_the_run(&db, db.url.clone()).await;
}

async fn is_marked_for_the_run<S: AsyncWatcherSource + 'static>(db: &Database, source: S) {
    let (mut conn, mut observer) = (connect(db).await, db.connect());
    let prioritizer = at_once(source);
    let failed = conn
        .prioritize(&prioritizer, async |_| {
            assert_eq!(marks(&mut observer), 1);
            Err::<(), _>(Error::NotHeld(1.into()))
        })
        .await;
    assert!(matches!(failed, Err(Error::NotHeld(_))), "{failed:?}");
    assert_eq!(marks(&mut observer), 0);
    let dropped = conn.prioritize(&prioritizer, async |_| {
        assert_eq!(marks(&mut observer), 1);
        std::future::pending::<Result<(), Error>>().await
    });
    let limit = Duration::from_millis(200);
    assert!(tokio::time::timeout(limit, dropped).await.is_err());
    let unmarked = "the mark goes with the dropped run";
    crate::async_contract::eventually(unmarked, || marks(&mut observer) == 0).await;
    // The next one finds a session that marks but once.
    conn.prioritize(&prioritizer, async |_| {
        assert_eq!(marks(&mut observer), 1);
        Ok::<_, Error>(())
    })
    .await
    .unwrap();
    assert_eq!(marks(&mut observer), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_whose_server_process_is_stopped_is_left_behind() {
    let db = Database::new();
    let (mut conn, mut observer) = (connect(&db).await, db.connect());
    let prioritizer = at_once(db.url.clone());
    let stopped = conn
        .prioritize(&prioritizer, async |_| {
            Ok::<_, Error>(Stopped::new(watcher_pid(&mut observer)))
        })
        .await;
    // It returned although the process is still stopped.
    let report = prioritizer.report();
    let left = |error: &String| error.contains("was left behind");
    assert!(report.errors.iter().any(left), "{report}");
    assert_eq!(report.succeeded, Some(true));
    drop(stopped);
    wait_until("the mark ends with the watcher's session", || {
        marks(&mut observer) == 0
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_run_keeps_its_report() {
    let db = Database::new();
    let (mut conn, _holder) = (connect(&db).await, idle_holder(&db));
    let prioritizer = at_once(db.url.clone());
    let known = async {
        while prioritizer.report().victims().count() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let run = conn.prioritize(&prioritizer, async |conn| {
        conn.batch_execute(ALTER).await?;
        std::future::pending::<QueryResult<()>>().await
    });
    tokio::select! {
        _ = run => unreachable!("it never ends"),
        () = known => {}
    }
    let report = prioritizer.report();
    assert_eq!(report.victims().count(), 1, "{report}");
    assert_eq!(report.succeeded, None);
    let mut observer = db.connect();
    wait_until("the mark ends with the watcher's session", || {
        marks(&mut observer) == 0
    });
}
