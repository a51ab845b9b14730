//! The history of migrations: found, created, read and locked.

use super::*;

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
    assert_eq!((in_history("early"), in_history("billing")), (6, 0));
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
    assert_eq!((victims, applied(&db)), (vec![Some(held_by)], 3));
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
    assert_eq!(harness.applied_migrations().unwrap().len(), 2);
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
        assert_eq!(asked.join().unwrap(), Ok(2));
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
