//! The signal log, and the crate's own migrations.

use diesel_pglock::schema::signal_log;

use super::*;

#[test]
fn each_history_of_a_database_shares_the_signal_log() {
    let db = Database::new();
    for tenant in ["one", "other"] {
        let mut conn = db.running(&format!(
            "CREATE SCHEMA {tenant}; SET search_path = {tenant}"
        ));
        let mut harness = PrioritizedHarness::new(&mut conn, at_once(&db));
        assert_eq!(harness.run_pending_migrations(MIGRATIONS).unwrap().len(), 1);
    }
}

#[test]
fn the_signal_log_stays_when_an_application_reverts_all_of_its_migrations() {
    let db = Database::new();
    let migrations = Migrations::new(&db, &["CREATE TABLE one ()", "CREATE TABLE two ()"]);
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    harness.run_pending_migrations(migrations.source()).unwrap();
    let reverted = harness.revert_all_migrations(migrations.source()).unwrap();
    assert_eq!(reverted.len(), 2);
    let none = harness
        .revert_last_migration(migrations.source())
        .unwrap_err();
    assert!(
        matches!(none.downcast_ref(), Some(MigrationError::NoMigrationRun)),
        "{none}"
    );
    assert_eq!(applied(&db), 1, "the log's own");
    assert_eq!(harness.revert_all_migrations(MIGRATIONS).unwrap().len(), 1);
    assert_eq!(applied(&db), 0);
}

#[test]
fn signals_are_recorded_in_the_log() {
    let db = Database::new();
    let mut conn = db.connect();
    let mut holder = db.connect();
    holder
        .batch_execute("SET application_name = 'idler'")
        .unwrap();
    let victim = pid(&mut holder);
    holder
        .batch_execute("BEGIN; UPDATE users SET name = 'held'")
        .unwrap();
    let migrations = Migrations::new(&db, &["ALTER TABLE users ADD COLUMN age int"]);
    let mut harness = PrioritizedHarness::new(&mut conn, at_once(&db).audit(true));
    let error = harness
        .run_pending_migrations(migrations.source())
        .unwrap_err();
    assert!(
        matches!(error.downcast_ref(), Some(Error::NoSignalLog)),
        "{error}"
    );
    assert_eq!(applied(&db), 0);

    conn.run_pending_migrations(MIGRATIONS).unwrap();
    run(&db, &migrations, at_once(&db).audit(true));
    type Entry = (
        i32,
        String,
        String,
        Option<String>,
        Option<String>,
        Vec<String>,
    );
    let columns = (
        signal_log::pid,
        signal_log::kind,
        signal_log::outcome,
        signal_log::application_name,
        signal_log::query,
        signal_log::held,
    );
    let [(pid, kind, outcome, application, query, held)] = &signal_log::table
        .select(columns)
        .load::<Entry>(&mut conn)
        .unwrap()[..]
    else {
        panic!("one signal, one entry")
    };
    assert_eq!(
        (*pid, kind.as_str(), outcome.as_str()),
        (victim, "terminate", "sent")
    );
    assert_eq!(application.as_deref(), Some("idler"));
    assert!(query.as_ref().unwrap().starts_with("BEGIN; UPDATE users"));
    assert!(
        held.contains(&"RowExclusiveLock on public.users".to_owned()),
        "{held:?}"
    );
    conn.revert_last_migration(migrations.source()).unwrap();
}

#[test]
fn a_watcher_without_rights_on_the_log_is_refused_where_it_would_write_to_it() {
    let db = Database::new();
    let (mut conn, watcher) = (db.connect(), db.role_url());
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut run = |audit: bool| {
        let prioritizer = Prioritizer::new(watcher.clone()).audit(audit);
        conn.prioritize(&prioritizer, |_| Ok::<_, Error>(()))
    };
    let is_refused = |ran: Result<(), Error>| matches!(ran, Err(Error::NoSignalLog));
    run(false).unwrap();
    assert!(is_refused(run(true)), "no right to the schema");
    db.running(&format!("GRANT USAGE ON SCHEMA pglock TO {}_role", db.name));
    assert!(is_refused(run(true)), "no right to write");
    db.running(&format!(
        "GRANT INSERT ON pglock.signal_log TO {}_role",
        db.name
    ));
    run(true).unwrap();
}
