//! SQL texts that several statements share, as macros, so that `concat!` can join them.

/// Selects the `oid` of the session's database.
///
/// `pg_locks` and `pg_stat_activity` show databases by `oid`; no function returns this one.
macro_rules! current_database_oid {
    () => {
        "(SELECT d.oid FROM pg_catalog.pg_database AS d \
         WHERE d.datname = pg_catalog.current_database())"
    };
}

/// Selects a column if the server has it, and otherwise NULL.
///
/// The innermost query looks the bare name up among the columns of the view. Where the view
/// has no such column, the name refers to the NULL of the outer query. The planner folds the
/// subqueries into the scan, which costs about 0.2 µs per row.
macro_rules! optional {
    ($table:expr, $column:literal, $sql_type:literal) => {
        concat!(
            "(SELECT it.",
            $column,
            " FROM (SELECT NULL::pg_catalog.",
            $sql_type,
            " AS ",
            $column,
            ") AS no, LATERAL (SELECT ",
            $column,
            " FROM (SELECT ",
            $table,
            ".*) AS its) AS it)"
        )
    };
}

/// Subtracts a time from the clock; `now()` would return the start of the transaction.
macro_rules! since {
    ($time:expr) => {
        concat!("(pg_catalog.clock_timestamp() - ", $time, ")")
    };
}

pub(super) use since;
pub(crate) use {current_database_oid, optional};

/// The [`current_database_oid!`] as a constant, for statements that are pushed piece by piece.
pub(crate) const CURRENT_DATABASE_OID: &str = current_database_oid!();
