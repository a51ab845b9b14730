//! The locks: rows of `pg_locks`, with their relations, databases and sessions.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{AsSelect, Select, auto_type};
use diesel::pg::Pg;
use diesel::prelude::*;

use super::expression::{LockedObject, LockedRelationIsHere, WaitDuration, WaitStart};
use super::pg_activity::PgActivity;
use crate::fmt::quote_identifier;
use crate::tables::{pg_class, pg_database, pg_locks, pg_namespace, pg_stat_activity};
use crate::types::LossyText;
use crate::types::{AdvisoryKey, LockMode, LockType, RelationKind};

/// A held or awaited lock: a row of [`pg_locks`][pg].
///
/// A session that holds an object in two modes has two rows for it. Row locks are stored in
/// the table itself; `pg_locks` shows one only while a session waits for it.
///
/// [pg]: https://www.postgresql.org/docs/current/view-pg-locks.html
#[derive(Clone, Debug, Default, PartialEq, Queryable, Selectable)]
#[diesel(table_name = pg_locks, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PgLock {
    /// The process id of the session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// The type of the locked object.
    #[diesel(column_name = locktype)]
    pub lock_type: LockType,
    /// The held or awaited mode.
    pub mode: LockMode,
    /// True for a held lock, false for an awaited lock.
    pub granted: bool,
    /// True if the lock was acquired on the fast path, without the shared lock table.
    #[diesel(column_name = fastpath)]
    pub fast_path: bool,
    /// The start of the wait; `None` in its first moments, and on PostgreSQL 13.
    #[diesel(select_expression = WaitStart)]
    pub wait_start: Option<DateTime<Utc>>,
    /// The duration of the wait, by the clock of the server.
    #[diesel(select_expression = WaitDuration)]
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::serialize")
    )]
    pub wait_duration: Option<TimeDelta>,
    /// The database of the locked object; `None` for shared objects and for transactions.
    #[diesel(deserialize_as = LossyText<Option<String>>, select_expression = pg_database::datname.nullable())]
    pub database: Option<String>,
    /// The `oid` of that database; 0 for shared objects. Older servers have the transaction of a
    /// speculative insertion here, newer ones in `transaction_id`.
    #[diesel(column_name = database)]
    pub database_oid: Option<u32>,
    /// The locked relation, or the relation of the page or row.
    ///
    /// `None` in another database, whose catalogs this session cannot read.
    #[diesel(embed)]
    pub relation: Option<LockedRelation>,
    /// The `oid` of the relation, also in another database.
    #[diesel(column_name = relation)]
    pub relation_oid: Option<u32>,
    /// The key of an advisory lock.
    #[diesel(deserialize_as = KeyColumns, select_expression = (pg_locks::locktype, pg_locks::classid, pg_locks::objid, pg_locks::objsubid))]
    pub advisory_key: Option<AdvisoryKey>,
    /// The page within the relation, for a lock on a page or row.
    pub page: Option<i32>,
    /// The number of the row on its page.
    pub tuple: Option<i16>,
    /// The locked virtual transaction.
    #[diesel(column_name = virtualxid)]
    pub virtual_xid: Option<String>,
    /// The locked transaction.
    #[diesel(column_name = transactionid)]
    pub transaction_id: Option<u32>,
    /// The catalog of the locked object, such as `pg_authid`.
    #[diesel(column_name = classid)]
    pub class_id: Option<u32>,
    /// The `oid` of the locked object in that catalog.
    #[diesel(column_name = objid)]
    pub object_id: Option<u32>,
    /// The column of the locked object, or 0.
    #[diesel(column_name = objsubid)]
    pub object_subid: Option<i16>,
    /// The kind and the name of that object, such as `schema public`; `None` for rare kinds, and
    /// for objects of another database.
    #[diesel(deserialize_as = LossyText<Option<String>>, select_expression = LockedObject)]
    pub object: Option<String>,
    /// The virtual transaction that holds or awaits the lock. All locks of a prepared
    /// transaction share it.
    #[diesel(column_name = virtualtransaction)]
    pub virtual_transaction: String,
    /// The activity of the session; `None` for a prepared transaction.
    #[diesel(embed)]
    pub activity: Option<PgActivity>,
}

/// A locked relation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Queryable, Selectable)]
#[diesel(table_name = pg_class, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LockedRelation {
    /// The `oid` of the relation.
    pub oid: u32,
    /// The name of its schema.
    #[diesel(select_expression = pg_namespace::nspname)]
    pub schema: String,
    /// The name, without the schema.
    #[diesel(column_name = relname)]
    pub name: String,
    /// The kind of relation, such as a table or an index.
    #[diesel(column_name = relkind)]
    pub kind: RelationKind,
}

/// Writes the relation as `schema.name`, with quotes where SQL needs them: the text names the
/// relation in SQL and in [`on_relation`](crate::PgLockDsl::on_relation).
impl std::fmt::Display for LockedRelation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (schema, name) = (quote_identifier(&self.schema), quote_identifier(&self.name));
        write!(f, "{schema}.{name}")
    }
}

/// The tables of [`PgLock::query`], joined.
pub type PgLockTables = tables;

/// Joins the locks with their databases, relations, schemas and sessions.
#[auto_type]
pub fn tables() -> _ {
    pg_locks::table
        .left_join(pg_database::table.on(pg_database::oid.nullable().eq(pg_locks::database)))
        .left_join(pg_class::table.on(LockedRelationIsHere))
        .left_join(pg_namespace::table.on(pg_namespace::oid.eq(pg_class::relnamespace)))
        .left_join(pg_stat_activity::table.on(pg_stat_activity::pid.nullable().eq(pg_locks::pid)))
}

/// The query that [`PgLock::query`] returns.
pub type PgLockQuery = Select<PgLockTables, AsSelect<PgLock, Pg>>;

impl PgLock {
    /// Reads `pg_locks`: one row per held or awaited lock, with its session.
    ///
    /// The result is an ordinary Diesel query on the tables `pg_locks`, `pg_database`,
    /// `pg_class`, `pg_namespace` and `pg_stat_activity` of [`schema`](crate::schema).
    /// [`PgLockDsl`](crate::PgLockDsl) has filters and actions for it. It returns the locks of
    /// all databases, including the locks that the query itself acquires.
    ///
    /// Each read copies the whole lock table of the server. Sessions that acquire or release
    /// a lock wait meanwhile, noticeably from about 100,000 locks.
    ///
    /// # Examples
    ///
    /// ```
    /// # include!("../../tests/support/doctest.rs");
    /// use diesel::prelude::*;
    /// use diesel_pglock::prelude::*;
    /// use diesel_pglock::schema::{pg_class, pg_locks};
    /// use diesel_pglock::{LockMode, PgLock, TableLockMode};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (mut conn, mut other) = (connection(), connection());
    /// # let (conn, other) = (&mut conn, &mut other);
    /// other.lock_table::<users::table>(TableLockMode::Share).run(|_| {
    ///     let locks: Vec<PgLock> = PgLock::query()
    ///         .filter(pg_class::relname.eq("users"))
    ///         .order_by(pg_locks::pid)
    ///         .load(conn)?;
    ///     assert_eq!(locks.len(), 1);
    ///     assert_eq!(locks[0].mode, LockMode::Share);
    ///     assert_eq!(locks[0].target().to_string(), "relation public.users");
    ///
    ///     let held: i64 = PgLock::query().granted().count().get_result(conn)?;
    ///     assert!(held > 1);
    ///     diesel::QueryResult::Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn query() -> PgLockQuery {
        tables().select(Self::as_select())
    }
}

/// The columns that make an advisory key.
#[derive(Queryable)]
pub struct KeyColumns {
    lock_type: LockType,
    classid: Option<u32>,
    objid: Option<u32>,
    objsubid: Option<i16>,
}

impl From<KeyColumns> for Option<AdvisoryKey> {
    fn from(columns: KeyColumns) -> Self {
        if columns.lock_type != LockType::Advisory {
            return None;
        }
        AdvisoryKey::from_pg_locks(columns.classid?, columns.objid?, columns.objsubid?)
    }
}
