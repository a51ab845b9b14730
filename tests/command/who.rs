//! `pglock who`.

use diesel::connection::SimpleConnection;
use serde_json::Value;

use super::{Jam, named, pglock};
use crate::support::Database;

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
    assert_eq!(found[0]["prepared"], *gid);
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
