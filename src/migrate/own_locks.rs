//! The statements that read the locks of a migration.
//!
//! The first reads no catalog, so that it costs little.

use diesel::QueryResult;
use diesel::deserialize::Queryable;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::sql_types::{Array, BigInt, CChar, Nullable, Oid, SmallInt, Text};

use super::history::HISTORY;
use super::identifier::parse_name;
use crate::session::query;
use crate::types::{AdvisoryKey, LockMode, LockType};
use crate::views::LockedRelation;

/// Keeps the timeouts of the session, which the reader of the locks replaces.
pub(super) const KEEP_TIMEOUTS: &str = "SELECT pg_catalog.set_config('diesel_pglock.timeouts', \
    pg_catalog.concat(pg_catalog.current_setting('lock_timeout'), ' ', \
    pg_catalog.current_setting('statement_timeout')), true)";

/// Reads the locks of this session, and the place of the history.
///
/// There is at least one row: a session holds a lock on its virtual transaction. The planning of
/// the view `pg_locks` would cost more than the rest.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwnLocks {
    /// The history; `None` if it is not known.
    pub(super) history: Option<u32>,
}

/// A lock of this session, and the state of the session, the same for each lock.
#[derive(Debug, Queryable)]
pub(super) struct OwnLock {
    lock_type: LockType,
    relation: Option<u32>,
    pub(super) mode: LockMode,
    classid: Option<u32>,
    objid: Option<u32>,
    objsubid: Option<i16>,
    /// The id of the open transaction.
    pub(super) transaction: String,
    /// The deadlocks in the database of the lock, if it belongs to a database.
    pub(super) deadlocks: Option<i64>,
    /// The name of the history, with its schema unless the `search_path` leads to it; a number once
    /// it was dropped.
    history: Option<String>,
    /// The timeouts that were kept.
    pub(super) timeouts: Option<String>,
}

impl OwnLock {
    /// Returns the relation that is locked, unless it is one of the server's own.
    pub(super) fn relation(&self) -> Option<u32> {
        let relation = self.relation.filter(|oid| *oid >= FIRST_OID);
        relation.filter(|_| self.lock_type == LockType::Relation)
    }

    pub(super) fn is_exclusive_lock_on(&self, key: AdvisoryKey) -> bool {
        let (Some(classid), Some(objid), Some(objsubid)) =
            (self.classid, self.objid, self.objsubid)
        else {
            return false;
        };
        self.lock_type == LockType::Advisory
            && self.mode == LockMode::Exclusive
            && AdvisoryKey::from_pg_locks(classid, objid, objsubid) == Some(key)
    }

    /// Returns the current schema of the history; `None` if the `search_path` leads to it, or if
    /// it was dropped.
    pub(super) fn history_schema(&self) -> Option<String> {
        let [schema, table] = parse_name(self.history.as_ref()?)?.try_into().ok()?;
        (table == HISTORY).then_some(schema)
    }
}

/// The first `oid` of the relations that users create.
const FIRST_OID: u32 = 16384;

query!(
    OwnLocks => (
        Text, Nullable<Oid>, Text, Nullable<Oid>, Nullable<Oid>, Nullable<SmallInt>,
        Text, Nullable<BigInt>, Nullable<Text>, Nullable<Text>,
    ),
    OwnLock
);

impl QueryFragment<Pg> for OwnLocks {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT l.locktype, l.relation, l.mode, l.classid, l.objid, l.objsubid, \
             l.virtualtransaction, pg_catalog.pg_stat_get_db_deadlocks(l.database), ",
        );
        out.push_bind_param::<Nullable<Oid>, _>(&self.history)?;
        out.push_sql(
            "::pg_catalog.regclass::pg_catalog.text, \
             pg_catalog.current_setting('diesel_pglock.timeouts', true) \
             FROM pg_catalog.pg_lock_status() AS l \
             WHERE l.granted AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()",
        );
        Ok(())
    }
}

/// Reads the names of relations, in the order of their `oid`s.
#[derive(Debug)]
pub(super) struct RelationsWithOids(pub(super) Vec<u32>);

query!(RelationsWithOids => (Oid, Text, Text, CChar), LockedRelation);

impl QueryFragment<Pg> for RelationsWithOids {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT c.oid, n.nspname::pg_catalog.text, c.relname::pg_catalog.text, c.relkind \
             FROM pg_catalog.pg_class AS c \
             JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE c.oid OPERATOR(pg_catalog.=) ANY (",
        );
        out.push_bind_param::<Array<Oid>, _>(&self.0)?;
        out.push_sql(") ORDER BY c.oid");
        Ok(())
    }
}
