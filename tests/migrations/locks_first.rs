//! Locks that a migration takes before its own statements.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel_pglock::Policy;
use diesel_pglock::TableLockMode::AccessExclusive;

use super::*;

const BOTH: [&str; 2] = ["users", "posts"];

/// Returns the number of locks of a session on a table.
fn locks(observer: &mut PgConnection, pid: i32, table: &str, granted: bool) -> i64 {
    count(
        observer,
        &format!(
            "SELECT count(*) FROM pg_locks WHERE pid = {pid} AND granted = {granted}
             AND relation = '{table}'::regclass"
        ),
    )
}

#[test]
fn a_migration_that_waits_for_one_table_holds_no_other() {
    let db = Database::new();
    let mut observer = db.connect();
    let mut holder = db.running("BEGIN; SELECT FROM posts");
    let isolated = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; CREATE TABLE one ()";
    let migrations = Migrations::new(&db, &[isolated]);
    thread::scope(|scope| {
        let mut conn = db.connect();
        let migrating = pid(&mut conn);
        let (db, migrations) = (&db, &migrations);
        let run = scope.spawn(move || {
            let mut harness = PrioritizedHarness::new(&mut conn, patient(db))
                .lock_timeout(None)
                .lock_first::<users::table>(AccessExclusive)
                .lock_first_named(["public.posts"], AccessExclusive);
            harness.run_pending_migrations(migrations.source()).unwrap();
            harness.report()
        });
        wait_until("it waits for the locked table", || {
            locks(&mut observer, migrating, "posts", false) == 1
        });
        assert_eq!(locks(&mut observer, migrating, "users", true), 0);
        holder.batch_execute("COMMIT").unwrap();
        let report = run.join().unwrap();
        let taken = report.migrations[0].locks.iter();
        let tables: Vec<_> = taken
            .map(|lock| (&*lock.relation.name, lock.mode))
            .collect();
        for table in BOTH {
            assert!(tables.contains(&(table, AccessExclusive)), "{tables:?}");
        }
    });
}

#[test]
fn a_session_that_holds_one_of_the_tables_is_terminated() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; SELECT FROM posts");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    let mut harness =
        PrioritizedHarness::new(&mut conn, at_once(&db)).lock_first_named(BOTH, AccessExclusive);
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert_eq!(harness.report().migrations[0].victims().count(), 1);
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn locks_that_are_not_free_in_time_are_tried_again_and_others_fail_at_once() {
    for (table, attempts) in [("users", 2), ("nowhere", 1)] {
        let db = Database::new();
        let _holder = db.running("BEGIN; LOCK TABLE users");
        let migrations = Migrations::new(&db, &["SELECT 1"]);
        let mut conn = db.connect();
        let mut harness = unwatched(&mut conn, &db)
            .attempts(2)
            .lock_first_named(["posts", table], AccessExclusive);
        assert!(harness.run_pending_migrations(migrations.source()).is_err());
        assert_eq!(harness.report().migrations[0].attempts, attempts, "{table}");
    }
}

#[test]
fn outside_a_transaction_no_lock_comes_first() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["-- concurrently\nSELECT 1"]);
    let mut conn = db.connect();
    let mut harness = unwatched(&mut conn, &db).for_migration("2026-01-01-000000", |it| {
        it.lock_first_named(BOTH, AccessExclusive)
    });
    let error = harness.run_pending_migrations(migrations.source());
    let error = error.unwrap_err().downcast::<Error>().unwrap();
    assert!(matches!(*error, Error::NotInTransaction), "{error}");
    drop(harness);
    let mut harness = unwatched(&mut conn, &db).lock_first_named(BOTH, AccessExclusive);
    harness.run_pending_migrations(migrations.source()).unwrap();
}

/// Reads the tables in the opposite order until `stop`; returns the number of transactions.
fn read_in_opposite_order(db: &Database, stop: &AtomicBool) -> u32 {
    let mut conn = db.running("SET deadlock_timeout = '60s'");
    let mut transactions = 0;
    while !stop.load(Ordering::SeqCst) {
        conn.batch_execute(
            "BEGIN; SELECT FROM posts; SELECT pg_sleep(0.002); SELECT FROM users; COMMIT",
        )
        .unwrap();
        transactions += 1;
    }
    transactions
}

/// Stops the readers, even if the test fails: the scope waits for them.
struct Stop<'s>(&'s AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// By hand: `PGLOCK_DEADLOCK_RUNS=200`.
#[test]
fn locks_taken_first_meet_no_deadlock() {
    let runs = std::env::var("PGLOCK_DEADLOCK_RUNS").map_or(15, |runs| runs.parse().unwrap());
    let db = Database::new();
    db.running(&format!(
        "ALTER DATABASE {} SET deadlock_timeout = '20ms'",
        db.name
    ));
    let migrations = Migrations::new(&db, &["LOCK TABLE users; LOCK TABLE posts"]);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(); 2].map(|()| scope.spawn(|| read_in_opposite_order(&db, &stop)));
        let stopping = Stop(&stop);
        let mut conn = db.connect();
        for run in 0..runs {
            let mut harness = PrioritizedHarness::new(&mut conn, patient(&db).interval(LONG))
                .attempts(1)
                .lock_first_named(BOTH, AccessExclusive);
            let ran = harness.run_pending_migrations(migrations.source());
            assert_eq!(ran.unwrap().len(), 1, "run {run}");
            harness.revert_all_migrations(migrations.source()).unwrap();
        }
        drop(stopping);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(count(&mut db.connect(), deadlocks), 0);
}

#[test]
fn after_a_deadlock_the_table_that_was_waited_for_is_locked_first() {
    let db = Database::new();
    let (mut other, mut observer) = (db.connect(), db.connect());
    observer
        .batch_execute(&format!(
            "ALTER DATABASE {} SET deadlock_timeout = '1s'",
            db.name
        ))
        .unwrap();
    let migrations = Migrations::new(&db, &["LOCK TABLE posts; LOCK TABLE users"]);
    other
        .batch_execute("SET deadlock_timeout = '60s'; BEGIN; LOCK TABLE users")
        .unwrap();
    thread::scope(|scope| {
        let mut conn = db.connect();
        let migrating = pid(&mut conn);
        let (db, migrations) = (&db, &migrations);
        let run = scope.spawn(move || {
            let mut harness =
                PrioritizedHarness::new(&mut conn, at_once(db).policy(Policy::Observe))
                    .lock_timeout(None)
                    .backoff(Backoff::none());
            harness.run_pending_migrations(migrations.source()).unwrap();
            harness.report()
        });
        wait_until("it waits", || {
            locks(&mut observer, migrating, "users", false) == 1
        });
        other.batch_execute("LOCK TABLE posts").unwrap();
        // In its own order it would wait for the other table.
        wait_until("it waits for the same table again", || {
            locks(&mut observer, migrating, "users", false) == 1
        });
        assert_eq!(locks(&mut observer, migrating, "posts", true), 0);
        other.batch_execute("COMMIT").unwrap();
        assert_eq!(run.join().unwrap().migrations[0].attempts, 2);
    });
}
