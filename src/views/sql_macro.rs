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

/// Selects the sessions that hold up the replay of a standby, if the row of `pg_locks` is its wait.
///
/// `pg_blocking_pids` has no answer for the process that replays. Only that process awaits
/// this mode in recovery, and the mode conflicts with all others.
macro_rules! blockers_of_replay {
    ($locks:expr) => {
        concat!(
            "SELECT held.pid FROM pg_catalog.pg_lock_status() AS held WHERE (SELECT pg_catalog.pg_is_in_recovery()) \
             AND NOT ",
            $locks,
            ".granted AND ",
            $locks,
            ".locktype = 'relation' AND ",
            $locks,
            ".mode = 'AccessExclusiveLock' AND held.granted AND held.locktype = 'relation' \
             AND held.mode <> 'SIReadLock' AND held.database = ",
            $locks,
            ".database AND held.relation = ",
            $locks,
            ".relation AND held.pid <> ",
            $locks,
            ".pid"
        )
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

/// Replaces the text that the view shows instead of a hidden query by NULL.
macro_rules! visible_query {
    ($activity:expr) => {
        concat!(
            "NULLIF(",
            $activity,
            r#"."query", '<insufficient privilege>')"#
        )
    };
}

/// Selects the bytes of a query, in a database whose encoding is UTF8 or SQL_ASCII.
///
/// Where the server sends text as it stores it, that is a copy. A decoding never fails.
macro_rules! decoded_query {
    ($activity:expr) => {
        concat!(
            "WHEN (SELECT pg_catalog.current_setting('server_encoding') = 'UTF8' \
             AND pg_catalog.current_setting('client_encoding') = 'UTF8') \
             THEN pg_catalog.textsend(",
            visible_query!($activity),
            ") WHEN (SELECT pg_catalog.current_setting('server_encoding') IN ('UTF8', 'SQL_ASCII')) \
             THEN pg_catalog.decode(pg_catalog.replace(",
            visible_query!($activity),
            r", E'\\', E'\\\\'), 'escape') "
        )
    };
}

/// Selects the query of the session `a` as bytes; NULL in a database with another encoding than UTF8.
///
/// It reads no catalog.
macro_rules! utf8_query {
    () => {
        concat!("CASE ", decoded_query!("a"), "END")
    };
}

pub(super) use {blockers_of_replay, decoded_query, since, utf8_query, visible_query};
pub(crate) use {current_database_oid, optional};

/// The blockers of the replay, for the row `w` of `pg_locks`.
pub(crate) const BLOCKERS_OF_REPLAY: &str = blockers_of_replay!("w");

/// The [`current_database_oid!`] as a constant, for statements that are pushed piece by piece.
pub(crate) const CURRENT_DATABASE_OID: &str = current_database_oid!();
