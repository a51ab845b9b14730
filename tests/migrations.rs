//! Prioritized migrations.

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use diesel::connection::{BoxableConnection, SimpleConnection};
use diesel::migration::{
    Migration, MigrationConnection, MigrationMetadata, MigrationName, MigrationSource,
};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_migrations::{FileBasedMigrations, HarnessWithOutput, MigrationError, MigrationHarness};
use diesel_pglock::prelude::*;
use diesel_pglock::schema::signal_log;
use diesel_pglock::{
    Backoff, Error, HarnessReport, MIGRATIONS, MigrationEvent, MigrationReport, PrioritizedHarness,
    Prioritizer, TableLockMode,
};

use crate::support::*;

const TICK: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

/// A directory of migrations, removed when the value is dropped.
struct Migrations(PathBuf);

impl Migrations {
    /// Writes a migration for each `up.sql`; `-- concurrently` at its start puts it outside a
    /// transaction.
    fn new(db: &Database, ups: &[&str]) -> Self {
        let path = std::env::temp_dir().join(format!("pglock_{}_{}", std::process::id(), db.name));
        for (i, up) in ups.iter().enumerate() {
            let folder = path.join(format!("2026-01-0{}-000000_step", i + 1));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("up.sql"), up).unwrap();
            std::fs::write(folder.join("down.sql"), "SELECT 'down'").unwrap();
            let toml = format!(
                "run_in_transaction = {}",
                !up.starts_with("-- concurrently")
            );
            std::fs::write(folder.join("metadata.toml"), toml).unwrap();
        }
        Self(path)
    }

    fn source(&self) -> FileBasedMigrations {
        FileBasedMigrations::from_path(&self.0).unwrap()
    }
}

impl Drop for Migrations {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn at_once(db: &Database) -> Prioritizer<String> {
    Prioritizer::new(db.url.clone())
        .interval(TICK)
        .grace(Duration::ZERO)
}

fn patient(db: &Database) -> Prioritizer<String> {
    at_once(db).grace(LONG)
}

fn applied(db: &Database) -> i64 {
    count(
        &mut db.connect(),
        "SELECT count(*) FROM __diesel_schema_migrations",
    )
}

fn advisory_locks(db: &Database) -> i64 {
    crate::support::advisory_locks(&mut db.connect())
}

fn run(db: &Database, migrations: &Migrations, prioritizer: Prioritizer<String>) -> HarnessReport {
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, prioritizer);
    harness.run_pending_migrations(migrations.source()).unwrap();
    harness.report()
}

#[test]
fn a_session_that_blocks_a_migration_is_terminated() {
    let db = Database::new();
    let mut holder = db.connect();
    holder
        .batch_execute("BEGIN; UPDATE users SET name = 'held'")
        .unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ALTER COLUMN id TYPE bigint"]);
    let report = run(&db, &migrations, at_once(&db));
    let [migration] = &report.migrations[..] else {
        panic!("{report:?}")
    };
    assert!(
        migration.succeeded && !migration.reverted && migration.attempts == 1,
        "{migration}"
    );
    assert_eq!(migration.victims().count(), 1);
    assert!(migration.waited > Duration::ZERO);
    let locks: Vec<_> = migration
        .locks
        .iter()
        .map(|l| (l.relation.to_string(), l.mode))
        .collect();
    assert!(
        locks.contains(&("public.users".into(), TableLockMode::AccessExclusive)),
        "{locks:?}"
    );
}

#[test]
fn a_migration_may_control_its_transaction() {
    let db = Database::new();
    let ups = [
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; CREATE TABLE one (a int)",
        "CREATE TABLE two (a int); COMMIT; BEGIN; CREATE TABLE three (a int)",
    ];
    let report = run(&db, &Migrations::new(&db, &ups), at_once(&db));
    assert!(report.migrations.iter().all(|it| it.succeeded), "{report}");
    assert_eq!(applied(&db), 2);
    let locks = report.migrations[1].locks.iter();
    let tables: Vec<_> = locks.map(|lock| lock.relation.to_string()).collect();
    assert_eq!(tables, ["public.three"], "the locks at the end");
}

#[test]
fn each_history_of_a_database_shares_the_signal_log() {
    let db = Database::new();
    for tenant in ["one", "other"] {
        let mut conn = db.running(&format!(
            "CREATE SCHEMA {tenant}; SET search_path = {tenant}"
        ));
        let mut harness = PrioritizedHarness::new(&mut conn, at_once(&db));
        assert_eq!(harness.run_pending_migrations(MIGRATIONS).unwrap().len(), 1);
    }
}

#[test]
fn clones_of_one_prioritizer_report_each_run_by_itself() {
    let dbs = [Database::new(), Database::new()];
    let prioritizer = at_once(&dbs[0]).grace(Duration::from_millis(200));
    let both = Barrier::new(dbs.len());
    thread::scope(|scope| {
        for db in &dbs {
            let (prioritizer, both) = (prioritizer.clone(), &both);
            scope.spawn(move || {
                let mut holder = db.connect();
                let held = pid(&mut holder);
                holder
                    .batch_execute("BEGIN; UPDATE users SET name = 'held'")
                    .unwrap();
                let migrations = Migrations::new(db, &["ALTER TABLE users ADD COLUMN age int"]);
                both.wait();
                let report = run(db, &migrations, prioritizer);
                let victims = report.migrations[0].victims();
                let victims: Vec<_> = victims.map(|victim| victim.pid).collect();
                assert_eq!(victims, [Some(held)]);
            });
        }
    });
}

#[test]
fn two_instances_take_turns_and_do_not_deadlock_with_a_concurrent_index() {
    let db = Database::new();
    let migrations = Migrations::new(
        &db,
        &[
            "ALTER TABLE users ADD COLUMN age int",
            "-- concurrently\nCREATE INDEX CONCURRENTLY users_age ON users (age)",
            "INSERT INTO posts (title) VALUES ('once')",
        ],
    );
    let mut holder = db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    let (waits, waiting) = channel();
    thread::scope(|scope| {
        let instances: Vec<_> = (0..2)
            .map(|_| {
                let waits: Sender<()> = waits.clone();
                let (db, migrations) = (&db, &migrations);
                scope.spawn(move || {
                    let mut conn = db.connect();
                    let mut harness = PrioritizedHarness::new(&mut conn, patient(db))
                        .lock_timeout(None)
                        .on_event(move |event| {
                            if let MigrationEvent::WaitingForInstance = event {
                                waits.send(()).unwrap();
                            }
                        });
                    let ran = harness
                        .run_pending_migrations(migrations.source())
                        .map(|v| v.len());
                    ran.map_err(|e| e.to_string())
                })
            })
            .collect();
        // One instance waits for the other, which waits for the table.
        waiting
            .recv_timeout(LONG)
            .expect("an instance waits for the other");
        holder.batch_execute("COMMIT").unwrap();
        let mut ran: Vec<_> = instances
            .into_iter()
            .map(|r| r.join().unwrap().unwrap())
            .collect();
        ran.sort_unstable();
        assert_eq!(ran, [0, 3]);
    });
    assert_eq!(count(&mut db.connect(), "SELECT count(*) FROM posts"), 1);
    assert_eq!(
        count(
            &mut db.connect(),
            "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        ),
        0
    );
    assert_eq!(advisory_locks(&db), 0);
}

#[test]
fn a_failed_migration_is_rolled_back_and_the_next_run_goes_on_from_there() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE one ()",
        "CREATE TABLE two (); SELECT 1/0",
        "CREATE TABLE three ()",
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err()
        .to_string();
    assert!(error.contains("division by zero"), "{error}");
    let report = harness.report();
    let succeeded: Vec<_> = report
        .migrations
        .iter()
        .map(|m| (m.succeeded, m.attempts))
        .collect();
    assert_eq!(
        succeeded,
        [(true, 1), (false, 1)],
        "an error of its own is not tried again"
    );
    assert_eq!((applied(&db), advisory_locks(&db)), (1, 0));
    assert_eq!(
        count(
            &mut conn,
            "SELECT count(*) FROM pg_class WHERE relname = 'two'"
        ),
        0
    );
    assert_eq!(setting(&mut conn, "lock_timeout"), "0");

    let mended = migrations.0.join("2026-01-02-000000_step/up.sql");
    std::fs::write(mended, "CREATE TABLE two ()").unwrap();
    assert_eq!(run(&db, &migrations, patient(&db)).migrations.len(), 2);
}

#[test]
fn a_lock_timeout_is_tried_again() {
    let db = Database::new();
    let holder = Arc::new(Mutex::new(db.connect()));
    holder
        .lock()
        .unwrap()
        .batch_execute("BEGIN; LOCK TABLE users")
        .unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    let retried = Arc::clone(&holder);
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_timeout(Duration::from_secs(1))
        .backoff(Backoff::none())
        .attempts(5)
        .on_event(move |event| {
            if let MigrationEvent::Retrying { .. } = event {
                retried.lock().unwrap().batch_execute("ROLLBACK").unwrap();
            }
        });
    harness.run_pending_migrations(migrations.source()).unwrap();
    let report = harness.report();
    assert_eq!(report.migrations[0].attempts, 2);
    assert!(
        !report.migrations[0].blockers.is_empty(),
        "its blockers are reported"
    );
}

/// Runs on a server whose messages are German to all sessions but the one that migrates.
#[test]
fn a_lock_timeout_is_known_in_the_language_of_the_session_that_migrates() {
    let Some(db) = crate::german::database() else {
        return;
    };
    let _holder = db.running("BEGIN; LOCK TABLE users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.running("SET lc_messages = 'C'");
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db).interval(LONG))
        .lock_timeout(Duration::from_millis(50))
        .backoff(Backoff::none())
        .attempts(2);
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 2);
}

#[test]
fn the_attempts_are_bounded() {
    let db = Database::new();
    let mut holder = db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    // Timed out before the watcher has polled.
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db).interval(LONG))
        .lock_timeout(Duration::from_millis(50))
        .backoff(Backoff::none())
        .attempts(2);
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 2);
    assert_eq!(advisory_locks(&db), 0);
}

#[test]
fn a_deadlock_is_tried_again() {
    meets_a_deadlock(&Database::new(), "SELECT");
}

#[test]
fn a_deadlock_is_known_in_the_language_of_the_session_that_migrates() {
    if let Some(db) = crate::german::database() {
        meets_a_deadlock(&db, "SET lc_messages = 'C'");
    }
}

/// Migrates into a deadlock, which has to be tried again, in a session that has run `first`.
fn meets_a_deadlock(db: &Database, first: &str) {
    let (mut other, mut observer) = (db.connect(), db.connect());
    // The server ends the wait that began first.
    observer
        .batch_execute(&format!(
            "ALTER DATABASE {} SET deadlock_timeout = '2s'",
            db.name
        ))
        .unwrap();
    let migrations = Migrations::new(db, &["LOCK TABLE posts; LOCK TABLE users"]);
    other
        .batch_execute("SET deadlock_timeout = '60s'; BEGIN; LOCK TABLE users")
        .unwrap();
    thread::scope(|scope| {
        let migrations = &migrations;
        let migrating = scope.spawn(move || {
            let mut conn = db.running(first);
            // The watcher does not poll in time.
            let mut harness = PrioritizedHarness::new(&mut conn, patient(db).interval(LONG))
                .lock_timeout(None)
                .backoff(Backoff::none());
            let ran = harness
                .run_pending_migrations(migrations.source())
                .map(drop);
            ran.map_err(|error| error.to_string())?;
            Ok::<_, String>(harness.report().migrations[0].attempts)
        });
        let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'users'::regclass
                     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        wait_until("the migration waits for the other session", || {
            count(&mut observer, waits) == 1
        });
        other.batch_execute("LOCK TABLE posts; COMMIT").unwrap();
        assert_eq!(migrating.join().unwrap(), Ok(2));
    });
}

#[test]
fn a_migration_that_fails_provokes_no_deadlock() {
    let db = Database::new();
    // A failure that took longer than this may have been a deadlock.
    db.running(&format!(
        "ALTER DATABASE {} SET deadlock_timeout = '10ms'",
        db.name
    ));
    let migrations = Migrations::new(&db, &["SELECT pg_sleep(0.1); SELECT 1/0"]);
    let mut conn = db.connect();
    let migrating = pid(&mut conn);
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 1);
    drop(conn);
    let mut observer = db.connect();
    let session = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {migrating}");
    wait_until("the session has reported its statistics", || {
        count(&mut observer, &session) == 0
    });
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(count(&mut observer, deadlocks), 0);
}

#[test]
fn a_migration_outside_a_transaction_has_no_lock_timeout_but_is_prioritized() {
    let db = Database::new();
    let mut holder = db.connect();
    holder
        .batch_execute("BEGIN; UPDATE users SET name = 'held'")
        .unwrap();
    let ups = [
        "-- concurrently\nCREATE TABLE seen AS SELECT current_setting('lock_timeout') AS t",
        "-- concurrently\nCREATE INDEX CONCURRENTLY users_name ON users (name)",
        "INSERT INTO seen SELECT current_setting('lock_timeout')",
    ];
    let own = format!("ALTER DATABASE {} SET lock_timeout = '9s'", db.name);
    db.connect().batch_execute(&own).unwrap();
    let prioritizer = at_once(&db).lock_timeout(Duration::from_secs(7));
    let report = run(&db, &Migrations::new(&db, &ups), prioritizer);
    assert_eq!(report.migrations[1].victims().count(), 1);
    let seen = "SELECT count(*) FROM seen WHERE t = '0'";
    assert_eq!(count(&mut db.connect(), seen), 1);
    assert_eq!(
        count(
            &mut db.connect(),
            "SELECT count(*) FROM seen WHERE t = '7s'"
        ),
        1
    );
}

#[test]
fn next_and_revert_take_the_lock_and_report_too() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()", "CREATE TABLE two ()"]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    assert!(harness.has_pending_migration(migrations.source()).unwrap());
    harness.run_next_migration(migrations.source()).unwrap();
    assert_eq!(applied(&db), 1);
    harness.run_next_migration(migrations.source()).unwrap();
    assert!(
        harness.run_next_migration(migrations.source()).is_err(),
        "there is none"
    );
    harness.revert_last_migration(migrations.source()).unwrap();
    assert_eq!(applied(&db), 1);
    assert_eq!(
        harness
            .revert_all_migrations(migrations.source())
            .unwrap()
            .len(),
        1
    );
    let directions: Vec<_> = harness
        .report()
        .migrations
        .iter()
        .map(|m| m.reverted)
        .collect();
    assert_eq!(directions, [false, false, true, true]);
    assert_eq!((applied(&db), advisory_locks(&db)), (0, 0));
}

#[test]
fn the_signal_log_stays_when_an_application_reverts_all_of_its_migrations() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()", "CREATE TABLE two ()"]);
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    harness.run_pending_migrations(migrations.source()).unwrap();
    let reverted = harness.revert_all_migrations(migrations.source()).unwrap();
    assert_eq!(reverted.len(), 2);
    let none = harness
        .revert_last_migration(migrations.source())
        .unwrap_err();
    assert!(
        matches!(none.downcast_ref(), Some(MigrationError::NoMigrationRun)),
        "{none}"
    );
    assert_eq!(applied(&db), 1, "the log's own");
    assert_eq!(harness.revert_all_migrations(MIGRATIONS).unwrap().len(), 1);
    assert_eq!(applied(&db), 0);
}

#[test]
fn a_decorated_harness_runs_each_migration_once() {
    let db = Database::new();
    let ups = [
        "INSERT INTO posts (title) VALUES ('a')",
        "INSERT INTO posts (title) VALUES ('b')",
    ];
    let migrations = Migrations::new(&db, &ups);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut conn = db.connect();
                let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
                let mut output = HarnessWithOutput::new(&mut harness, Vec::new());
                output.run_pending_migrations(migrations.source()).unwrap();
            });
        }
    });
    assert_eq!(count(&mut db.connect(), "SELECT count(*) FROM posts"), 2);
}

#[test]
fn tenants_with_a_search_path_each_have_a_history_and_a_lock_of_their_own() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE things ()"]);
    let mut admin = db.connect();
    admin
        .batch_execute("CREATE SCHEMA a; CREATE SCHEMA b")
        .unwrap();
    let mut a = db.connect();
    a.batch_execute("SET search_path = a").unwrap();
    let mut harness = PrioritizedHarness::new(&mut a, patient(&db)).on_event({
        // While tenant a migrates, tenant b does not wait for it.
        let (url, source) = (db.url.clone(), Mutex::new(Some(migrations.source())));
        move |event| {
            let (MigrationEvent::Running { .. }, Some(source)) =
                (event, source.lock().unwrap().take())
            else {
                return;
            };
            let mut b = PgConnection::establish(&url).unwrap();
            b.batch_execute("SET search_path = b").unwrap();
            let mut harness = PrioritizedHarness::new(&mut b, Prioritizer::new(url.clone()));
            harness.run_pending_migrations(source).unwrap();
        }
    });
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert_eq!(harness.report().migrations[0].locks[0].relation.schema, "a");
    let tables =
        "SELECT count(*) FROM pg_class WHERE relname IN ('things', '__diesel_schema_migrations')
                  AND relnamespace IN ('a'::regnamespace, 'b'::regnamespace)";
    assert_eq!(count(&mut admin, tables), 4);
}

#[test]
fn the_wait_for_another_instance_can_be_limited() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut other = db.connect();
    other.batch_execute("SELECT pg_advisory_lock(7)").unwrap();
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_key(7)
        .wait_for_instances(Duration::from_millis(50));
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    assert!(
        error.downcast_ref::<Error>().unwrap().is_not_acquired(),
        "{error}"
    );
}

#[test]
fn migrations_are_not_run_inside_a_transaction() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut conn = db.connect();
    conn.begin_test_transaction().unwrap();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::InTransaction)),
        "{error}"
    );
}

#[test]
fn signals_are_recorded_in_the_log() {
    let db = Database::new();
    let mut conn = db.connect();
    let mut holder = db.connect();
    holder
        .batch_execute("SET application_name = 'idler'")
        .unwrap();
    let victim = pid(&mut holder);
    holder
        .batch_execute("BEGIN; UPDATE users SET name = 'held'")
        .unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut harness = PrioritizedHarness::new(&mut conn, at_once(&db).audit(true));
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::NoSignalLog)),
        "{error}"
    );
    assert_eq!(applied(&db), 0);

    conn.run_pending_migrations(MIGRATIONS).unwrap();
    run(&db, &migrations, at_once(&db).audit(true));
    type Entry = (
        i32,
        String,
        String,
        Option<String>,
        Option<String>,
        Vec<String>,
    );
    let columns = (
        signal_log::pid,
        signal_log::kind,
        signal_log::outcome,
        signal_log::application_name,
        signal_log::query,
        signal_log::held,
    );
    let [(pid, kind, outcome, application, query, held)] = &signal_log::table
        .select(columns)
        .load::<Entry>(&mut conn)
        .unwrap()[..]
    else {
        panic!("one signal, one entry")
    };
    assert_eq!(
        (*pid, kind.as_str(), outcome.as_str()),
        (victim, "terminate", "sent")
    );
    assert_eq!(application.as_deref(), Some("idler"));
    assert!(query.as_ref().unwrap().starts_with("BEGIN; UPDATE users"));
    assert!(
        held.contains(&"RowExclusiveLock on public.users".to_owned()),
        "{held:?}"
    );
    conn.revert_last_migration(migrations.source()).unwrap();
}

#[test]
fn a_watcher_without_rights_on_the_log_is_refused_where_it_would_write_to_it() {
    let db = Database::new();
    let (mut conn, watcher) = (db.connect(), db.role_url());
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut run = |audit: bool| {
        let prioritizer = Prioritizer::new(watcher.clone()).audit(audit);
        conn.prioritize(&prioritizer, |_| Ok::<_, Error>(()))
    };
    let is_refused = |ran: Result<(), Error>| matches!(ran, Err(Error::NoSignalLog));
    run(false).unwrap();
    assert!(is_refused(run(true)), "no right to the schema");
    db.running(&format!("GRANT USAGE ON SCHEMA pglock TO {}_role", db.name));
    assert!(is_refused(run(true)), "no right to write");
    db.running(&format!(
        "GRANT INSERT ON pglock.signal_log TO {}_role",
        db.name
    ));
    run(true).unwrap();
}

/// One instance of an application; started by the test below in a process of its own.
#[test]
#[ignore = "a part of `eight_instances_one_killed_apply_each_migration_once`"]
fn instance_process() {
    let url = std::env::var("PGLOCK_INSTANCE_URL").expect("started by the test below");
    let source = std::env::var("PGLOCK_INSTANCE_MIGRATIONS").expect("likewise");
    let mut conn = PgConnection::establish(&url).unwrap();
    let mut harness =
        PrioritizedHarness::new(&mut conn, Prioritizer::new(url).grace(LONG)).lock_timeout(None);
    harness
        .run_pending_migrations(FileBasedMigrations::from_path(source).unwrap())
        .unwrap();
}

#[test]
fn eight_instances_one_killed_apply_each_migration_once() {
    let db = Database::new();
    let ups = [
        "INSERT INTO posts (title) VALUES ('first')",
        "INSERT INTO posts (title) VALUES ('second'); LOCK TABLE users",
        "-- concurrently\nCREATE INDEX CONCURRENTLY posts_title ON posts (title)",
        "INSERT INTO posts (title) VALUES ('last')",
    ];
    let migrations = Migrations::new(&db, &ups);
    let (mut observer, mut holder) = (db.connect(), db.connect());
    holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    let start = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "migrations::instance_process"])
            .env("PGLOCK_INSTANCE_URL", &db.url)
            .env("PGLOCK_INSTANCE_MIGRATIONS", &migrations.0)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let mut killed = start();
    wait_until("the first instance is in its second migration", || {
        count(&mut observer, blocked) == 1
    });
    let mut others: Vec<_> = (0..7).map(|_| start()).collect();
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%advisory%'";
    wait_until("the others wait for their turn", || {
        count(&mut observer, sessions) >= 7
    });
    killed.kill().unwrap();
    killed.wait().unwrap();
    holder.batch_execute("COMMIT").unwrap();
    for other in &mut others {
        assert!(other.wait().unwrap().success());
    }
    assert_eq!(applied(&db), 4);
    assert_eq!(count(&mut observer, "SELECT count(*) FROM posts"), 3);
    assert_eq!(
        count(
            &mut observer,
            "SELECT count(*) FROM pg_index WHERE NOT indisvalid"
        ),
        0
    );
    wait_until("no lock is left", || advisory_locks(&db) == 0);
}

#[test]
fn an_unreachable_database_and_a_wrong_password_run_nothing() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut conn = db.connect();
    let urls = [
        db.tcp_url_with_password("sup3rsecret"),
        "postgres://postgres:sup3rsecret@127.0.0.1:1/nowhere".to_owned(),
        "postgres://postgres:sup3r/secret@127.0.0.1/nowhere".to_owned(),
    ];
    for url in urls {
        let mut harness = PrioritizedHarness::new(&mut conn, Prioritizer::new(url));
        let error = harness
            .run_pending_migrations(migrations.source())
            .unwrap_err();
        assert!(
            matches!(error.downcast_ref(), Some(Error::Watcher(_))),
            "{error}"
        );
        let text = format!("{error:?} {error} {:?}", harness.report());
        assert!(!text.contains("sup3r"), "{text}");
    }
    assert_eq!((applied(&db), advisory_locks(&db)), (0, 0));
    run(&db, &migrations, patient(&db));
}

#[cfg(feature = "async")]
#[test]
fn an_async_application_needs_no_other_connection() {
    use diesel_async::AsyncPgConnection;
    use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
    let db = Database::new();
    let mut holder = db.connect();
    holder
        .batch_execute("BEGIN; UPDATE users SET name = 'held'")
        .unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    type Wrapper = AsyncConnectionWrapper<AsyncPgConnection>;
    let url = db.url.clone();
    let prioritizer = Prioritizer::new(move || Wrapper::establish(&url))
        .interval(TICK)
        .grace(Duration::ZERO);
    let mut conn = Wrapper::establish(&db.url).unwrap();
    let mut harness = PrioritizedHarness::new(&mut conn, prioritizer);
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert_eq!(harness.report().migrations[0].victims().count(), 1);
}

#[test]
fn a_tenants_first_run_takes_the_tenants_lock_beside_a_history_in_public() {
    let db = Database::new();
    let shared = Migrations::new(&db, &["CREATE TABLE shared ()"]);
    run(&db, &shared, patient(&db));
    drop(shared);
    let migrations = Migrations::new(&db, &["LOCK TABLE users; CREATE TABLE things ()"]);
    let mut holder = db.connect();
    holder.batch_execute("CREATE SCHEMA a").unwrap();
    holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    let (waits, waiting) = channel();
    thread::scope(|scope| {
        let start_instance = || {
            let (waits, db, migrations): (Sender<()>, _, _) = (waits.clone(), &db, &migrations);
            scope.spawn(move || {
                let mut conn = db.connect();
                conn.batch_execute("SET search_path = a, public").unwrap();
                let mut harness = PrioritizedHarness::new(&mut conn, patient(db))
                    .lock_timeout(None)
                    .on_event(move |event| {
                        if let MigrationEvent::WaitingForInstance = event {
                            let _ = waits.send(());
                        }
                    });
                let ran = harness.run_pending_migrations(migrations.source());
                ran.map(|versions| versions.len())
                    .map_err(|e| e.to_string())
            })
        };
        let first = start_instance();
        let mut observer = db.connect();
        let blocked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        wait_until("the first is in its migration", || {
            count(&mut observer, blocked) == 1
        });
        let second = start_instance();
        waiting
            .recv_timeout(LONG)
            .expect("the second waits for the first");
        holder.batch_execute("COMMIT").unwrap();
        assert_eq!(
            (first.join().unwrap(), second.join().unwrap()),
            (Ok(1), Ok(0))
        );
    });
}

/// Lists the results of a directory of migrations: tables by schema, and versions by history.
fn left_behind(db: &Database) -> Vec<String> {
    let mut conn = db.connect();
    let names = |conn: &mut PgConnection, query: &str| {
        let names = diesel::dsl::sql::<diesel::sql_types::Array<diesel::sql_types::Text>>(query);
        diesel::select(names)
            .get_result::<Vec<String>>(conn)
            .unwrap()
    };
    let tables =
        "(SELECT coalesce(array_agg(oid::regclass::text ORDER BY oid::regclass::text), '{}') FROM
        (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'r' AND nspname !~ '^pg_|^information_schema') AS c)";
    conn.batch_execute("SET search_path = ''").unwrap();
    let mut left = names(&mut conn, tables);
    for history in left.clone() {
        if history.ends_with("__diesel_schema_migrations") {
            let query =
                format!("(SELECT array_agg(version::text ORDER BY version) FROM {history})");
            left.extend(names(&mut conn, &query));
        } else {
            let rows = count(&mut conn, &format!("SELECT count(*) FROM {history}"));
            left.push(format!("{rows} rows in {history}"));
        }
    }
    left
}

/// Runs the migrations with Diesel's own harness, and with this crate's on another database.
///
/// The results and the settings of the session are the same, and a fresh session has nothing to run.
fn does_as_diesel_does(ups: &[&str]) {
    let (dbs, settings) = ([Database::new(), Database::new()], ["role", "search_path"]);
    let migrations = Migrations::new(&dbs[0], ups);
    let [mut diesels, mut ours] = dbs
        .each_ref()
        .map(|db| db.running("CREATE TABLE ledger (i int)"));
    let expected = diesels.run_pending_migrations(migrations.source());
    let expected = expected.map(|versions| versions.len());
    let mut harness = PrioritizedHarness::new(&mut ours, patient(&dbs[1]));
    let done = harness.run_pending_migrations(migrations.source());
    let done = done.map(|versions| versions.len());
    assert_eq!(done.unwrap(), expected.unwrap(), "{ups:?}");
    assert_eq!(
        harness
            .run_pending_migrations(migrations.source())
            .unwrap()
            .len(),
        0,
        "{ups:?}"
    );
    assert_eq!(left_behind(&dbs[1]), left_behind(&dbs[0]), "{ups:?}");
    for name in settings {
        assert_eq!(
            setting(&mut ours, name),
            setting(&mut diesels, name),
            "{ups:?}"
        );
    }
    assert_eq!(
        run(&dbs[1], &migrations, patient(&dbs[1])).migrations.len(),
        0,
        "{ups:?}"
    );
    assert_eq!(left_behind(&dbs[1]), left_behind(&dbs[0]), "{ups:?}");
}

const RECORD: &str = "INSERT INTO public.ledger VALUES (1)";

#[test]
fn a_migration_may_change_the_search_path() {
    let billing =
        "CREATE SCHEMA billing; SET search_path = billing, public; CREATE TABLE fees (amount int)";
    does_as_diesel_does(&[billing, "INSERT INTO billing.fees VALUES (100)", RECORD]);
}

#[test]
fn a_history_is_found_where_a_migration_leaves_it() {
    let db = Database::new();
    let billing = "CREATE SCHEMA billing";
    db.running(billing)
        .run_pending_migrations(MIGRATIONS)
        .unwrap();
    db.running("CREATE TABLE billing.__diesel_schema_migrations (LIKE __diesel_schema_migrations)");
    let ups = [
        "SET search_path = billing, public",
        "ALTER SCHEMA public RENAME TO early",
        "SELECT pg_catalog.set_config('search_path', '', false)",
        "CREATE TABLE early.late ()",
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    let mut run = || {
        harness
            .run_pending_migrations(migrations.source())
            .unwrap()
            .len()
    };
    assert_eq!((run(), run()), (4, 0));
    let in_history = |schema: &str| {
        let history = format!("SELECT count(*) FROM {schema}.__diesel_schema_migrations");
        count(&mut db.connect(), &history)
    };
    assert_eq!((in_history("early"), in_history("billing")), (5, 0));
}

#[test]
fn a_migration_may_change_the_settings_of_its_session() {
    for up in [
        "RESET ALL",
        "SET session_replication_role = replica",
        "SET client_encoding = 'LATIN1'; CREATE TABLE \"price\" (i int)",
        "SET lock_timeout = '3s'",
        "SET default_transaction_isolation = 'serializable'",
        "-- concurrently\nDISCARD ALL",
        "-- concurrently\nDEALLOCATE ALL",
        "DEALLOCATE ALL",
        "SELECT pg_advisory_unlock_all()",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    ] {
        does_as_diesel_does(&[up, RECORD, RECORD]);
    }
}

#[test]
fn a_migration_may_discard_the_cached_statements() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE ledger (i int)",
        "-- concurrently\nDISCARD ALL",
        RECORD,
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert_eq!(harness.applied_migrations().unwrap().len(), 3);
    assert_eq!(
        harness.report().warnings.len(),
        1,
        "{:?}",
        harness.report().warnings
    );
    harness.revert_all_migrations(migrations.source()).unwrap();
    assert_eq!((applied(&db), advisory_locks(&db)), (0, 0));
}

#[test]
fn a_migration_may_keep_another_role() {
    let db = Database::new();
    let role = format!("{}_owner", db.name);
    db.running(&format!(
        "CREATE ROLE {role}; CREATE TABLE ledger (i int); GRANT ALL ON ledger TO {role}"
    ));
    db.connect().run_pending_migrations(MIGRATIONS).unwrap();
    db.running(&format!(
        "GRANT SELECT, INSERT ON __diesel_schema_migrations TO {role}"
    ));
    let ups = [&*format!("SET ROLE {role}"), RECORD, RECORD];
    assert_eq!(
        run(&db, &Migrations::new(&db, &ups), patient(&db))
            .migrations
            .len(),
        3
    );
    assert_eq!(applied(&db), 4);
}

#[test]
fn a_schema_named_as_the_user_takes_no_migration_twice() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE ledger (i int); CREATE SCHEMA postgres",
        RECORD,
        RECORD,
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    assert_eq!(
        harness
            .run_pending_migrations(migrations.source())
            .unwrap()
            .len(),
        3
    );
    assert!(
        harness
            .run_pending_migrations(migrations.source())
            .unwrap()
            .is_empty()
    );
    let histories = "SELECT count(*) FROM pg_class WHERE relname = '__diesel_schema_migrations'";
    assert_eq!(count(&mut db.connect(), histories), 1);
}

#[test]
fn a_table_that_the_clients_encoding_cannot_name_is_in_the_report() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE \"цены\" (i int)",
        "DO $$ BEGIN EXECUTE (SELECT 'LOCK ' || quote_ident(relname) FROM pg_class
         WHERE relkind = 'r' AND relname > 'z'); END $$; SET client_encoding = 'LATIN1'",
    ];
    let report = run(&db, &Migrations::new(&db, &ups), patient(&db));
    assert_eq!(report.migrations[1].locks[0].relation.name, "цены");
    assert_eq!((applied(&db), report.warnings.len()), (2, 0));
}

#[test]
fn an_instance_that_lost_the_migration_lock_to_another_runs_nothing_more() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE ledger (i int); SELECT pg_advisory_unlock_all()",
        RECORD,
    ];
    let migrations = Migrations::new(&db, &ups);
    let other = Mutex::new(db.connect());
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_key(7)
        .on_event(move |event| {
            if let MigrationEvent::Finished(_) = event {
                let mut other = other.lock().unwrap();
                other.batch_execute("SELECT pg_advisory_lock(7)").unwrap();
            }
        });
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    assert!(
        error.is_not_acquired() && error.to_string().contains("released"),
        "{error}"
    );
    assert_eq!(applied(&db), 1);
}

#[test]
fn a_migration_that_another_instance_has_applied_is_skipped() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    let pending = harness.pending_migrations(migrations.source()).unwrap();
    db.connect()
        .run_pending_migrations(migrations.source())
        .unwrap();
    harness.run_migrations(&pending).unwrap();
    harness.run_migration(&pending[0]).unwrap();
    assert!(harness.report().migrations.is_empty());
}

/// Runs a migration that is blocked at its end; returns the number of rows that it left in the
/// table `ledger`, and its report.
fn run_blocked(up: &str) -> (i64, MigrationReport) {
    let db = Database::new();
    let _holder = db.running("CREATE TABLE ledger (i int); COMMIT; BEGIN; SELECT FROM users");
    let migrations = Migrations::new(&db, &[up]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db).interval(LONG))
        .lock_timeout(Duration::from_millis(50))
        .backoff(Backoff::none());
    let ran = harness.run_pending_migrations(migrations.source());
    assert!(ran.is_err());
    let report = harness.report().migrations.remove(0);
    let rows = "SELECT count(*) FROM ledger";
    (count(&mut db.connect(), rows), report)
}

#[test]
fn a_migration_that_commits_a_part_of_itself_is_not_tried_again() {
    for up in [
        "INSERT INTO ledger VALUES (1); COMMIT; BEGIN; ALTER TABLE users ADD COLUMN q int",
        "ROLLBACK; BEGIN; INSERT INTO ledger VALUES (1); COMMIT; BEGIN; ALTER TABLE users ADD COLUMN q int",
        "INSERT INTO ledger VALUES (1); COMMIT AND CHAIN; ALTER TABLE users ADD COLUMN q int",
    ] {
        let (rows, report) = run_blocked(up);
        assert_eq!((rows, report.attempts), (1, 1), "{up}");
        let why = report.not_retried.as_deref().unwrap_or_default();
        assert!(why.contains("more than one transaction"), "{report}");
    }
}

#[test]
fn a_migration_that_is_one_transaction_is_tried_again() {
    for up in [
        "INSERT INTO ledger VALUES (1); ALTER TABLE users ADD COLUMN q int",
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; ALTER TABLE users ADD COLUMN q int",
        "SAVEPOINT a; INSERT INTO ledger VALUES (1); RELEASE a; SAVEPOINT b; ALTER TABLE users ADD COLUMN q int",
        "RESET ALL; SET lock_timeout = '50ms'; ALTER TABLE users ADD COLUMN q int",
    ] {
        let (rows, report) = run_blocked(up);
        assert_eq!(
            (rows, report.attempts, report.not_retried),
            (0, 3, None),
            "{up}"
        );
    }
}

/// A migration in Rust that ends the transaction that Diesel opened for it.
struct InRust(Box<dyn Migration<Pg>>);

impl Migration<Pg> for InRust {
    fn run(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        for statement in ["COMMIT", "INSERT INTO ledger VALUES (1)", "BEGIN"] {
            conn.batch_execute(statement)?;
        }
        self.0.run(conn)
    }

    fn revert(&self, conn: &mut dyn BoxableConnection<Pg>) -> diesel::migration::Result<()> {
        self.0.revert(conn)
    }

    fn metadata(&self) -> &dyn MigrationMetadata {
        self.0.metadata()
    }

    fn name(&self) -> &dyn MigrationName {
        self.0.name()
    }
}

#[test]
fn a_migration_in_rust_that_commits_a_part_of_itself_is_not_tried_again() {
    let db = Database::new();
    let _holder = db.running("CREATE TABLE ledger (i int); COMMIT; BEGIN; SELECT FROM users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN q int"]);
    let mut migrations: Vec<Box<dyn Migration<Pg>>> = migrations.source().migrations().unwrap();
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db).interval(LONG))
        .lock_timeout(Duration::from_millis(50))
        .backoff(Backoff::none());
    assert!(
        harness
            .run_migration(&InRust(migrations.remove(0)))
            .is_err()
    );
    assert_eq!(harness.report().migrations[0].attempts, 1);
    assert_eq!(count(&mut db.connect(), "SELECT count(*) FROM ledger"), 1);
}

/// A database with a history, and a session that locks it.
fn with_locked_history() -> (Database, PgConnection) {
    let db = Database::new();
    db.connect().run_pending_migrations(MIGRATIONS).unwrap();
    let holder = db.running("BEGIN; LOCK TABLE __diesel_schema_migrations");
    (db, holder)
}

#[test]
fn a_session_that_locks_the_history_is_terminated() {
    let (db, mut holder) = with_locked_history();
    let held_by = pid(&mut holder);
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let report = run(&db, &migrations, at_once(&db));
    let victims = report.history_blockers.iter().filter(|it| it.is_victim());
    let victims: Vec<_> = victims.map(|blocker| blocker.pid).collect();
    assert_eq!((victims, applied(&db)), (vec![Some(held_by)], 2));
}

#[test]
fn a_session_that_makes_the_history_and_does_not_commit_is_terminated() {
    let db = Database::new();
    let mut holder = db.connect();
    holder.batch_execute("BEGIN").unwrap();
    holder.setup().unwrap();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    run(&db, &migrations, at_once(&db));
    assert_eq!(applied(&db), 1);
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn a_history_that_another_session_makes_in_the_meantime_is_used() {
    let db = Database::new();
    let holder = Arc::new(Mutex::new(db.connect()));
    holder.lock().unwrap().batch_execute("BEGIN").unwrap();
    holder.lock().unwrap().setup().unwrap();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let migrating = pid(&mut conn);
    let committing = thread::spawn({
        let holder = Arc::clone(&holder);
        move || {
            wait_until_blocked(&mut observer, migrating);
            holder.lock().unwrap().batch_execute("COMMIT").unwrap();
        }
    });
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db)).lock_timeout(LONG);
    harness.run_pending_migrations(migrations.source()).unwrap();
    committing.join().unwrap();
    assert_eq!(applied(&db), 1);
}

#[test]
fn a_locked_history_has_the_timeout_and_the_attempts_of_a_migration() {
    let (db, mut holder) = with_locked_history();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let reading = Arc::new(Mutex::new(0));
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_timeout(Duration::from_millis(50))
        .backoff(Backoff::none())
        .attempts(2)
        .on_event({
            let reading = Arc::clone(&reading);
            move |event| match event {
                MigrationEvent::ReadingHistory { .. } => *reading.lock().unwrap() += 1,
                MigrationEvent::Running { .. } => panic!("the history is not read"),
                _ => {}
            }
        });
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    let error = error.downcast::<Error>().unwrap();
    let held_by = format!("; held by pid {}", pid(&mut holder));
    assert!(error.to_string().contains(&held_by), "{error}");
    assert_eq!((*reading.lock().unwrap(), advisory_locks(&db)), (2, 0));
    assert_eq!(setting(&mut conn, "lock_timeout"), "0");
}

#[test]
fn a_question_about_a_locked_history_is_not_answered_and_signals_no_session() {
    let (db, mut holder) = with_locked_history();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, at_once(&db))
        .lock_key(7)
        .lock_timeout(Duration::from_millis(50));
    let answers = [
        harness.applied_migrations().map(drop),
        harness.pending_migrations(migrations.source()).map(drop),
        harness.has_pending_migration(migrations.source()).map(drop),
    ];
    for answer in answers {
        let error = answer.unwrap_err().downcast::<Error>().unwrap();
        assert!(matches!(*error, Error::History { holders, .. } if !holders.is_empty()));
    }
    holder.batch_execute("COMMIT").unwrap();
    assert_eq!(harness.applied_migrations().unwrap().len(), 1);
}

#[test]
fn without_a_lock_timeout_a_question_waits_without_limit() {
    let (db, mut holder) = with_locked_history();
    let mut conn = db.running("SET lock_timeout = '10ms'");
    let asking = pid(&mut conn);
    thread::scope(|scope| {
        let (db, conn) = (&db, &mut conn);
        let asked = scope.spawn(move || {
            let mut harness = PrioritizedHarness::new(conn, patient(db)).lock_timeout(None);
            harness
                .applied_migrations()
                .map(|it| it.len())
                .map_err(|error| error.to_string())
        });
        wait_until_blocked(&mut db.connect(), asking);
        holder.batch_execute("COMMIT").unwrap();
        assert_eq!(asked.join().unwrap(), Ok(1));
    });
}

#[test]
fn a_question_writes_nothing() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let read_only = "SET default_transaction_read_only = on";
    let mut conn = db.running(read_only);
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    assert_eq!(
        harness
            .pending_migrations(migrations.source())
            .unwrap()
            .len(),
        1
    );
    let histories = "SELECT count(*) FROM pg_class WHERE relname = '__diesel_schema_migrations'";
    assert_eq!(count(&mut db.connect(), histories), 0);

    run(&db, &migrations, patient(&db));
    assert!(!harness.has_pending_migration(migrations.source()).unwrap());
    let ran = harness.run_pending_migrations(migrations.source());
    assert!(ran.unwrap().is_empty(), "a run that has nothing to do");
}

#[cfg(feature = "async")]
#[test]
fn over_an_async_connection_only_one_transaction_is_tried_again() {
    use diesel_async::AsyncPgConnection;
    use diesel_async::async_connection_wrapper::AsyncConnectionWrapper;
    let blocked = "ALTER TABLE users ADD COLUMN q int";
    for (up, attempts) in [
        (blocked.to_owned(), 3),
        (format!("COMMIT; BEGIN; {blocked}"), 1),
    ] {
        let db = Database::new();
        let _holder = db.running("BEGIN; SELECT FROM users");
        let migrations = Migrations::new(&db, &[&up]);
        let mut conn = AsyncConnectionWrapper::<AsyncPgConnection>::establish(&db.url).unwrap();
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&db).interval(LONG))
            .lock_timeout(Duration::from_millis(50))
            .backoff(Backoff::none());
        assert!(harness.run_pending_migrations(migrations.source()).is_err());
        assert_eq!(harness.report().migrations[0].attempts, attempts, "{up}");
    }
}
