//! The signal log, and the crate's own migrations.

use diesel_pglock::SignalLog;
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
        assert_eq!(harness.run_pending_migrations(MIGRATIONS).unwrap().len(), 2);
    }
}

#[test]
fn the_log_is_dropped_with_the_last_history_that_has_it() {
    let db = Database::new();
    let mut tenants = ["one", "other"].map(|tenant| {
        let create = format!("CREATE SCHEMA {tenant}; SET search_path = {tenant}");
        let mut conn = db.running(&create);
        conn.run_pending_migrations(MIGRATIONS).unwrap();
        conn
    });
    let columns = "SELECT count(*) FROM information_schema.columns
                   WHERE table_schema = 'pglock' AND table_name = 'signal_log'";
    let all = count(&mut db.connect(), columns);
    tenants[0].revert_all_migrations(MIGRATIONS).unwrap();
    assert_eq!(count(&mut db.connect(), columns), all);
    tenants[1].revert_last_migration(MIGRATIONS).unwrap();
    assert_eq!(count(&mut db.connect(), columns), all - 6);
    tenants[1].revert_last_migration(MIGRATIONS).unwrap();
    assert_eq!(count(&mut db.connect(), columns), 0);
}

#[test]
fn a_log_without_the_later_columns_goes_on_working() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    conn.revert_last_migration(MIGRATIONS).unwrap();
    let _holder = db.running("BEGIN; UPDATE users SET name = 'held'");
    let prioritizer = at_once(&db).audit(true);
    let ran = conn.prioritize(&prioritizer, |conn| conn.batch_execute("LOCK TABLE users"));
    assert!(ran.is_err(), "no transaction");
    conn.prioritize(&prioritizer, |conn| {
        conn.batch_execute("ALTER TABLE users ADD COLUMN age int")
    })
    .unwrap();
    assert!(prioritizer.report().errors.is_empty());
    assert_eq!(
        count(&mut conn, "SELECT count(*) FROM pglock.signal_log"),
        1
    );
}

#[test]
fn an_entry_tells_what_was_awaited_and_by_which_work() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut holder = db.running("BEGIN; UPDATE users SET name = 'held'");
    let holding = pid(&mut holder);
    let migrations = Migrations::new(
        &db,
        &["ALTER TABLE users ADD COLUMN password text DEFAULT 'geheim'"],
    );
    run(&db, &migrations, at_once(&db).audit(true));
    let entries = SignalLog::query().load::<SignalLog>(&mut conn).unwrap();
    let [entry] = &entries[..] else {
        panic!("{entries:?}")
    };
    assert_eq!(entry.pid, holding);
    assert_eq!(
        entry.awaited.as_deref(),
        Some("AccessExclusiveLock on relation public.users")
    );
    assert_eq!(entry.wait_path, Some(vec![entry.blocked_pid, holding]));
    assert_eq!(entry.work.as_deref(), Some("2026-01-01-000000_step"));
    assert_eq!(entry.database.as_deref(), Some(db.name.as_str()));
    assert!(
        entry
            .blocked_query
            .as_deref()
            .unwrap()
            .starts_with("ALTER TABLE users")
    );
    assert!(!entry.sender_application_name.starts_with("pglock watcher"));

    let delete = |age| SignalLog::retention(Duration::from_secs(age));
    assert_eq!(delete(3600).execute(&mut conn).unwrap(), 0);
    assert_eq!(delete(0).execute(&mut conn).unwrap(), 1);
}

#[test]
fn a_read_only_watcher_is_refused_where_it_would_write_to_the_log() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut run = |audit| {
        let url = db.url.clone();
        let read_only = move || {
            let mut watcher = PgConnection::establish(&url)?;
            let set = "SET default_transaction_read_only = on";
            watcher.batch_execute(set).unwrap();
            Ok(watcher)
        };
        let prioritizer = Prioritizer::new(read_only).audit(audit);
        conn.prioritize(&prioritizer, |_| Ok::<_, Error>(()))
    };
    run(false).unwrap();
    let error = run(true).unwrap_err();
    assert!(error.to_string().contains("read-only"), "{error}");
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
    assert_eq!(applied(&db), 2, "the log's own");
    assert_eq!(harness.revert_all_migrations(MIGRATIONS).unwrap().len(), 2);
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
