//! Attempts at a migration: lock timeouts, deadlocks, and what is not tried again.

use super::*;

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
    let mut harness = unwatched(&mut conn, &db).attempts(2);
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 2);
}

#[test]
fn a_lock_timeout_comes_before_the_statement_timeout_of_the_session() {
    let db = Database::new();
    let _holder = db.running("BEGIN; LOCK TABLE users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.running("SET statement_timeout = '200ms'");
    let mut harness = unwatched(&mut conn, &db)
        .lock_timeout(Duration::from_secs(5))
        .attempts(2);
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 2);
    assert_eq!(setting(&mut conn, "lock_timeout"), "0");
    assert_eq!(setting(&mut conn, "statement_timeout"), "200ms");
}

#[test]
fn statements_that_fail_without_waiting_or_take_too_long_are_not_tried_again() {
    for up in [
        "LOCK TABLE users NOWAIT",
        "SELECT FROM users FOR UPDATE NOWAIT",
        "SET LOCAL statement_timeout = '50ms'; SELECT pg_sleep(9)",
    ] {
        let db = Database::new();
        let _holder = db.running("BEGIN; UPDATE users SET name = 'held'");
        let migrations = Migrations::new(&db, &[up]);
        let mut conn = db.connect();
        let mut harness = unwatched(&mut conn, &db);
        assert!(harness.run_pending_migrations(migrations.source()).is_err());
        assert_eq!(harness.report().migrations[0].attempts, 1, "{up}");
    }
}

#[test]
fn the_attempts_are_bounded() {
    let db = Database::new();
    let mut holder = db.connect();
    holder.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    // Timed out before the watcher has polled.
    let mut harness = unwatched(&mut conn, &db).attempts(2);
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

/// Runs a migration that is blocked at its end; returns the number of rows that it left in the
/// table `ledger`, and its report.
fn run_blocked(up: &str) -> (i64, MigrationReport) {
    let db = Database::new();
    let _holder = db.running("CREATE TABLE ledger (i int); COMMIT; BEGIN; SELECT FROM users");
    let migrations = Migrations::new(&db, &[up]);
    let mut conn = db.connect();
    let mut harness = unwatched(&mut conn, &db);
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
    let mut harness = unwatched(&mut conn, &db);
    assert!(
        harness
            .run_migration(&InRust(migrations.remove(0)))
            .is_err()
    );
    assert_eq!(harness.report().migrations[0].attempts, 1);
    assert_eq!(count(&mut db.connect(), "SELECT count(*) FROM ledger"), 1);
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
        let mut harness = unwatched(&mut conn, &db);
        assert!(harness.run_pending_migrations(migrations.source()).is_err());
        assert_eq!(harness.report().migrations[0].attempts, attempts, "{up}");
    }
}
