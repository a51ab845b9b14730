//! Expressions over the lock views: durations, and columns that old servers lack.
//!
//! Each is a Diesel expression for `.select`, `.filter` and `.order_by`. Durations are
//! measured by the clock of the server at the time of the read, also within a transaction.

use diesel::backend::Backend;
use diesel::expression::{Expression, ValidGrouping, is_aggregate};
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment, QueryId};
use diesel::query_source::AliasedField;
use diesel::sql_types::{BigInt, Binary, Bool, Interval, Nullable, Text, Timestamptz};

use super::sql_macro::{current_database_oid, decoded_query, optional, since, visible_query};
use crate::tables::{BlockingActivity, pg_locks, pg_prepared_xacts, pg_stat_activity};

/// Declares an expression that is valid in every query in which its column is valid.
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

/// Declares an expression of a session twice: for `pg_stat_activity`, and for its alias
/// `blocking_activity`. `$sql` is a macro that takes the name of either.
macro_rules! activity_expression {
    ($(#[$doc:meta])* $name:ident, $blocking:ident: $sql_type:ty, $sql:ident) => {
        expression! {
            $(#[$doc])*
            $name: $sql_type, beside pg_stat_activity::pid,
            $sql!(r#""pg_catalog"."pg_stat_activity""#)
        }

        expression! {
            #[doc = concat!("The [`", stringify!($name), "`] of the blocker.")]
            $blocking: $sql_type, beside AliasedField<BlockingActivity, pg_stat_activity::pid>,
            $sql!(r#""blocking_activity""#)
        }
    };
}

// Only a wait costs a look at the column.
macro_rules! wait_start {
    () => {
        concat!(
            r#"CASE WHEN NOT "pg_catalog"."pg_locks"."granted" THEN "#,
            optional!(r#""pg_catalog"."pg_locks""#, "waitstart", "timestamptz"),
            " END"
        )
    };
}

expression! {
    /// Keeps the row of `pg_class` that names the locked relation.
    ///
    /// The server knows the names of this database and of the shared catalogs only. The
    /// same `oid` is another relation in another database.
    LockedRelationIsHere: Nullable<Bool>, beside pg_locks::pid,
    r#""pg_catalog"."pg_class"."oid" = "pg_catalog"."pg_locks"."relation" AND ("pg_catalog"."pg_locks"."database" = 0::pg_catalog.oid OR "pg_catalog"."pg_database"."datname" = pg_catalog.current_database())"#
}

/// Selects the virtual transactions of the prepared transactions of this database.
///
/// One lock of each names it in `pg_prepared_xacts`. The locks are read once more only if a row
/// needs them.
macro_rules! own_prepared_transactions {
    () => {
        "ARRAY(SELECT l.virtualtransaction FROM pg_catalog.pg_locks AS l \
         JOIN pg_catalog.pg_prepared_xacts AS x ON x.transaction OPERATOR(pg_catalog.=) l.transactionid \
         WHERE l.pid IS NULL AND l.granted AND l.locktype OPERATOR(pg_catalog.=) 'transactionid' \
         AND x.database OPERATOR(pg_catalog.=) pg_catalog.current_database())"
    };
}

expression! {
    /// Keeps the locks that belong to this database.
    ///
    /// A lock on a transaction or on a shared catalog belongs to no database. The database
    /// of its session, or of its prepared transaction, decides. For a speculative insertion older
    /// servers have a transaction in the column of the database.
    InCurrentDatabase: Nullable<Bool>, beside (pg_locks::pid, pg_stat_activity::pid),
    concat!(
        r#"CASE WHEN "pg_catalog"."pg_locks"."pid" IS NULL "#,
        r#"AND NULLIF("pg_catalog"."pg_locks"."database", 0::pg_catalog.oid) IS NULL "#,
        r#"THEN "pg_catalog"."pg_locks"."virtualtransaction" OPERATOR(pg_catalog.=) ANY ("#,
        own_prepared_transactions!(),
        ") ELSE ",
        r#"COALESCE(CASE WHEN "pg_catalog"."pg_locks"."locktype" OPERATOR(pg_catalog.<>) 'spectoken' "#,
        r#"THEN NULLIF("pg_catalog"."pg_locks"."database", 0::pg_catalog.oid) END, "#,
        r#""pg_catalog"."pg_stat_activity"."datid") = "#,
        current_database_oid!(),
        " END"
    )
}

macro_rules! object_name {
    ($kind:literal, $catalog:literal, $name:literal) => {
        concat!(
            "(SELECT pg_catalog.concat('",
            $kind,
            " ', pg_catalog.quote_ident(o.",
            $name,
            ")) FROM pg_catalog.",
            $catalog,
            r#" AS o WHERE o.oid OPERATOR(pg_catalog.=) "pg_catalog"."pg_locks"."objid")"#
        )
    };
}

expression! {
    /// The kind and the name of a locked object that is no relation, such as `schema public`.
    ///
    /// NULL for other locks, for rare kinds of objects, and for objects of another database.
    LockedObject: Nullable<Text>, beside pg_locks::pid,
    concat!(
        r#"CASE WHEN "pg_catalog"."pg_locks"."locktype" OPERATOR(pg_catalog.=) 'object' THEN "#,
        r#"CASE WHEN "pg_catalog"."pg_locks"."database" OPERATOR(pg_catalog.=) 0::pg_catalog.oid THEN "#,
        r#"CASE "pg_catalog"."pg_locks"."classid"::pg_catalog.int8 WHEN 1262 THEN "#,
        object_name!("database", "pg_database", "datname"),
        " WHEN 1260 THEN ", object_name!("role", "pg_roles", "rolname"),
        " WHEN 1213 THEN ", object_name!("tablespace", "pg_tablespace", "spcname"),
        r#" END WHEN "pg_catalog"."pg_locks"."database" OPERATOR(pg_catalog.=) "#,
        current_database_oid!(),
        r#" THEN CASE "pg_catalog"."pg_locks"."classid"::pg_catalog.int8 WHEN 2615 THEN "#,
        object_name!("schema", "pg_namespace", "nspname"),
        " WHEN 1255 THEN ", object_name!("function", "pg_proc", "proname"),
        " WHEN 1247 THEN ", object_name!("type", "pg_type", "typname"),
        " WHEN 3079 THEN ", object_name!("extension", "pg_extension", "extname"),
        " END END END"
    )
}

expression! {
    /// The start of the wait for the lock: `pg_locks.waitstart`.
    ///
    /// NULL for held locks, in the first moments of a wait, and on PostgreSQL 13, which lacks
    /// the column.
    WaitStart: Nullable<Timestamptz>, beside pg_locks::pid, wait_start!()
}

expression! {
    /// The duration of the wait for the lock; NULL if [`WaitStart`] is.
    WaitDuration: Nullable<Interval>, beside pg_locks::pid, since!(wait_start!())
}

/// Reads a query as bytes, for [`LossyText`](crate::types::LossyText).
///
/// The server would refuse to convert a text of another encoding, and with it all rows. The
/// bytes are NULL where they could be mistaken for text in the encoding of this database.
macro_rules! query_bytes {
    ($activity:expr) => {
        concat!(
            "CASE ",
            decoded_query!($activity),
            "WHEN ",
            $activity,
            ".\"datid\" = ANY (ARRAY(SELECT d.oid FROM pg_catalog.pg_database AS d \
             JOIN pg_catalog.pg_database AS own ON own.encoding = d.encoding \
             WHERE own.datname = pg_catalog.current_database())) THEN pg_catalog.convert_to(",
            visible_query!($activity),
            ", 'UTF8') END",
        )
    };
}

macro_rules! query_identifier {
    ($activity:expr) => {
        optional!($activity, "query_id", "int8")
    };
}

macro_rules! query_duration {
    ($activity:expr) => {
        since!(concat!($activity, r#"."query_start""#))
    };
}

macro_rules! transaction_duration {
    ($activity:expr) => {
        since!(concat!($activity, r#"."xact_start""#))
    };
}

activity_expression! {
    /// The running query of the session, or else its last query, as bytes.
    ///
    /// NULL if the role lacks the privilege to read the session.
    QueryBytes, BlockingQueryBytes: Nullable<Binary>, query_bytes
}

activity_expression! {
    /// The identifier of the query: `pg_stat_activity.query_id`.
    ///
    /// NULL on PostgreSQL 13, which lacks the column.
    QueryIdentifier, BlockingQueryIdentifier: Nullable<BigInt>, query_identifier
}

activity_expression! {
    /// The time since the start of the running query, or else of the last query.
    QueryDuration, BlockingQueryDuration: Nullable<Interval>, query_duration
}

activity_expression! {
    /// The time since the start of the open transaction.
    TransactionDuration, BlockingTransactionDuration: Nullable<Interval>, transaction_duration
}

expression! {
    /// The time since the transaction was prepared.
    PreparedDuration: Interval, beside pg_prepared_xacts::gid,
    since!(r#""pg_catalog"."pg_prepared_xacts"."prepared""#)
}
