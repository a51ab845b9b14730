//! `pglock who`.

use diesel::connection::SimpleConnection;
use serde_json::Value;

use super::{Jam, named, pglock};
use crate::support::{Database, count, pid, wait_until};

#[test]
fn a_held_lock_of_a_conflicting_mode_is_listed() {
    let database = Database::new();
    let mut writer = named(&database, "the writer");
    writer
        .batch_execute("BEGIN; UPDATE users SET name = 'x'")
        .unwrap();
    for (mode, code) in [
        (&[][..], 0),
        (&["ShareLock"], 0),
        (&["row exclusive"], 1),
        (&["access_share"], 1),
    ] {
        let ran = pglock(&database, &[&["who", "users"], mode].concat());
        assert_eq!(ran.code, code, "{mode:?}: {ran:?}");
        assert_eq!(ran.out.contains("the writer"), code == 0, "{}", ran.out);
        assert_eq!(
            ran.err.contains("no lock conflicts with"),
            code == 1,
            "{}",
            ran.err
        );
    }
}

#[test]
fn an_awaited_lock_of_a_conflicting_mode_is_listed() {
    let jam = Jam::new();
    // The holder's lock allows reads; the awaited lock conflicts with them.
    let ran = pglock(&jam.database, &["who", "public.users", "AccessShare"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let line = ran.out.lines().nth(1).unwrap();
    assert!(
        line.contains("waiter") && line.contains("awaited"),
        "{}",
        ran.out
    );
    assert_eq!(ran.out.lines().count(), 2, "{}", ran.out);
    jam.end().unwrap();
}

#[test]
fn a_lock_on_a_partition_of_a_partition_is_listed() {
    let database = Database::new();
    let mut conn = named(&database, "reader");
    conn.batch_execute(
        "CREATE TABLE events (id int, at int) PARTITION BY RANGE (id);
         CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (1) TO (9) PARTITION BY RANGE (at);
         CREATE TABLE events_1_1 PARTITION OF events_1 FOR VALUES FROM (1) TO (9)",
    )
    .unwrap();
    conn.batch_execute("BEGIN; SELECT FROM events_1_1").unwrap();
    let ran = pglock(&database, &["who", "events"]);
    assert!(ran.out.contains("public.events_1_1"), "{ran:?}");
    let only = pglock(&database, &["who", "events", "--only"]);
    assert_eq!(only.code, 1, "{only:?}");
}

#[test]
fn a_prepared_transaction_is_listed_by_its_name() {
    let database = Database::new();
    let gid = format!("who {}", database.name);
    let mut conn = database.connect();
    conn.batch_execute(&format!("BEGIN; LOCK users; PREPARE TRANSACTION '{gid}'"))
        .unwrap();
    let table = pglock(&database, &["who", "users"]);
    let json = pglock(&database, &["who", "users", "--json"]);
    conn.batch_execute(&format!("ROLLBACK PREPARED '{gid}'"))
        .unwrap();
    assert!(table.out.contains(&format!("prepared {gid}")), "{table:?}");
    let found: Vec<Value> = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(found[0]["gid"], *gid);
    assert_eq!(found[0]["lock"]["mode"], "AccessExclusiveLock");
}

#[test]
fn an_unknown_table_or_mode_is_a_usage_error() {
    let database = Database::new();
    for (args, expected) in [
        (
            ["who", "nowhere", "share"],
            "relation `nowhere` does not exist",
        ),
        (["who", "users", "drop"], "`ACCESS EXCLUSIVE`"),
    ] {
        let ran = pglock(&database, &args);
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains(expected), "{}", ran.err);
    }
}

#[test]
fn a_parallel_query_is_one_session() {
    let database = Database::new();
    let parallel = "INSERT INTO users (name) SELECT 'x' FROM generate_series(1, 20000);
        SET min_parallel_table_scan_size = 0; SET parallel_setup_cost = 0;
        SET parallel_tuple_cost = 0; SET max_parallel_workers_per_gather = 2";
    let mut conn = database.running(parallel);
    conn.batch_execute("BEGIN").unwrap();
    let pid = pid(&mut conn);
    let slow = "SELECT count(*) FROM users WHERE pg_sleep(0.001) IS NOT NULL OR id < 0";
    let query = std::thread::spawn(move || conn.batch_execute(slow));
    let workers =
        format!("SELECT count(*) FROM pg_stat_activity WHERE leader_pid = {pid} AND pid <> {pid}");
    let mut observer = database.connect();
    wait_until("workers run", || count(&mut observer, &workers) > 0);
    let ran = pglock(&database, &["who", "users", "--json"]);
    let terminated = pglock(&database, &["--on", "users", "--terminate", "--yes"]);
    let shown: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 1, "{}", ran.out);
    assert!(
        terminated.out.starts_with(&format!("{pid} ended")),
        "{terminated:?}"
    );
    assert_eq!(terminated.out.lines().count(), 1, "{terminated:?}");
    assert!(query.join().unwrap().is_err());
}

#[test]
fn a_lock_on_a_view_meets_the_locks_on_its_tables() {
    let database = Database::new();
    database.running(
        "CREATE VIEW names AS SELECT name FROM users WHERE EXISTS (SELECT FROM posts);
         CREATE VIEW short_names AS SELECT name FROM names",
    );
    let mut holder = database.running("BEGIN; LOCK TABLE posts IN ROW EXCLUSIVE MODE");
    let held_by = pid(&mut holder).to_string();
    for view in ["names", "short_names"] {
        let ran = pglock(&database, &["who", view, "SHARE"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(ran.out.contains(&held_by), "{ran:?}");
    }
}
