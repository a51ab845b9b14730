//! Blockers that cannot be signalled: a migration does not queue behind them again and again.

use super::*;

const TIMEOUT: Duration = Duration::from_secs(1);

fn harness<'c>(
    conn: &'c mut PgConnection,
    prioritizer: Prioritizer<String>,
) -> PrioritizedHarness<'c, PgConnection, String> {
    PrioritizedHarness::new(conn, prioritizer)
        .lock_timeout(TIMEOUT)
        .backoff(Backoff::none())
}

/// Runs a migration that fails; returns the blockers in its error, and its report.
fn fail(db: &Database, prioritizer: Prioritizer<String>) -> (Vec<String>, MigrationReport) {
    let migrations = Migrations::new(db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut conn = db.connect();
    let mut harness = harness(&mut conn, prioritizer);
    let error = harness.run_pending_migrations(migrations.source());
    match error.map_err(Error::from).unwrap_err() {
        Error::Unsignallable { blockers, .. } => (blockers, harness.report().migrations.remove(0)),
        other => panic!("{other}"),
    }
}

/// Each but the first attempt is short.
fn assert_queued_once(report: &MigrationReport) {
    assert_eq!(report.attempts, 3);
    assert!(report.waited >= TIMEOUT / 2, "{report}");
    assert!(report.waited < TIMEOUT * 2, "{report}");
    assert!(report.duration > TIMEOUT * 3, "it waited outside: {report}");
}

#[test]
fn a_migration_queues_once_behind_a_prepared_transaction() {
    let db = Database::new();
    let prepare = "BEGIN; UPDATE users SET name = 'x'; PREPARE TRANSACTION";
    db.running(&format!("{prepare} '{}'", db.name));
    let (blockers, report) = fail(&db, at_once(&db));
    db.running(&format!("ROLLBACK PREPARED '{}'", db.name));
    assert_eq!(blockers.len(), 1, "{blockers:?}");
    let expected = format!("prepared transaction '{}'", db.name);
    assert!(blockers[0].starts_with(&expected), "{blockers:?}");
    assert_queued_once(&report);
}

#[test]
fn a_migration_queues_once_behind_a_session_of_another_role() {
    let db = Database::new();
    let _holder = db.running("BEGIN; SELECT * FROM users");
    let prioritizer = Prioritizer::new(db.role_url())
        .interval(TICK)
        .grace(Duration::ZERO);
    let (blockers, report) = fail(&db, prioritizer);
    assert!(blockers[0].contains("terminate denied"), "{blockers:?}");
    assert_queued_once(&report);
}

#[test]
fn other_sessions_pass_while_a_migration_waits_for_a_spared_one() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; SELECT * FROM users");
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let (mut conn, (sent, retrying)) = (db.connect(), channel());
    thread::scope(|scope| {
        let migrating = scope.spawn(|| {
            let mut harness = harness(&mut conn, patient(&db))
                .lock_timeout(LONG / 20)
                .attempts(2)
                .on_event(move |event| {
                    if let MigrationEvent::Retrying { error, .. } = event {
                        sent.send(error.clone()).unwrap();
                    }
                });
            let ran = harness.run_pending_migrations(migrations.source());
            (ran.map(|_| ()), harness.report())
        });
        let error = retrying.recv().unwrap();
        assert!(error.contains(": spared, "), "{error}");
        // A session that had to queue would fail.
        db.running("SET lock_timeout = '1s'; SELECT * FROM users");
        holder.batch_execute("COMMIT").unwrap();
        let (ran, report) = migrating.join().unwrap();
        ran.unwrap();
        assert_eq!(report.migrations[0].attempts, 2);
    });
}
