//! The prepared transactions, which hold locks without a session.

use std::collections::HashMap;

use diesel::PgConnection;
use diesel::prelude::*;
use diesel_pglock::schema::pg_locks;
use diesel_pglock::{LockType, PgLock, PreparedTransaction};

use super::row::Row;
use crate::failure::Failure;

/// The prepared transactions, by the only column that all locks of one share.
pub struct Prepared(HashMap<String, PreparedTransaction>);

impl Prepared {
    pub fn load(conn: &mut PgConnection) -> Result<Self, Failure> {
        let all: Vec<PreparedTransaction> = PreparedTransaction::query().load(conn)?;
        if all.is_empty() {
            return Ok(Self(HashMap::new()));
        }
        by_virtual_transaction(conn, &all).map(Self)
    }

    /// Returns a row, with the prepared transaction that holds the lock.
    pub fn row(&self, lock: PgLock) -> Row {
        let is_prepared = lock.pid.is_none();
        let found = self.0.get(&lock.virtual_transaction);
        Row {
            prepared: found.filter(|_| is_prepared).cloned(),
            ..Row::from(lock)
        }
    }
}

fn by_virtual_transaction(
    conn: &mut PgConnection,
    all: &[PreparedTransaction],
) -> Result<HashMap<String, PreparedTransaction>, Failure> {
    let ids = PgLock::query()
        .filter(pg_locks::pid.is_null())
        .filter(pg_locks::locktype.eq(LockType::TransactionId));
    let ids: Vec<PgLock> = ids.load(conn)?;
    let of_lock = |lock: PgLock| {
        let mut found = all.iter();
        let found = found.find(|it| Some(it.transaction_id) == lock.transaction_id)?;
        Some((lock.virtual_transaction, found.clone()))
    };
    Ok(ids.into_iter().filter_map(of_lock).collect())
}
