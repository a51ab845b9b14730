//! Rows for tests without a server: sessions that hold and await advisory locks.

use super::graph::WaitGraph;
use super::query::WaitGraphRow;
use crate::types::{AdvisoryKey, LockMode, LockType};
use crate::views::PgLock;

/// Returns an awaited lock on an advisory key, with the server's answer about its blockers.
pub fn waiting(pid: i32, key: i64, mode: LockMode, blockers: &[i32]) -> WaitGraphRow {
    let mut row = row(pid, key, mode, blockers);
    row.lock.granted = false;
    row
}

/// Returns a lock on an advisory key; it is awaited if there are blockers.
pub fn row(pid: i32, key: i64, mode: LockMode, blockers: &[i32]) -> WaitGraphRow {
    let key = AdvisoryKey::new(key);
    let lock = PgLock {
        pid: Some(pid),
        lock_type: LockType::Advisory,
        mode,
        granted: blockers.is_empty(),
        fast_path: false,
        wait_start: None,
        wait_duration: None,
        database: Some("app".into()),
        database_oid: None,
        relation: None,
        relation_oid: None,
        advisory_key: Some(key),
        page: None,
        tuple: None,
        virtual_xid: None,
        transaction_id: None,
        class_id: Some(key.classid()),
        object_id: Some(key.objid()),
        object_subid: Some(key.objsubid()),
        object: None,
        virtual_transaction: format!("{pid}/1"),
        activity: None,
    };
    WaitGraphRow {
        lock,
        blocking_pids: Some(blockers.to_vec()).filter(|pids| !pids.is_empty()),
        prepared: None,
    }
}

/// Returns a queue: session 1 holds the lock, and each further session waits for all before it.
pub fn queue(length: i32) -> WaitGraph {
    let holder = row(1, 7, LockMode::Exclusive, &[]);
    let waiters = (2..=length + 1).map(|pid| {
        let ahead: Vec<i32> = (1..pid).collect();
        row(pid, 7, LockMode::Exclusive, &ahead)
    });
    WaitGraph::from_rows([holder].into_iter().chain(waiters).collect())
}
