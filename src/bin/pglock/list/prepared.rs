//! The prepared transactions, which hold locks without a session.

use std::collections::HashMap;

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::schema::pg_locks;
use diesel_pglock::{LockType, PgLock, PreparedTransaction};

use super::row::Row;
use crate::failure::Failure;

/// Adds the prepared transactions that hold a lock of the rows.
pub fn add(conn: &mut PgConnection, rows: &mut [Row]) -> Result<(), Failure> {
    if !rows.iter().any(|row| row.lock.pid.is_none()) {
        return Ok(());
    }
    let prepared = by_virtual_transaction(conn)?;
    let held = rows.iter_mut().filter(|row| row.lock.pid.is_none());
    for row in held {
        row.prepared = prepared.get(&row.lock.virtual_transaction).cloned();
    }
    Ok(())
}

/// Returns the prepared transactions by the only column that all locks of one share.
fn by_virtual_transaction(
    conn: &mut PgConnection,
) -> Result<HashMap<String, PreparedTransaction>, Failure> {
    let ids = PgLock::query()
        .filter(pg_locks::pid.is_null())
        .filter(pg_locks::locktype.eq(LockType::TransactionId));
    let ids: Vec<PgLock> = ids.load(conn)?;
    let all: Vec<PreparedTransaction> = PreparedTransaction::query().load(conn)?;
    let of_lock = |lock: PgLock| {
        let mut found = all.iter();
        let found = found.find(|it| Some(it.transaction_id) == lock.transaction_id)?;
        Some((lock.virtual_transaction, found.clone()))
    };
    Ok(ids.into_iter().filter_map(of_lock).collect())
}
