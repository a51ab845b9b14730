//! The async harness, on each kind of runtime.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use diesel::migration::{MigrationVersion, Result as MigrationResult};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, bb8, deadpool, mobc};
use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use diesel_pglock::{AsyncPrioritizedHarness, OwnedAsyncConnection};
use futures_util::future::{Either, select};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::*;

/// Returns a runtime of each kind.
fn runtimes() -> [Runtime; 2] {
    let many = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    [Builder::new_current_thread().enable_all().build(), many].map(Result::unwrap)
}

/// The application name of the session that migrates.
const NAME: &str = "migrates_async";

async fn connect(db: &Database) -> AsyncPgConnection {
    let mut conn = AsyncPgConnection::establish(&db.url).await.unwrap();
    let name = format!("SET application_name = '{NAME}'");
    conn.batch_execute(&name).await.unwrap();
    conn
}

async fn harness(db: &Database) -> AsyncPrioritizedHarness<AsyncPgConnection, String> {
    AsyncPrioritizedHarness::new(connect(db).await, patient(db)).lock_timeout(None)
}

/// A migration in Rust.
struct InRust<F>(F);

impl<F> Migration<Pg> for InRust<F>
where
    F: Fn(&mut dyn BoxableConnection<Pg>) -> MigrationResult<()>,
{
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> MigrationResult<()> {
        self.0(conn)
    }

    fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> MigrationResult<()> {
        Ok(())
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self
    }

    fn name(&self) -> &dyn MigrationName {
        self
    }
}

impl<F> MigrationMetadata for InRust<F> {}

impl<F> MigrationName for InRust<F> {
    fn version(&self) -> MigrationVersion<'_> {
        "20260601".into()
    }
}

impl<F> std::fmt::Display for InRust<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("20260601_in_rust")
    }
}

/// Waits on another thread, so that the runtime goes on.
async fn until(what: &'static str, mut is_so: impl FnMut() -> bool + Send + 'static) {
    let waiting = move || wait_until(what, &mut is_so);
    tokio::task::spawn_blocking(waiting).await.unwrap();
}

/// Returns the number of sessions that migrate, and fulfil a condition.
fn migrating(url: &str, condition: &str) -> i64 {
    let mut conn = PgConnection::establish(url).unwrap();
    let sessions = format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = '{NAME}' AND {condition}"
    );
    count(&mut conn, &sessions)
}

/// Drops a run once `reached`; its session ends at once.
async fn drop_at<T>(db: &Database, run: impl Future<Output = T>, reached: impl Future) {
    if let Either::Left(_) = select(pin!(run), pin!(reached)).await {
        panic!("the run has ended before it could be dropped");
    }
    // Both futures are dropped.
    let (dropped, url) = (Instant::now(), db.url.clone());
    until("the session has ended", move || {
        migrating(&url, "true") == 0
    })
    .await;
    assert!(dropped.elapsed() < Duration::from_secs(5));
}

/// Drops a run, and looks for the migration lock.
async fn drop_once<T>(db: &Database, run: impl Future<Output = T>, reached: impl Future) {
    drop_at(db, run, reached).await;
    let key = HISTORY_LOCK.replace('#', &db.name);
    let held = format!("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' {key}");
    assert_eq!(count(&mut db.connect(), &held), 0);
}

/// The condition of the exclusive locks of sessions other than watchers.
const HISTORY_LOCK: &str = "AND mode = 'ExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = '#')";

/// Waits until a session that migrates fulfils a condition.
async fn until_migrating(db: &Database, condition: &'static str) {
    let url = db.url.clone();
    until(condition, move || migrating(&url, condition) > 0).await;
}

const POST: &str = "INSERT INTO posts (title) VALUES ('a')";

fn posts(db: &Database) -> i64 {
    count(&mut db.connect(), "SELECT count(*) FROM posts")
}

#[test]
fn each_kind_of_connection_runs_and_reverts_migrations_on_each_kind_of_runtime() {
    for runtime in runtimes() {
        let db = Database::new();
        let manager = || AsyncDieselConnectionManager::<AsyncPgConnection>::new(&db.url);
        runtime.block_on(async {
            run_and_revert(&db, connect(&db).await).await;
            let pool = bb8::Pool::builder()
                .max_size(1)
                .build(manager())
                .await
                .unwrap();
            run_and_revert(&db, pool.get_owned().await.unwrap()).await;
            let pool = deadpool::Pool::builder(manager())
                .max_size(1)
                .build()
                .unwrap();
            run_and_revert(&db, pool.get().await.unwrap()).await;
            let pool = mobc::Pool::new(manager());
            run_and_revert(&db, pool.get().await.unwrap()).await;
        });
    }
}

async fn run_and_revert<C: OwnedAsyncConnection>(db: &Database, conn: C) {
    let ups = [
        "CREATE TABLE one ()",
        "LOCK TABLE users",
        "-- concurrently\nVACUUM users",
    ];
    let migrations = Migrations::new(db, &ups);
    let mut harness = AsyncPrioritizedHarness::new(conn, patient(db)).attempts(2);
    let next = harness
        .run_next_migration(migrations.source())
        .await
        .unwrap();
    assert_eq!(next.to_string(), "20260101000000");
    assert_eq!(
        harness
            .pending_migrations(migrations.source())
            .await
            .unwrap()
            .len(),
        2
    );
    let ran = harness
        .run_pending_migrations(migrations.source())
        .await
        .unwrap();
    assert_eq!(ran.len(), 2);
    assert!(
        !harness
            .has_pending_migration(migrations.source())
            .await
            .unwrap()
    );
    let report = harness.report();
    assert_eq!((report.migrations.len(), report.warnings.len()), (3, 0));
    assert_eq!(report.migrations[1].locks[0].relation.name, "users");
    let last = harness
        .revert_last_migration(migrations.source())
        .await
        .unwrap();
    assert_eq!(last.to_string(), "20260103000000");
    harness
        .revert_all_migrations(migrations.source())
        .await
        .unwrap();
    assert_eq!(harness.applied_migrations().await.unwrap().len(), 0);

    let in_rust = || InRust(|conn: &mut dyn BoxableConnection<Pg>| Ok(conn.batch_execute(POST)?));
    harness.run_migration(in_rust()).await.unwrap();
    assert_eq!(
        harness
            .run_migrations(vec![Box::new(in_rust())])
            .await
            .unwrap()
            .len(),
        1
    );
    harness.revert_migration(in_rust()).await.unwrap();
    assert_eq!(posts(db), 1);

    let mut conn = harness.into_inner().expect("no future was dropped");
    conn.batch_execute("TRUNCATE posts; DROP TABLE one")
        .await
        .unwrap();
    assert_eq!(advisory_locks(db), 0);
}

#[test]
fn other_tasks_of_the_runtime_go_on_while_a_migration_blocks() {
    for runtime in runtimes() {
        let db = Database::new();
        let (send, mut ticks) = unbounded_channel::<u32>();
        runtime.block_on(async {
            let mut harness = harness(&db).await;
            // Ends only once another task of the same runtime has run a hundred times.
            let ticked = Arc::new(AtomicU32::new(0));
            let seen = Arc::clone(&ticked);
            let in_rust = InRust(move |conn: &mut dyn BoxableConnection<Pg>| {
                while seen.load(Ordering::SeqCst) < 100 {
                    thread::sleep(Duration::from_millis(1));
                }
                Ok(conn.batch_execute(POST)?)
            });
            let tick = async {
                for n in 1..=100 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    ticked.store(n, Ordering::SeqCst);
                }
                send.send(100).unwrap();
            };
            let (ran, ()) = futures_util::future::join(harness.run_migration(in_rust), tick).await;
            ran.unwrap();
        });
        assert_eq!((ticks.try_recv(), posts(&db)), (Ok(100), 1));
    }
}

#[test]
fn a_run_that_is_dropped_while_it_waits_for_another_instance_ends_its_session() {
    for runtime in runtimes() {
        let db = Database::new();
        let migrations = Migrations::new(&db, &[POST]);
        let mut other = db.running("SELECT pg_advisory_lock(7)");
        runtime.block_on(async {
            let (waits, mut waiting) = unbounded_channel();
            let harness = harness(&db).await.lock_key(7);
            let mut harness = harness.on_event(move |event| {
                if let MigrationEvent::WaitingForInstance(_) = event {
                    let _ = waits.send(());
                }
            });
            let run = harness.run_pending_migrations(migrations.source());
            drop_at(&db, run, waiting.recv()).await;
            let again = harness.run_pending_migrations(migrations.source()).await;
            let error = again.unwrap_err().to_string();
            assert!(error.contains("future was dropped"), "{error}");
            assert!(harness.into_inner().is_none());
        });
        other
            .batch_execute("SELECT pg_advisory_unlock_all()")
            .unwrap();
        assert_eq!(run(&db, &migrations, patient(&db)).migrations.len(), 1);
    }
}

#[test]
fn a_run_that_is_dropped_while_it_reads_the_history_ends_its_session() {
    for runtime in runtimes() {
        let db = Database::new();
        let migrations = Migrations::new(&db, &[POST]);
        db.connect().run_pending_migrations(MIGRATIONS).unwrap();
        let _holder = db.running("BEGIN; LOCK TABLE __diesel_schema_migrations");
        runtime.block_on(async {
            let mut harness = harness(&db).await.lock_key(7);
            let run = harness.run_pending_migrations(migrations.source());
            let waits = "wait_event_type = 'Lock' AND now() > query_start + interval '0.3 s'";
            drop_once(&db, run, until_migrating(&db, waits)).await;
        });
    }
}

#[test]
fn a_run_that_is_dropped_in_a_statement_of_a_migration_rolls_it_back() {
    for runtime in runtimes() {
        for up in [
            format!("{POST}; SELECT pg_sleep(55)"),
            format!("{POST}; LOCK TABLE users"),
            "-- concurrently\nCREATE INDEX CONCURRENTLY name ON users (name)".to_owned(),
        ] {
            let db = Database::new();
            let migrations = Migrations::new(&db, &["CREATE TABLE one ()", &up]);
            let _holder = db.running("BEGIN; INSERT INTO users (name) VALUES ('b')");
            runtime.block_on(async {
                let mut harness = harness(&db).await;
                let run = harness.run_pending_migrations(migrations.source());
                let waits =
                    "state = 'active' AND (query LIKE '%pg_sleep%' OR wait_event_type = 'Lock')";
                drop_once(&db, run, until_migrating(&db, waits)).await;
                while harness.report().migrations.len() < 2 {
                    tokio::time::sleep(TICK).await; // until the thread has ended
                }
                assert!(!harness.report().migrations[1].succeeded);
            });
            assert_eq!((posts(&db), applied(&db)), (0, 1), "{up}");
        }
    }
}

/// Reports that a thread has come here, and blocks it until the gate opens.
fn block(reached: UnboundedSender<()>, gate: Mutex<std::sync::mpsc::Receiver<()>>) {
    let _ = reached.send(());
    let _ = gate.lock().unwrap().recv();
}

#[test]
fn a_run_that_is_dropped_between_two_migrations_keeps_the_first() {
    for runtime in runtimes() {
        let db = Database::new();
        let migrations = Migrations::new(&db, &[POST, POST]);
        runtime.block_on(async {
            let (reached, mut is_reached) = unbounded_channel();
            let (open, gate) = channel::<()>();
            let gate = Mutex::new(Some((reached, Mutex::new(gate))));
            let mut harness = harness(&db).await.on_event(move |event| {
                if !matches!(event, MigrationEvent::Finished(_)) {
                    return;
                }
                if let Some((reached, gate)) = gate.lock().unwrap().take() {
                    block(reached, gate);
                }
            });
            let run = harness.run_pending_migrations(migrations.source());
            // The session ends while the thread is still blocked.
            drop_once(&db, run, is_reached.recv()).await;
            drop(open);
        });
        assert_eq!((posts(&db), applied(&db)), (1, 1));
        assert_eq!(run(&db, &migrations, patient(&db)).migrations.len(), 1);
    }
}

#[test]
fn a_run_that_is_dropped_in_a_migration_in_rust_ends_its_session_though_the_code_goes_on() {
    for runtime in runtimes() {
        let db = Database::new();
        runtime.block_on(async {
            let (reached, mut is_reached) = unbounded_channel();
            let (open, gate) = channel::<()>();
            let (ends, end) = channel();
            let gate = Mutex::new(Some((reached, Mutex::new(gate))));
            let in_rust = InRust(move |conn: &mut dyn BoxableConnection<Pg>| {
                conn.batch_execute(POST)?;
                let (reached, gate) = gate.lock().unwrap().take().unwrap();
                block(reached, gate);
                let next = conn.batch_execute(POST);
                ends.send(next.is_err()).unwrap();
                Ok(next?)
            });
            let mut harness = harness(&db).await;
            let run = harness.run_migration(in_rust);
            drop_once(&db, run, is_reached.recv()).await;
            drop(open);
            let failed = tokio::task::spawn_blocking(move || end.recv()).await;
            assert_eq!(failed.unwrap(), Ok(true));
        });
        assert_eq!(posts(&db), 0);
    }
}

#[test]
fn a_run_that_is_dropped_in_a_statement_of_a_migration_in_rust_ends_its_session() {
    for runtime in runtimes() {
        let db = Database::new();
        runtime.block_on(async {
            let mut harness = harness(&db).await;
            let run = harness.run_migration(InRust(|conn: &mut dyn BoxableConnection<Pg>| {
                Ok(conn.batch_execute("SELECT pg_sleep(55)")?)
            }));
            drop_once(&db, run, until_migrating(&db, "query LIKE '%pg_sleep%'")).await;
        });
    }
}

#[test]
fn a_pool_replaces_the_session_of_a_run_that_is_dropped() {
    for runtime in runtimes() {
        let db = Database::new();
        let migrations = Migrations::new(&db, &["SELECT pg_sleep(55)"]);
        runtime.block_on(async {
            let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(&db.url);
            let pool = deadpool::Pool::builder(manager)
                .max_size(1)
                .build()
                .unwrap();
            let mut conn = pool.get().await.unwrap();
            let name = format!("SET application_name = '{NAME}'");
            conn.batch_execute(&name).await.unwrap();
            let mut harness = AsyncPrioritizedHarness::new(conn, patient(&db));
            let run = harness.run_pending_migrations(migrations.source());
            drop_once(&db, run, until_migrating(&db, "query LIKE '%pg_sleep%'")).await;
            let mut next = pool.get().await.unwrap();
            next.batch_execute("SELECT 1").await.unwrap();
        });
    }
}

#[test]
fn a_migration_in_rust_that_panics_releases_the_migration_lock() {
    for runtime in runtimes() {
        let db = Database::new();
        runtime.block_on(async {
            let mut harness = harness(&db).await;
            let in_rust = InRust(|_: &mut dyn BoxableConnection<Pg>| panic!("in the migration"));
            let run = std::panic::AssertUnwindSafe(harness.run_migration(in_rust));
            assert!(futures_util::FutureExt::catch_unwind(run).await.is_err());
            assert_eq!(advisory_locks(&db), 0);
            let in_rust =
                InRust(|conn: &mut dyn BoxableConnection<Pg>| Ok(conn.batch_execute(POST)?));
            harness.run_migration(in_rust).await.unwrap();
        });
        assert_eq!(posts(&db), 1);
    }
}

#[test]
fn an_async_harness_runs_within_the_transaction_that_is_open() {
    use diesel_async::TransactionManager;
    type Manager = <AsyncPgConnection as AsyncConnection>::TransactionManager;
    for runtime in runtimes() {
        let db = Database::new();
        let migrations = Migrations::new(&db, &[POST]);
        runtime.block_on(async {
            let mut conn = connect(&db).await;
            Manager::begin_transaction(&mut conn).await.unwrap();
            let mut outside = AsyncPrioritizedHarness::new(conn, patient(&db));
            let refused = outside.run_pending_migrations(migrations.source()).await;
            assert!(matches!(
                Error::from(refused.unwrap_err()),
                Error::InTransaction
            ));
            let conn = outside.into_inner().unwrap();
            let mut harness = AsyncPrioritizedHarness::new(conn, patient(&db)).within_transaction();
            harness
                .run_pending_migrations(migrations.source())
                .await
                .unwrap();
            let mut conn = harness.into_inner().unwrap();
            assert_eq!(posts(&db), 0);
            Manager::commit_transaction(&mut conn).await.unwrap();
        });
        assert_eq!((posts(&db), advisory_locks(&db)), (1, 0));
    }
}

#[test]
fn a_blocker_of_an_async_run_in_a_spawned_task_is_terminated() {
    for runtime in runtimes() {
        let db = Database::new();
        let migrations = Migrations::new(&db, &["LOCK TABLE users"]);
        let _holder = db.running("BEGIN; LOCK TABLE users");
        runtime.block_on(async {
            let conn = connect(&db).await;
            let mut harness = AsyncPrioritizedHarness::new(conn, at_once(&db));
            let source = migrations.source();
            let run = tokio::spawn(async move {
                harness.run_pending_migrations(source).await.unwrap();
                harness.report().migrations[0].victims().count()
            });
            assert_eq!(run.await.unwrap(), 1);
        });
    }
}
