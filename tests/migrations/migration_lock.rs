//! Migrations that release the migration lock, and instances that are killed with it.

use super::instances::instance;
use super::*;

const UNLOCK: &str = "SELECT pg_advisory_unlock_all()";

/// Acquires lock 7 on another session as soon as the running migration has released it.
fn take_over(db: &Database) -> PgConnection {
    let mut other = db.connect();
    let free = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7
                AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    wait_until("the lock is held", || count(&mut other, free) == 1);
    wait_until("it is released", || {
        diesel::select(diesel::dsl::sql::<diesel::sql_types::Bool>(
            "pg_try_advisory_lock(7)",
        ))
        .get_result(&mut other)
        .unwrap()
    });
    other
}

#[test]
fn a_migration_that_lost_the_lock_to_another_instance_is_rolled_back() {
    let db = Database::new();
    let ups = [
        &*format!("CREATE TABLE one (); SELECT pg_sleep(0.5); {UNLOCK}; LOCK TABLE users"),
        "CREATE TABLE two ()",
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut holder = db.running("BEGIN; LOCK TABLE users");
    thread::scope(|scope| {
        let migrating = scope.spawn(|| {
            let mut conn = db.connect();
            let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
                .lock_timeout(None)
                .lock_key(7);
            let result = harness.run_pending_migrations(migrations.source());
            result
                .map(drop)
                .map_err(|error| *error.downcast::<Error>().unwrap())
        });
        let _other = take_over(&db);
        holder.batch_execute("COMMIT").unwrap();
        let error = migrating.join().unwrap().unwrap_err();
        let text = error.to_string();
        assert!(
            error.is_not_acquired() && text.contains("released"),
            "{text}"
        );
        assert!(text.contains("held by pid"), "{text}");
    });
    assert_eq!(applied(&db), 0);
    let tables = "SELECT count(*) FROM pg_class WHERE relname = 'one'";
    assert_eq!(count(&mut db.connect(), tables), 0);
}

#[test]
fn a_migration_that_released_the_lock_has_it_again_before_its_commit() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &[&*format!("CREATE TABLE one (); {UNLOCK}")]);
    let mut conn = db.connect();
    let observed = Mutex::new(db.connect());
    let held = Arc::new(Mutex::new(0));
    let seen = Arc::clone(&held);
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_key(7)
        .on_event(move |event| {
            if let MigrationEvent::Finished(_) = event {
                *seen.lock().unwrap() =
                    crate::support::advisory_locks(&mut observed.lock().unwrap());
            }
        });
    harness.run_pending_migrations(migrations.source()).unwrap();
    let warnings = harness.report().warnings;
    assert!(
        matches!(&warnings[..], [one] if one.contains("acquired again")),
        "{warnings:?}"
    );
    assert_eq!(*held.lock().unwrap(), 1, "after the commit it is held");
    assert_eq!((applied(&db), advisory_locks(&db)), (1, 0));
}

#[test]
fn a_migration_that_released_the_lock_has_it_again_before_the_next_attempt() {
    let db = Database::new();
    let up = format!("{UNLOCK}; ALTER TABLE users ADD COLUMN age int");
    let migrations = Migrations::new(&db, &[&*up]);
    let _holder = db.running("BEGIN; SELECT FROM users");
    let other = Mutex::new(db.connect());
    let mut conn = db.connect();
    let mut harness = unwatched(&mut conn, &db)
        .lock_key(7)
        .on_event(move |event| {
            if let MigrationEvent::Retrying { .. } = event {
                let mut other = other.lock().unwrap();
                other.batch_execute("SELECT pg_advisory_lock(7)").unwrap();
            }
        });
    let error = harness.run_pending_migrations(migrations.source());
    let error = error.unwrap_err().downcast::<Error>().unwrap();
    assert!(error.is_not_acquired(), "{error}");
    assert_eq!(harness.report().migrations[0].attempts, 1);
}

#[test]
fn an_instance_that_lost_the_lock_outside_a_transaction_runs_nothing_more() {
    let db = Database::new();
    let ups = [
        "-- concurrently\nCREATE TABLE ledger (i int); SELECT pg_advisory_unlock_all()",
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
fn a_killed_instance_releases_the_lock_although_its_index_waits() {
    let db = Database::new();
    let ups = [
        "-- concurrently\nDISCARD ALL",
        "-- concurrently\nCREATE INDEX CONCURRENTLY users_name ON users (name)",
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut observer = db.connect();
    let check = "SELECT count(*) FROM pg_settings WHERE name = 'client_connection_check_interval'";
    if count(&mut observer, check) == 0 {
        return;
    }
    let _holder = db.running("BEGIN; INSERT INTO users (name) VALUES ('held')");
    let mut instance = instance(&db, &migrations).spawn().unwrap();
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND query LIKE '%CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock'";
    wait_until("the index waits", || count(&mut observer, waits) == 1);
    instance.kill().unwrap();
    instance.wait().unwrap();
    wait_until("no lock is left", || advisory_locks(&db) == 0);
    assert_eq!(count(&mut observer, waits), 0);
}

#[test]
fn the_session_keeps_its_own_connection_check() {
    let name = "client_connection_check_interval";
    for own in ["0", "7s"] {
        let db = Database::new();
        let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
        let mut conn = db.connect();
        if conn
            .batch_execute(&format!("SET {name} = '{own}'"))
            .is_err()
        {
            return;
        }
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
        harness.run_pending_migrations(migrations.source()).unwrap();
        assert_eq!(setting(&mut conn, name), own);
    }
}
