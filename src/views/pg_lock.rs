use chrono::{DateTime, TimeDelta, Utc};
use diesel::dsl::{AsSelect, Select, auto_type};
use diesel::pg::Pg;
use diesel::prelude::*;

use super::expression::{LockedRelationIsHere, WaitDuration, WaitStart};
use super::pg_activity::PgActivity;
use crate::tables::{pg_class, pg_database, pg_locks, pg_namespace, pg_stat_activity};
use crate::types::LossyText;
use crate::types::{AdvisoryKey, LockMode, LockType, RelationKind};

/// A lock that is held or awaited: a row of [`pg_locks`][pg].
///
/// A session that holds a thing in two modes has two rows for it. Row locks that
/// nobody waits for are written into the rows and have none.
///
/// [pg]: https://www.postgresql.org/docs/current/view-pg-locks.html
#[derive(Clone, Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = pg_locks, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PgLock {
    /// The session; `None` for a prepared transaction.
    pub pid: Option<i32>,
    /// What kind of thing is locked.
    #[diesel(column_name = locktype)]
    pub lock_type: LockType,
    /// The mode that is held or wanted.
    pub mode: LockMode,
    /// Whether the lock is held; else it is awaited.
    pub granted: bool,
    /// Whether the lock was taken on the fast path, without the shared lock table.
    #[diesel(column_name = fastpath)]
    pub fast_path: bool,
    /// When the wait began. `None` for a moment after it did, and on PostgreSQL 13.
    #[diesel(select_expression = WaitStart)]
    pub wait_start: Option<DateTime<Utc>>,
    /// How long the wait has lasted, by the server's clock.
    #[diesel(select_expression = WaitDuration)]
    #[cfg_attr(
        feature = "serde",
        serde(serialize_with = "crate::fmt::seconds::serialize")
    )]
    pub wait_duration: Option<TimeDelta>,
    /// The database of the locked thing; `None` for a shared thing and for transactions.
    #[diesel(deserialize_as = LossyText<Option<String>>, select_expression = pg_database::datname.nullable())]
    pub database: Option<String>,
    /// The relation, or that of the page or row; `None` in another database, whose names are not to be seen from here.
    #[diesel(embed)]
    pub relation: Option<LockedRelation>,
    /// The `oid` of the relation, in whichever database.
    #[diesel(column_name = relation)]
    pub relation_oid: Option<u32>,
    /// The key of an advisory lock.
    #[diesel(deserialize_as = KeyColumns, select_expression = (pg_locks::locktype, pg_locks::classid, pg_locks::objid, pg_locks::objsubid))]
    pub advisory_key: Option<AdvisoryKey>,
    /// The page of the relation, for a page and for a row.
    pub page: Option<i32>,
    /// The row's place on its page.
    pub tuple: Option<i16>,
    /// The virtual transaction that is locked.
    #[diesel(column_name = virtualxid)]
    pub virtual_xid: Option<String>,
    /// The transaction that is locked.
    #[diesel(column_name = transactionid)]
    pub transaction_id: Option<u32>,
    /// The catalog of a locked object, such as that of roles.
    #[diesel(column_name = classid)]
    pub class_id: Option<u32>,
    /// The locked object in that catalog.
    #[diesel(column_name = objid)]
    pub object_id: Option<u32>,
    /// The column of the locked object, or 0.
    #[diesel(column_name = objsubid)]
    pub object_subid: Option<i16>,
    /// The virtual transaction that holds or awaits the lock; what the locks of a prepared transaction have in common.
    #[diesel(column_name = virtualtransaction)]
    pub virtual_transaction: String,
    /// What the session does.
    #[diesel(embed)]
    pub activity: Option<PgActivity>,
}

/// The relation that a lock is on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Queryable, Selectable)]
#[diesel(table_name = pg_class, check_for_backend(Pg))]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LockedRelation {
    /// Its number.
    pub oid: u32,
    /// Its schema.
    #[diesel(select_expression = pg_namespace::nspname)]
    pub schema: String,
    /// Its name.
    #[diesel(column_name = relname)]
    pub name: String,
    /// What it is.
    #[diesel(column_name = relkind)]
    pub kind: RelationKind,
}

/// The relation as `schema.name`, without quotes.
impl std::fmt::Display for LockedRelation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.schema, self.name)
    }
}

/// The tables of [`PgLock::query`], joined.
pub type PgLockTables = tables;

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
    /// Reads `pg_locks`: one row per lock that a session holds or awaits, with its session.
    ///
    /// The query is an ordinary one of Diesel's, on the tables `pg_locks`,
    /// `pg_database`, `pg_class`, `pg_namespace` and `pg_stat_activity` of
    /// [`schema`](crate::schema). [`PgLockDsl`](crate::PgLockDsl) has filters and
    /// actions for it. It shows the locks of all databases, and those that reading
    /// the views takes itself.
    ///
    /// Each read copies the server's whole lock table, which holds up sessions that
    /// lock or unlock something meanwhile; with 100,000 locks that is felt.
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

/// The columns that an advisory key is put together from.
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
