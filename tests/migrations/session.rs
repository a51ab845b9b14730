//! Migrations that change their session: the results are those of Diesel's own harness.

use super::*;

/// Lists the results of a directory of migrations: tables by schema, and versions by history.
fn left_behind(db: &Database) -> Vec<String> {
    let mut conn = db.connect();
    let names = |conn: &mut PgConnection, query: &str| {
        let names = diesel::dsl::sql::<diesel::sql_types::Array<diesel::sql_types::Text>>(query);
        diesel::select(names)
            .get_result::<Vec<String>>(conn)
            .unwrap()
    };
    let tables =
        "(SELECT coalesce(array_agg(oid::regclass::text ORDER BY oid::regclass::text), '{}') FROM
        (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE relkind = 'r' AND nspname !~ '^pg_|^information_schema') AS c)";
    conn.batch_execute("SET search_path = ''").unwrap();
    let mut left = names(&mut conn, tables);
    for history in left.clone() {
        if history.ends_with("__diesel_schema_migrations") {
            let query =
                format!("(SELECT array_agg(version::text ORDER BY version) FROM {history})");
            left.extend(names(&mut conn, &query));
        } else {
            let rows = count(&mut conn, &format!("SELECT count(*) FROM {history}"));
            left.push(format!("{rows} rows in {history}"));
        }
    }
    left
}

/// Runs the migrations with Diesel's own harness, and with this crate's on another database.
///
/// The results and the settings of the session are the same, and a fresh session has nothing to run.
fn does_as_diesel_does(ups: &[&str]) {
    let (dbs, settings) = ([Database::new(), Database::new()], ["role", "search_path"]);
    let migrations = Migrations::new(&dbs[0], ups);
    let [mut diesels, mut ours] = dbs
        .each_ref()
        .map(|db| db.running("CREATE TABLE ledger (i int)"));
    let expected = diesels.run_pending_migrations(migrations.source());
    let expected = expected.map(|versions| versions.len());
    let mut harness = PrioritizedHarness::new(&mut ours, patient(&dbs[1]));
    let done = harness.run_pending_migrations(migrations.source());
    let done = done.map(|versions| versions.len());
    assert_eq!(done.unwrap(), expected.unwrap(), "{ups:?}");
    assert_eq!(
        harness
            .run_pending_migrations(migrations.source())
            .unwrap()
            .len(),
        0,
        "{ups:?}"
    );
    assert_eq!(left_behind(&dbs[1]), left_behind(&dbs[0]), "{ups:?}");
    for name in settings {
        assert_eq!(
            setting(&mut ours, name),
            setting(&mut diesels, name),
            "{ups:?}"
        );
    }
    assert_eq!(
        run(&dbs[1], &migrations, patient(&dbs[1])).migrations.len(),
        0,
        "{ups:?}"
    );
    assert_eq!(left_behind(&dbs[1]), left_behind(&dbs[0]), "{ups:?}");
}

#[test]
fn a_migration_may_change_the_search_path() {
    let billing =
        "CREATE SCHEMA billing; SET search_path = billing, public; CREATE TABLE fees (amount int)";
    does_as_diesel_does(&[billing, "INSERT INTO billing.fees VALUES (100)", RECORD]);
}

#[test]
fn a_migration_may_change_the_settings_of_its_session() {
    for up in [
        "RESET ALL",
        "SET session_replication_role = replica",
        "SET client_encoding = 'LATIN1'; CREATE TABLE \"price\" (i int)",
        "SET standard_conforming_strings = off",
        "SET lock_timeout = '3s'",
        "SET default_transaction_isolation = 'serializable'",
        "-- concurrently\nDISCARD ALL",
        "-- concurrently\nDEALLOCATE ALL",
        "DEALLOCATE ALL",
        "SELECT pg_advisory_unlock_all()",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    ] {
        does_as_diesel_does(&[up, RECORD, RECORD]);
    }
}

#[test]
fn a_version_is_recorded_as_it_is_written() {
    let db = Database::new();
    for (i, up) in [
        "SELECT 1",
        "SET standard_conforming_strings = off",
        "SELECT 1",
        "SET client_encoding = 'LATIN1'",
        "SELECT 1",
        "-- concurrently\nSELECT 1",
    ]
    .iter()
    .enumerate()
    {
        let version = format!(r"{i}it's\\n\' (é) $1");
        let migrations = Migrations::new(&db, &[up]);
        let folder = migrations.0.join("2026-01-01-000000_step");
        std::fs::rename(folder, migrations.0.join(format!("{version}_step"))).unwrap();
        let mut conn = db.connect();
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
        harness.run_pending_migrations(migrations.source()).unwrap();
        let mut conn = db.connect(); // a session that reads the version as it is
        let recorded = conn.applied_migrations().unwrap();
        assert_eq!(recorded, [version.into()], "{up}");
        let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
        harness.revert_all_migrations(migrations.source()).unwrap();
        assert_eq!(applied(&db), 0, "{up}");
    }
}

#[test]
fn the_locks_are_reported_after_a_migration_has_deallocated_all_statements() {
    let db = Database::new();
    let ups = [
        "SELECT 1",
        "DEALLOCATE ALL; ALTER TABLE users ADD COLUMN age int",
        "ALTER TABLE posts ADD COLUMN age int",
    ];
    let report = run(&db, &Migrations::new(&db, &ups), patient(&db));
    let locks = report.migrations.iter().map(|it| it.locks.len());
    assert_eq!(locks.collect::<Vec<_>>(), [0, 1, 1], "{report:?}");
    assert_eq!(report.warnings.len(), 0, "{report:?}");
}

#[test]
fn a_migration_may_discard_the_cached_statements() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE ledger (i int)",
        "-- concurrently\nDISCARD ALL",
        RECORD,
    ];
    let migrations = Migrations::new(&db, &ups);
    let mut conn = db.connect();
    let mut harness = PrioritizedHarness::new(&mut conn, patient(&db));
    harness.run_pending_migrations(migrations.source()).unwrap();
    assert_eq!(harness.applied_migrations().unwrap().len(), 3);
    assert_eq!(
        harness.report().warnings.len(),
        1,
        "{:?}",
        harness.report().warnings
    );
    harness.revert_all_migrations(migrations.source()).unwrap();
    assert_eq!((applied(&db), advisory_locks(&db)), (0, 0));
}

#[test]
fn a_migration_may_keep_another_role() {
    let db = Database::new();
    let role = format!("{}_owner", db.name);
    db.running(&format!(
        "CREATE ROLE {role}; CREATE TABLE ledger (i int); GRANT ALL ON ledger TO {role}"
    ));
    db.connect().run_pending_migrations(MIGRATIONS).unwrap();
    db.running(&format!(
        "GRANT SELECT, INSERT ON __diesel_schema_migrations TO {role}"
    ));
    let ups = [&*format!("SET ROLE {role}"), RECORD, RECORD];
    assert_eq!(
        run(&db, &Migrations::new(&db, &ups), patient(&db))
            .migrations
            .len(),
        3
    );
    assert_eq!(applied(&db), 5);
}

#[test]
fn a_table_that_the_clients_encoding_cannot_name_is_in_the_report() {
    let db = Database::new();
    let ups = [
        "CREATE TABLE \"цены\" (i int)",
        "DO $$ BEGIN EXECUTE (SELECT 'LOCK ' || quote_ident(relname) FROM pg_class
         WHERE relkind = 'r' AND relname > 'z'); END $$; SET client_encoding = 'LATIN1'",
    ];
    let report = run(&db, &Migrations::new(&db, &ups), patient(&db));
    assert_eq!(report.migrations[1].locks[0].relation.name, "цены");
    assert_eq!((applied(&db), report.warnings.len()), (2, 0));
}
