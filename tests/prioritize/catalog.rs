//! The watcher while a session locks a catalog.

use super::*;

/// Waits for an advisory lock while a session has locked a catalog. A statement that needs
/// the catalog would wait for that session too.
fn wait_beside_a_locked_catalog(catalog: &str, prioritizer: &Prioritizer<String>, db: &Database) {
    let (mut conn, mut locker) = (db.running("SET lock_timeout = '2s'"), db.connect());
    let ran = conn.prioritize(prioritizer, |conn| {
        locker.batch_execute(&format!("BEGIN; LOCK TABLE pg_catalog.{catalog}"))?;
        conn.batch_execute("SELECT pg_catalog.pg_advisory_lock(1)")
    });
    locker.batch_execute("COMMIT").expect("it blocks no lock");
    let report = prioritizer.report();
    assert_eq!(ran.is_ok(), report.victims().next().is_some(), "{report}");
}

#[test]
fn a_blocker_is_terminated_while_a_catalog_is_locked() {
    for catalog in ["pg_class", "pg_attribute", "pg_namespace"] {
        let db = Database::new();
        let mut holder = db.running("SELECT pg_advisory_lock(1)");
        let victim = pid(&mut holder);
        let prioritizer = at_once(&db);
        wait_beside_a_locked_catalog(catalog, &prioritizer, &db);
        let report = prioritizer.report();
        let [blocker] = &report.blockers[..] else {
            panic!("{catalog}: {report}")
        };
        assert_eq!(blocker.pid, Some(victim), "{catalog}");
        assert!(blocker.is_victim(), "{catalog}: {report}");
        assert_eq!(blocker.lock.advisory_key, Some(1.into()), "{report}");
    }
}

#[test]
fn a_session_is_spared_by_its_names_while_a_catalog_is_locked() {
    let db = Database::new();
    let holder = "SET application_name = 'billing'; SELECT pg_advisory_lock(1)";
    let mut holder = db.running(holder);
    let name = db.name.clone();
    let prioritizer = at_once(&db).spare(move |it| {
        let names = [&it.user, &it.database, &it.application_name];
        names.map(|it| it.as_deref()) == [Some("postgres"), Some(&*name), Some("billing")]
    });
    wait_beside_a_locked_catalog("pg_class", &prioritizer, &db);
    let report = prioritizer.report();
    assert_eq!(report.blockers.len(), 1, "{report}");
    let blocker = &report.blockers[0];
    assert_eq!(blocker.protection, Some(Protection::Chosen), "{report}");
    let query = blocker.activity.as_ref().unwrap().query.as_deref();
    assert!(
        query.is_some_and(|it| it.contains("pg_advisory_lock")),
        "{report}"
    );
    assert!(
        !report.errors.is_empty(),
        "the names could not be read: {report}"
    );
    holder.batch_execute("SELECT 1").unwrap();
}
