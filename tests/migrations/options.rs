//! The options of a harness, and exceptions for single migrations.

use super::*;

const SEE: &str = "INSERT INTO seen SELECT current_setting('lock_timeout'),
    current_setting('statement_timeout')";

/// Returns what the migrations have seen: how many times this lock and statement timeout.
fn seen(db: &Database, lock: &str, statement: &str) -> i64 {
    let rows = format!("SELECT count(*) FROM seen WHERE l = '{lock}' AND s = '{statement}'");
    count(&mut db.connect(), &rows)
}

#[test]
fn a_migration_may_have_limits_of_its_own() {
    let db = Database::new();
    db.running("CREATE TABLE seen (l text, s text)");
    let outside = format!("-- concurrently\n{SEE}");
    let migrations = Migrations::new(&db, &[SEE, SEE, &outside, &outside]);
    let mut conn = db.running("SET statement_timeout = '9s'");
    let second = Duration::from_secs(1);
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .lock_timeout(3 * second)
        .statement_timeout(4 * second)
        .for_migration("2026-01-02-000000_step", |it| it.lock_timeout(2 * second))
        .for_migration("20260102000000", |it| it.statement_timeout(None))
        .for_migration("2026-01-04-000000", |it| it.lock_timeout(second));
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert!(harness.report().warnings.is_empty());
    let expected = [("3s", "4s"), ("2s", "0"), ("0", "9s"), ("1s", "9s")];
    for (lock, statement) in expected {
        assert_eq!(seen(&db, lock, statement), 1, "{lock} {statement}");
    }
    assert_eq!(setting(&mut conn, "statement_timeout"), "9s");
    assert_eq!(setting(&mut conn, "lock_timeout"), "0");
}

#[test]
fn a_statement_that_takes_too_long_ends_and_is_not_tried_again() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["SELECT pg_sleep(50)"]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db))
        .statement_timeout(Duration::from_millis(50));
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 1);
}

#[test]
fn a_migration_may_have_attempts_of_its_own() {
    let db = Database::new();
    let _holder = db.running("BEGIN; LOCK TABLE users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    let mut harness =
        unwatched(&mut conn, &db).for_migration("2026-01-01-000000", |it| it.attempts(1));
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 1);
}

#[test]
fn outside_a_transaction_one_statement_may_be_tried_again() {
    let db = Database::new();
    let _holder = db.running("BEGIN; LOCK TABLE users");
    let ups = ["-- concurrently\nALTER TABLE users ADD COLUMN age int"];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    let timeout = Duration::from_millis(50);
    let mut harness = unwatched(&mut conn, &db).for_migration("2026-01-01-000000", |it| {
        it.attempts(2).lock_timeout(timeout)
    });
    assert!(harness.run_pending_migrations(migrations.source()).is_err());
    assert_eq!(harness.report().migrations[0].attempts, 2);
}

#[test]
fn options_for_no_migration_are_reported() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["SELECT 1"]);
    let mut conn = db.connect();
    let mut harness = unwatched(&mut conn, &db).for_migration("2026-01-09", |it| it.attempts(1));
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert_eq!(
        harness.report().warnings,
        ["there are options for version `20260109`, which no migration has"]
    );
}
