//! Runs: migrations applied, reverted, blocked and refused.

use super::*;

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
fn of_migrations_with_one_version_the_last_is_run_and_the_others_are_named() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let other = migrations.0.join("2026-01-01-000000_another");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(other.join("up.sql"), "CREATE TABLE another ()").unwrap();
    let report = run(&db, &migrations, patient(&db));
    assert_eq!(report.migrations[0].name, "2026-01-01-000000_step");
    let expected = "`2026-01-01-000000_step` has the version of `2026-01-01-000000_another`: \
                    the history can record only one of them";
    assert_eq!(report.warnings, [expected]);
    // Nothing is pending, so there is nothing to warn of.
    assert!(run(&db, &migrations, patient(&db)).warnings.is_empty());
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
fn a_further_migration_is_six_messages() {
    let db = Database::new();
    let log = "SET log_statement = 'all'; SET statement_timeout = '59s'";
    let sent = [1, 3].map(|migrations| {
        let ups = vec!["SELECT 1"; migrations];
        let mut conn = db.running(&format!("{log}; DROP TABLE IF EXISTS {HISTORY}"));
        let pid = pid(&mut conn);
        let before = logged(pid);
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
        let migrations = Migrations::new(&db, &ups);
        harness.run_pending_migrations(migrations.source()).unwrap();
        logged(pid) - before
    });
    // Diesel's own four, and two to keep apart and read the locks.
    assert_eq!(sent[1] - sent[0], 2 * 6);
}

#[test]
fn a_lock_timeout_that_a_migration_sets_stays_in_force_after_the_run() {
    let db = Database::new();
    let mut conn = db.running("SET lock_timeout = '7s'");
    for (up, after) in [
        ("SELECT 1", "7s"),
        ("SET LOCAL lock_timeout = '8s'", "7s"),
        ("SET lock_timeout = '9s'", "9s"),
        ("RESET lock_timeout", "0"),
    ] {
        db.running(&format!("DROP TABLE IF EXISTS {HISTORY}"));
        let migrations = Migrations::new(&db, &[up, "SELECT 1", "-- concurrently\nSELECT 1"]);
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
        harness.run_pending_migrations(migrations.source()).unwrap();
        assert_eq!(setting(&mut conn, "lock_timeout"), after, "{up}");
    }
}

const HISTORY: &str = "__diesel_schema_migrations";
