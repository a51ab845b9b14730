//! Migrations inside the caller's transaction.

use super::*;

/// Returns the number of tables with this name.
fn tables(conn: &mut PgConnection, name: &str) -> i64 {
    count(
        conn,
        &format!("SELECT count(*) FROM pg_class WHERE relname = '{name}'"),
    )
}

#[test]
fn migrations_and_the_migration_lock_end_with_the_callers_transaction() {
    let db = Database::new();
    let ups = ["CREATE TABLE one ()", "CREATE TABLE two ()"];
    let migrations = Migrations::new(&db, &ups);
    let mut other = db.connect();
    let mut conn = db.connect();
    for commit in [false, true] {
        let result = conn.transaction(|conn| {
            let mut harness = PrioritizedHarness::new(conn, patient(&db)).within_transaction();
            let ran = harness
                .run_pending_migrations(migrations.source())
                .unwrap()
                .len();
            assert_eq!(ran, 2);
            assert!(harness.report().warnings.is_empty());
            let mut harness = PrioritizedHarness::new(&mut other, patient(&db))
                .wait_for_instances(Duration::from_millis(1));
            let error = harness.run_pending_migrations(migrations.source());
            let error = error.unwrap_err().downcast::<Error>().unwrap();
            assert!(error.is_not_acquired(), "{error}");
            match commit {
                true => Ok(()),
                false => Err(diesel::result::Error::RollbackTransaction),
            }
        });
        assert_eq!(result.is_ok(), commit);
        assert_eq!(tables(&mut other, "two"), i64::from(commit));
        assert_eq!(advisory_locks(&db), 0);
        assert_eq!(setting(&mut conn, "lock_timeout"), "0");
    }
    assert_eq!(applied(&db), 2);
}

#[test]
fn a_lock_timeout_is_tried_again_and_leaves_the_transaction_usable() {
    let db = Database::new();
    let _holder = db.running("BEGIN; LOCK TABLE users");
    let ups = [
        "CREATE TABLE one ()",
        "ALTER TABLE users ADD COLUMN age int",
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.running("SET statement_timeout = '9s'");
    conn.transaction(|conn| {
        let mut harness = unwatched(conn, &db).within_transaction().attempts(2);
        assert!(harness.run_pending_migrations(migrations.source()).is_err());
        let report = harness.report();
        let attempts: Vec<_> = report.migrations.iter().map(|it| it.attempts).collect();
        assert_eq!(attempts, [1, 2]);
        assert_eq!(tables(conn, "one"), 1);
        diesel::QueryResult::Ok(())
    })
    .unwrap();
    assert_eq!(applied(&db), 1);
}

#[test]
fn a_locked_history_leaves_the_transaction_usable() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut holder = db.connect();
    holder.setup().unwrap();
    holder
        .batch_execute("BEGIN; LOCK TABLE __diesel_schema_migrations")
        .unwrap();
    let mut conn = db.connect();
    conn.transaction(|conn| {
        let mut harness = unwatched(conn, &db).within_transaction().attempts(1);
        assert!(harness.applied_migrations().is_err());
        let error = harness.run_pending_migrations(migrations.source());
        let error = error.unwrap_err().downcast::<Error>().unwrap();
        assert!(matches!(*error, Error::History { .. }), "{error}");
        assert_eq!(tables(conn, "users"), 1);
        diesel::QueryResult::Ok(())
    })
    .unwrap();
}

#[test]
fn a_migration_that_ends_the_callers_transaction_is_not_tried_again() {
    let db = Database::new();
    let _holder = db.running("BEGIN; LOCK TABLE users");
    let migrations = Migrations::new(&db, &["COMMIT; BEGIN; LOCK TABLE users"]);
    // The harness's own limit has ended with the transaction.
    let mut conn = db.running("SET lock_timeout = '50ms'");
    let ended = conn.transaction(|conn| {
        let mut harness = unwatched(conn, &db).within_transaction();
        let ran = harness
            .run_pending_migrations(migrations.source())
            .map(drop);
        assert_eq!(harness.report().migrations[0].attempts, 1);
        ran
    });
    assert!(ended.is_err());
}

#[test]
fn outside_a_transaction_there_is_none_to_migrate_in() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db)).within_transaction();
    let error = harness.run_pending_migrations(migrations.source());
    let error = error.unwrap_err().downcast::<Error>().unwrap();
    assert!(matches!(*error, Error::NotInTransaction), "{error}");
}
