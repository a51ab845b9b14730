//! Instances that migrate at the same time, and the migration lock.

use std::process::{Command, Stdio};

use super::*;

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
                            if let MigrationEvent::WaitingForInstance(_) = event {
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
    let ups = ["CREATE TABLE one ()", "CREATE TABLE two ()"];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    unwatched(&mut conn, &db)
        .run_next_migration(migrations.source())
        .unwrap();
    let mut other = db.running("SET application_name = 'other'; SELECT pg_advisory_lock(7)");
    let other = pid(&mut other);
    let waits = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&waits);
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_key(7)
        .wait_for_instances(Duration::from_millis(50))
        .on_event(move |event| {
            if let MigrationEvent::WaitingForInstance(wait) = event {
                seen.lock().unwrap().push(wait.clone());
            }
        });
    let error = harness.run_pending_migrations(migrations.source());
    let error = error.unwrap_err().downcast::<Error>().unwrap();
    assert!(error.is_not_acquired(), "{error}");
    let [wait] = &waits.lock().unwrap()[..] else {
        panic!("one event for a short wait")
    };
    let next = "2026-01-02-000000_step";
    assert_eq!(wait.next_migration.as_deref(), Some(next));
    assert_eq!(wait.holders[0].pid, Some(other));
    assert!(wait.waited < Duration::from_secs(1), "{wait}");
    let holder = format!("held by pid {other} (application `other`");
    for text in [error.to_string(), wait.to_string()] {
        assert!(text.contains(&holder) && text.contains(next), "{text}");
    }
    assert!(harness.report().waited_for_instances >= Duration::from_millis(50));
}

#[test]
fn a_wait_for_another_instance_is_reported_at_once_and_every_ten_seconds() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["SELECT 1"]);
    let mut other = db.running("SELECT pg_advisory_lock(7)");
    let (waits, waited) = channel();
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            let mut conn = db.connect();
            let harness = PrioritizedHarness::new(&mut conn, patient(&db)).lock_key(7);
            let mut harness = harness.on_event(move |event| {
                if let MigrationEvent::WaitingForInstance(wait) = event {
                    waits.send(wait.waited).unwrap();
                }
            });
            let ran = harness.run_pending_migrations(migrations.source());
            ran.unwrap().len()
        });
        let waits = [(); 2].map(|()| waited.recv_timeout(LONG).expect("an event"));
        assert!(waits[0] < Duration::from_secs(1), "{waits:?}");
        let ten = Duration::from_secs(10);
        assert!(waits[1] >= ten && waits[1] < 2 * ten, "{waits:?}");
        other.batch_execute("SELECT pg_advisory_unlock(7)").unwrap();
        assert_eq!(run.join().unwrap(), 1);
    });
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

/// Returns the command of an instance in a process of its own, which can be killed.
pub(super) fn instance(db: &Database, migrations: &Migrations) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--ignored",
            "--exact",
            // Its error is shown, on stderr.
            "--nocapture",
            "migrations::instances::instance_process",
        ])
        .env("PGLOCK_INSTANCE_URL", &db.url)
        .env("PGLOCK_INSTANCE_MIGRATIONS", &migrations.0)
        .stdout(Stdio::null());
    command
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
    let start = || instance(&db, &migrations).spawn().unwrap();
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
                        if let MigrationEvent::WaitingForInstance(_) = event {
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
