//! The watcher of a run, over several attempts and migrations.

use diesel_pglock::Policy;

use super::*;

#[test]
fn the_grace_period_goes_on_in_the_next_attempt() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; SELECT * FROM users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    let prioritizer =
        at_once(&db)
            .grace(Duration::from_millis(400))
            .policy(Policy::CancelThenTerminate {
                after: Duration::from_millis(300),
            });
    let mut harness = PrioritizedHarness::new(&mut conn, prioritizer)
        .lock_timeout(Duration::from_millis(250))
        .attempts(20);
    harness.run_pending_migrations(migrations.source()).unwrap();
    let migration = &harness.report().migrations[0];
    assert!(migration.attempts > 1, "{migration:?}");
    assert!(
        holder.batch_execute("SELECT 1").is_err(),
        "it was terminated"
    );
}

#[test]
fn attempts_that_follow_each_other_at_once_add_up() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; SELECT * FROM users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    // No poll falls between two attempts.
    let prioritizer = at_once(&db)
        .interval(Duration::from_millis(60))
        .grace(Duration::from_millis(400));
    let mut harness = PrioritizedHarness::new(&mut conn, prioritizer)
        .lock_timeout(Duration::from_millis(250))
        .backoff(Backoff::none())
        .attempts(10);
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert!(
        holder.batch_execute("SELECT 1").is_err(),
        "it was terminated"
    );
}

#[test]
fn a_policy_that_can_never_signal_is_refused() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()"]);
    let run = |lock_timeout: Option<Duration>| {
        let mut conn = db.connect();
        let mut harness = PrioritizedHarness::new(&mut conn, at_once(&db).grace(TICK * 100))
            .lock_timeout(lock_timeout)
            .attempts(3);
        let ran = harness.run_pending_migrations(migrations.source());
        ran.map(|versions| versions.len())
    };
    let error = run(Some(TICK * 30)).unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::NeverSignals { .. })),
        "{error}"
    );
    // Nothing was run before.
    assert_eq!(run(None).unwrap(), 1);
}

#[test]
fn a_run_has_one_watcher() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE one ()",
        "CREATE TABLE two ()",
        "CREATE TABLE three ()",
    ];
    let migrations = Migrations::new(&db, &ups);
    let (url, connected) = (db.url.clone(), Arc::new(Mutex::new(0)));
    let connects = Arc::clone(&connected);
    let prioritizer = Prioritizer::new(move || {
        *connects.lock().unwrap() += 1;
        PgConnection::establish(&url)
    });
    let mut conn = db.connect();
    PrioritizedHarness::new(&mut conn, prioritizer)
        .run_pending_migrations(migrations.source())
        .unwrap();
    assert_eq!(*connected.lock().unwrap(), 1);
}
