//! The locked object, as the columns of `pg_locks` identify it.

use crate::types::LockType;
use crate::views::PgLock;

/// The identity of a locked object: locks conflict only if their tags are equal.
///
/// Columns that a type of lock does not use are `None` in all locks of the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LockTag<'l> {
    lock_type: &'l str,
    database: Option<&'l str>,
    relation_oid: Option<u32>,
    page: Option<i32>,
    tuple: Option<i16>,
    virtual_xid: Option<&'l str>,
    transaction_id: Option<u32>,
    class_id: Option<u32>,
    object_id: Option<u32>,
    object_subid: Option<i16>,
}

impl<'l> LockTag<'l> {
    pub fn of(lock: &'l PgLock) -> Self {
        // The row of a wait for a transaction is no part of the locked object.
        let has_row = lock.lock_type != LockType::TransactionId;
        Self {
            lock_type: lock.lock_type.as_str(),
            database: lock.database.as_deref().filter(|_| has_row),
            relation_oid: lock.relation_oid.filter(|_| has_row),
            page: lock.page.filter(|_| has_row),
            tuple: lock.tuple.filter(|_| has_row),
            virtual_xid: lock.virtual_xid.as_deref(),
            transaction_id: lock.transaction_id,
            class_id: lock.class_id,
            object_id: lock.object_id,
            object_subid: lock.object_subid,
        }
    }
}
