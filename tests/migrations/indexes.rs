//! Indexes that are built concurrently: what a failure leaves, and the progress.

use diesel_pglock::IndexRepair;

use super::*;

const INDEX: &str = "-- concurrently\nCREATE INDEX CONCURRENTLY users_name ON users (name)";
const UNIQUE: &str = "-- concurrently\nCREATE UNIQUE INDEX CONCURRENTLY users_name ON users (name)";
const INVALID: &str = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";

/// A database in which the unique index fails.
fn with_duplicates() -> Database {
    let db = Database::new();
    db.running("INSERT INTO users (name) VALUES ('Sean')");
    db
}

#[test]
fn an_invalid_index_is_named_in_the_error_and_in_the_report() {
    let db = with_duplicates();
    let migrations = Migrations::new(&db, &[UNIQUE]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    let error = harness.run_pending_migrations(migrations.source());
    let error = error.unwrap_err().downcast::<Error>().unwrap();
    let Error::InvalidIndexes { indexes, .. } = &*error else {
        panic!("{error}")
    };
    assert_eq!(indexes, &["public.users_name"]);
    let text = error.to_string();
    assert!(text.contains("could not create unique index"), "{text}");
    let report = &harness.report().migrations[0];
    let [index] = &report.invalid_indexes[..] else {
        panic!("{report:?}")
    };
    assert_eq!((&*index.table, index.repaired), ("users", false));

    // The next failure has left nothing new.
    let error = harness.run_pending_migrations(migrations.source());
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("already exists") && !error.contains("invalid"),
        "{error}"
    );
    assert_eq!(harness.report().migrations[1].invalid_indexes.len(), 0);
}

#[test]
fn an_index_that_failed_for_another_reason_is_dropped_and_not_tried_again() {
    let db = with_duplicates();
    let migrations = Migrations::new(&db, &[UNIQUE]);
    let mut conn = db.connect();
    let mut harness =
        PrioritizedHarness::new(&mut conn, patient(&db)).repair_indexes(IndexRepair::Drop);
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    assert!(!error.is::<Error>(), "the migration's own: {error}");
    let report = &harness.report().migrations[0];
    assert_eq!(
        (report.attempts, report.invalid_indexes[0].repaired),
        (1, true)
    );
    assert_eq!(count(&mut db.connect(), INVALID), 0);
}

#[test]
fn an_invalid_index_is_repaired_and_the_migration_tried_again() {
    let if_not_exists = INDEX.replace("users_name ON", "IF NOT EXISTS users_name ON");
    for (up, repair, statement) in [
        (INDEX, IndexRepair::Drop, "DROP INDEX CONCURRENTLY"),
        (
            &if_not_exists,
            IndexRepair::Reindex,
            "REINDEX INDEX CONCURRENTLY",
        ),
    ] {
        let db = Database::new();
        let migrations = Migrations::new(&db, &[up]);
        let mut holder = db.running("BEGIN; INSERT INTO users (name) VALUES ('held')");
        let mut observer = db.connect();
        thread::scope(|scope| {
            let run = scope.spawn(|| {
                let mut conn = db.connect();
                let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
                    .lock_timeout(LONG)
                    .backoff(Backoff::none())
                    .repair_indexes(repair)
                    .for_migration("2026-01-01-000000", |it| {
                        it.lock_timeout(Duration::from_millis(200))
                    });
                harness.run_pending_migrations(migrations.source()).unwrap();
                harness.report()
            });
            let repairs = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                 AND query LIKE '{statement}%' AND wait_event_type = 'Lock'"
            );
            wait_until("the repair waits", || count(&mut observer, &repairs) == 1);
            holder.batch_execute("COMMIT").unwrap();
            let report = run.join().unwrap();
            assert_eq!(report.migrations[0].attempts, 2);
            assert!(report.migrations[0].invalid_indexes[0].repaired);
            assert!(report.warnings.is_empty(), "{:?}", report.warnings);
        });
        let valid = "SELECT count(*) FROM pg_index WHERE indexrelid = 'users_name'::regclass AND indisvalid";
        assert_eq!(count(&mut observer, valid), 1);
        assert_eq!(count(&mut observer, INVALID), 0);
    }
}

#[test]
fn an_invalid_index_that_is_passed_over_is_reported() {
    let db = with_duplicates();
    let mut conn = db.connect();
    let unique = UNIQUE.replace("-- concurrently\n", "");
    assert!(conn.batch_execute(&unique).is_err());
    let up = INDEX.replace("users_name ON", "IF NOT EXISTS users_name ON");
    let report = run(&db, &Migrations::new(&db, &[&up]), patient(&db));
    let expected = "2026-01-01-000000_step: the index `public.users_name` of `users` is invalid";
    assert_eq!(report.warnings, [expected]);
}

#[test]
fn the_progress_of_an_index_names_the_session_that_it_waits_for() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &[INDEX]);
    let mut holder = db.running("BEGIN; INSERT INTO users (name) VALUES ('held')");
    let held = pid(&mut holder);
    let holder = Mutex::new(holder);
    let (send, progress) = channel();
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db)).on_event(move |event| {
        if let MigrationEvent::Progress(progress) = event {
            // An index that waits for no session is soon built.
            let _ = holder.lock().unwrap().batch_execute("COMMIT");
            send.send(progress.clone()).unwrap();
        }
    });
    harness.run_pending_migrations(migrations.source()).unwrap();
    let progress = progress.recv_timeout(LONG).unwrap();
    assert_eq!(progress.name, "2026-01-01-000000_step");
    assert_eq!(progress.command, "CREATE INDEX CONCURRENTLY");
    assert_eq!(progress.current_locker_pid, Some(held), "{progress}");
    assert!(progress.phase.contains("waiting for writers"), "{progress}");
    assert_eq!((progress.done, progress.total), (0, 1));
}
