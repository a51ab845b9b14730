//! Locks that are no table's: each is shown by its meaning in lists, trees and JSON.

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use serde_json::Value;

use super::pglock;
use crate::support::{Database, HOLD_INSERTIONS, INSERTION, Waiting, number};

/// A wait for a lock, and what the command shows of it.
struct Shown {
    list: String,
    row: Value,
    tree: String,
    lock: Value,
}

impl Shown {
    #[track_caller]
    fn of(database: &Database, waiter: i32) -> Self {
        let pid = waiter.to_string();
        let list = ["-f", "granted=false", &pid];
        let rows = pglock(database, &[&["--json"], &list[..]].concat()).out;
        let rows: Vec<Value> = serde_json::from_str(&rows).unwrap();
        let tree = pglock(database, &["tree", "--json", &pid]).out;
        let tree: Value = serde_json::from_str(&tree).unwrap();
        let mut nodes = tree["nodes"].as_array().unwrap().iter();
        let node = nodes.find(|node| node["pid"] == waiter).unwrap();
        Self {
            list: pglock(database, &list).out,
            row: rows[0].clone(),
            tree: pglock(database, &["tree", &pid]).out,
            lock: node["wait"]["lock"].clone(),
        }
    }

    /// Fails unless the list, the tree and the JSON describe the lock so.
    #[track_caller]
    fn is(&self, lock_type: &str, target: &str) {
        assert!(self.list.contains(target), "{}", self.list);
        assert!(
            self.tree.contains(&format!("on {target}:")),
            "{}",
            self.tree
        );
        assert_eq!(self.row["target"], target);
        assert_eq!(self.row["lock_type"], lock_type);
        assert_eq!(self.lock["lock_type"], lock_type);
    }
}

/// Returns the transaction id of a session that has written.
fn transaction_of(database: &Database, pid: i32) -> i64 {
    let xid = format!("SELECT backend_xid::text::bigint FROM pg_stat_activity WHERE pid = {pid}");
    let query = diesel::select(number(&xid));
    diesel::RunQueryDsl::get_result(query, &mut database.connect()).unwrap()
}

#[test]
fn a_speculative_insertion_is_shown_with_its_transaction() {
    let database = Database::new();
    let mut holder = database.running(HOLD_INSERTIONS);
    let inserting = Waiting::on(&database, INSERTION);
    let waiting = Waiting::on(&database, INSERTION);
    let xid = transaction_of(&database, inserting.pid);
    let shown = Shown::of(&database, waiting.pid);
    let listed = pglock(
        &database,
        &["-f", "type=spectoken", "--columns", "pid,granted"],
    );
    holder
        .batch_execute("SELECT pg_advisory_unlock(77)")
        .unwrap();
    inserting.finish().unwrap();
    waiting.finish().unwrap();
    shown.is(
        "spectoken",
        &format!("speculative insertion of transaction {xid}"),
    );
    assert_eq!(
        listed.out.lines().count(),
        3,
        "the holder and the waiter: {listed:?}"
    );
}

#[test]
fn a_locked_schema_is_shown_and_found_by_its_name() {
    let database = Database::new();
    database.running("CREATE SCHEMA shop");
    let mut holder = database.running("BEGIN; CREATE TABLE shop.made (i int)");
    let waiting = Waiting::on(&database, "DROP SCHEMA shop");
    let shown = Shown::of(&database, waiting.pid);
    let found = ["object=schema shop", "object~SHOP", "object!="].map(|filter| {
        let ran = pglock(&database, &["-f", "type=object", "-f", filter, "-a", "pid"]);
        ran.out.contains(&waiting.pid.to_string())
    });
    let other = pglock(&database, &["-f", "object=schema other"]);
    holder.batch_execute("ROLLBACK").unwrap();
    waiting.finish().unwrap();
    shown.is("object", "schema shop");
    assert_eq!(shown.row["object"], "schema shop");
    assert_eq!(shown.lock["object"], "schema shop");
    assert_eq!(found, [true; 3]);
    assert_eq!(other.code, 1, "{other:?}");
}

#[test]
fn a_wait_for_a_virtual_transaction_names_it() {
    let database = Database::new();
    let mut holder = database.running("BEGIN; UPDATE users SET name = 'x'");
    let waiting = Waiting::on(&database, "CREATE INDEX CONCURRENTLY ON users (name)");
    let shown = Shown::of(&database, waiting.pid);
    holder.batch_execute("ROLLBACK").unwrap();
    waiting.finish().unwrap();
    let id = shown.row["virtual_xid"].as_str().unwrap();
    shown.is("virtualxid", &format!("virtual transaction {id}"));
    assert_eq!(shown.lock["virtual_xid"], id);
}

/// Reads that leave marks for a row and for a page of the index.
fn reading(database: &Database) -> PgConnection {
    database.running(
        "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL enable_seqscan = off;
         SELECT FROM users WHERE id = 1",
    )
}

#[test]
fn the_marks_of_a_serializable_read_name_the_row_and_the_page() {
    let database = Database::new();
    let reader = reading(&database);
    let marks = pglock(
        &database,
        &["-f", "mode=SIReadLock", "-a", "lock_type,target"],
    );
    drop(reader);
    for target in ["page 1 of public.users_pkey", "row (0,1) of public.users"] {
        assert!(marks.out.contains(target), "{target}: {marks:?}");
    }
}
