//! The names of prepared transactions, which hold locks without a session.

use std::collections::{BTreeSet, HashMap};

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::schema::pg_locks;
use diesel_pglock::{LockType, PgLock, PreparedTransaction};

use super::row::Row;
use crate::failure::Failure;

/// The locks of prepared transactions.
struct PreparedLocks {
    locks: Vec<PgLock>,
    /// By virtual transaction, the only column that all locks of a transaction share.
    gids: HashMap<String, String>,
}

/// Adds the names of prepared transactions that hold a lock of the rows or block one.
pub fn add_names(conn: &mut PgConnection, rows: &mut [Row]) -> Result<(), Failure> {
    if !rows.iter().any(|row| is_held(row) || is_blocked(row)) {
        return Ok(());
    }
    let prepared = PreparedLocks::load(conn)?;
    for row in rows {
        if is_held(row) {
            row.prepared = prepared.gid(&row.lock).map(str::to_owned);
        } else if is_blocked(row) {
            let gids = prepared.gids_of_blockers(&row.lock);
            row.blocker
                .as_mut()
                .into_iter()
                .for_each(|it| it.prepared = gids.clone());
        }
    }
    Ok(())
}

fn is_held(row: &Row) -> bool {
    row.lock.pid.is_none()
}

fn is_blocked(row: &Row) -> bool {
    row.blocker.as_ref().is_some_and(|it| it.pid == 0)
}

impl PreparedLocks {
    fn load(conn: &mut PgConnection) -> Result<Self, Failure> {
        let locks: Vec<PgLock> = PgLock::query().filter(pg_locks::pid.is_null()).load(conn)?;
        let transactions: Vec<PreparedTransaction> = PreparedTransaction::query().load(conn)?;
        let gid_of = |lock: &PgLock| {
            let is_of_lock =
                |it: &&PreparedTransaction| Some(it.transaction_id) == lock.transaction_id;
            transactions
                .iter()
                .find(is_of_lock)
                .map(|it| it.gid.clone())
        };
        let own_ids = locks
            .iter()
            .filter(|it| it.lock_type == LockType::TransactionId);
        let gids = own_ids.filter_map(|it| Some((it.virtual_transaction.clone(), gid_of(it)?)));
        let gids = gids.collect();
        Ok(Self { locks, gids })
    }

    fn gid(&self, lock: &PgLock) -> Option<&str> {
        self.gids.get(&lock.virtual_transaction).map(String::as_str)
    }

    fn gids_of_blockers(&self, waiting: &PgLock) -> Option<String> {
        let blockers = self.locks.iter().filter(|it| blocks(it, waiting));
        let gids: BTreeSet<&str> = blockers.filter_map(|it| self.gid(it)).collect();
        let gids: Vec<&str> = gids.into_iter().collect();
        (!gids.is_empty()).then(|| gids.join(", "))
    }
}

fn blocks(held: &PgLock, waiting: &PgLock) -> bool {
    let target = |lock: &PgLock| (lock.database.clone(), lock.target().to_string());
    target(held) == target(waiting) && held.mode.conflicts_with(&waiting.mode)
}
