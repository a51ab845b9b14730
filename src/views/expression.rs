//! What the lock views are asked that no column says: how long, and columns that old servers lack.
//!
//! Each of these is a Diesel expression, good in `.select`, `.filter` and `.order_by`.

use diesel::backend::Backend;
use diesel::expression::{Expression, ValidGrouping, is_aggregate};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::query_source::AliasedField;
use diesel::sql_types::{BigInt, Binary, Bool, Interval, Nullable, Text, Timestamptz};

use super::sql_macro::{current_database_oid, optional, since};
use crate::tables::{BlockingActivity, pg_locks, pg_prepared_xacts, pg_stat_activity};

/// Declares an expression that may stand wherever its column may.
macro_rules! expression {
    ($(#[$doc:meta])* $name:ident: $sql_type:ty, beside $column:ty, $sql:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, Default, QueryId)]
        pub struct $name;

        impl Expression for $name {
            type SqlType = $sql_type;
        }

        impl<DB: Backend> QueryFragment<DB> for $name {
            fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
                out.push_sql($sql);
                Ok(())
            }
        }

        impl<QS> AppearsOnTable<QS> for $name where $column: AppearsOnTable<QS> {}

        impl<QS> SelectableExpression<QS> for $name where $column: SelectableExpression<QS> {}

        impl ValidGrouping<()> for $name {
            type IsAggregate = is_aggregate::No;
        }
    };
}

macro_rules! wait_start {
    () => {
        optional!(r#""pg_catalog"."pg_locks""#, "waitstart", "timestamptz")
    };
}

expression! {
    /// Whether the row of `pg_class` is the relation that the lock is on, which only
    /// this database and the shared catalogs can tell: elsewhere the same number is another relation.
    LockedRelationIsHere: Nullable<Bool>, beside pg_locks::pid,
    r#""pg_catalog"."pg_class"."oid" = "pg_catalog"."pg_locks"."relation" AND ("pg_catalog"."pg_locks"."database" = 0::pg_catalog.oid OR "pg_catalog"."pg_database"."datname" = pg_catalog.current_database())"#
}

expression! {
    /// Whether the lock belongs to this database: the locked thing does, or, where it belongs to
    /// none (a transaction, a shared catalog), the session that holds or awaits it.
    InCurrentDatabase: Nullable<Bool>, beside (pg_locks::pid, pg_stat_activity::pid),
    concat!(
        r#"COALESCE(NULLIF("pg_catalog"."pg_locks"."database", 0::pg_catalog.oid), "pg_catalog"."pg_stat_activity"."datid") = "#,
        current_database_oid!(),
    )
}

expression! {
    /// When the wait for the lock began: `pg_locks.waitstart`, and NULL on PostgreSQL 13, which has no such column.
    WaitStart: Nullable<Timestamptz>, beside pg_locks::pid, wait_start!()
}

expression! {
    /// How long the wait for the lock has lasted; NULL on PostgreSQL 13.
    WaitDuration: Nullable<Interval>, beside pg_locks::pid, since!(wait_start!())
}

/// The text of a query, NULL where the role may not look: there the view has a text that says so.
macro_rules! visible {
    ($activity:literal) => {
        concat!(
            "NULLIF(",
            $activity,
            r#"."query", '<insufficient privilege>')"#
        )
    };
}

expression! {
    /// The session's running query, or else its last one; NULL where the role may not look.
    VisibleQuery: Nullable<Text>, beside pg_stat_activity::pid,
    visible!(r#""pg_catalog"."pg_stat_activity""#)
}

/// The bytes of that text, for [`LossyText`](crate::sql_value::LossyText). Of a session in a database
/// of another encoding they are as it sent them, or NULL where they would be taken for ours.
///
/// Read as a text they are refused, and the rows of all other sessions with them.
macro_rules! query_bytes {
    ($activity:literal) => {
        concat!(
            "CASE WHEN pg_catalog.current_setting('server_encoding') IN ('UTF8', 'SQL_ASCII') \
             THEN pg_catalog.decode(pg_catalog.replace(",
            visible!($activity),
            r", E'\\', E'\\\\'), 'escape') WHEN ",
            $activity,
            ".\"datid\" = ANY (ARRAY(SELECT theirs.oid FROM pg_catalog.pg_database AS theirs \
             JOIN pg_catalog.pg_database AS ours ON ours.encoding = theirs.encoding \
             WHERE ours.datname = pg_catalog.current_database())) THEN pg_catalog.convert_to(",
            visible!($activity),
            ", 'UTF8') END",
        )
    };
}

expression! {
    /// [`VisibleQuery`] as it is read: its bytes.
    QueryBytes: Nullable<Binary>, beside pg_stat_activity::pid,
    query_bytes!(r#""pg_catalog"."pg_stat_activity""#)
}

expression! {
    /// The query's number: `pg_stat_activity.query_id`, and NULL on PostgreSQL 13, which has no such column.
    QueryIdentifier: Nullable<BigInt>, beside pg_stat_activity::pid,
    optional!(r#""pg_catalog"."pg_stat_activity""#, "query_id", "int8")
}

expression! {
    /// How long ago the session's running query, or else its last one, began.
    QueryDuration: Nullable<Interval>, beside pg_stat_activity::pid,
    since!(r#""pg_catalog"."pg_stat_activity"."query_start""#)
}

expression! {
    /// How long ago the session's open transaction began.
    TransactionDuration: Nullable<Interval>, beside pg_stat_activity::pid,
    since!(r#""pg_catalog"."pg_stat_activity"."xact_start""#)
}

type BlockingPid = AliasedField<BlockingActivity, pg_stat_activity::pid>;

expression! {
    /// [`VisibleQuery`] of the session in the way.
    BlockingVisibleQuery: Nullable<Text>, beside BlockingPid,
    visible!(r#""blocking_activity""#)
}

expression! {
    /// [`QueryBytes`] of the session in the way.
    BlockingQueryBytes: Nullable<Binary>, beside BlockingPid,
    query_bytes!(r#""blocking_activity""#)
}

expression! {
    /// [`QueryIdentifier`] of the session in the way.
    BlockingQueryIdentifier: Nullable<BigInt>, beside BlockingPid,
    optional!(r#""blocking_activity""#, "query_id", "int8")
}

expression! {
    /// [`QueryDuration`] of the session in the way.
    BlockingQueryDuration: Nullable<Interval>, beside BlockingPid,
    since!(r#""blocking_activity"."query_start""#)
}

expression! {
    /// [`TransactionDuration`] of the session in the way.
    BlockingTransactionDuration: Nullable<Interval>, beside BlockingPid,
    since!(r#""blocking_activity"."xact_start""#)
}

expression! {
    /// How long ago the transaction was prepared.
    PreparedDuration: Interval, beside pg_prepared_xacts::gid,
    since!(r#""pg_catalog"."pg_prepared_xacts"."prepared""#)
}
