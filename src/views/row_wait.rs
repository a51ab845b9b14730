//! The tables of waits for rows.
//!
//! A session that waits for a changed row awaits a lock on the transaction that changed it.
//! `pg_locks` does not name the row, but shows other locks that do.

/// The CTEs that find the rows of such waits, as `row_waits`; they read the CTE `locks`.
///
/// An update, a delete, a row lock and the check of a foreign key hold a lock on the row while
/// they wait. An insert of a key that another transaction has inserted holds no such lock: its
/// table is the only one that both transactions have written, and of which the waiter holds an
/// index. If there are several such tables, the server does not show which it is.
pub const ROW_WAITS: &str = "row_waiters AS (SELECT l.pid, l.transactionid FROM locks AS l \
    WHERE NOT l.granted AND l.locktype OPERATOR(pg_catalog.=) 'transactionid'), \
    row_locks AS (SELECT DISTINCT ON (l.pid) l.pid, l.database, l.relation, l.page, l.tuple \
    FROM row_waiters AS w JOIN locks AS l ON l.pid OPERATOR(pg_catalog.=) w.pid \
    WHERE l.granted AND l.locktype OPERATOR(pg_catalog.=) 'tuple' \
    AND l.mode OPERATOR(pg_catalog.<>) 'SIReadLock' ORDER BY l.pid), \
    written AS (SELECT DISTINCT l.virtualtransaction, l.database, l.relation FROM locks AS l \
    WHERE l.granted AND l.locktype OPERATOR(pg_catalog.=) 'relation' \
    AND l.mode OPERATOR(pg_catalog.=) 'RowExclusiveLock'), \
    written_by_both AS (SELECT DISTINCT w.pid, mine.database, mine.relation \
    FROM row_waiters AS w \
    JOIN locks AS own ON own.pid OPERATOR(pg_catalog.=) w.pid AND NOT own.granted \
    JOIN locks AS holder ON holder.transactionid OPERATOR(pg_catalog.=) w.transactionid \
    AND holder.granted AND holder.locktype OPERATOR(pg_catalog.=) 'transactionid' \
    JOIN written AS mine ON mine.virtualtransaction OPERATOR(pg_catalog.=) own.virtualtransaction \
    JOIN written AS theirs ON theirs.virtualtransaction OPERATOR(pg_catalog.=) holder.virtualtransaction \
    AND theirs.database OPERATOR(pg_catalog.=) mine.database \
    AND theirs.relation OPERATOR(pg_catalog.=) mine.relation \
    LEFT JOIN row_locks AS r ON r.pid OPERATOR(pg_catalog.=) w.pid \
    WHERE r.pid IS NULL AND EXISTS (SELECT FROM pg_catalog.pg_database AS d \
    WHERE d.oid OPERATOR(pg_catalog.=) mine.database \
    AND (d.datname OPERATOR(pg_catalog.<>) pg_catalog.current_database() OR EXISTS (SELECT \
    FROM pg_catalog.pg_index AS i JOIN written AS x ON x.relation OPERATOR(pg_catalog.=) i.indexrelid \
    WHERE i.indrelid OPERATOR(pg_catalog.=) mine.relation \
    AND x.database OPERATOR(pg_catalog.=) mine.database \
    AND x.virtualtransaction OPERATOR(pg_catalog.=) own.virtualtransaction)))), \
    row_waits AS (SELECT r.pid, r.database, r.relation, r.page, r.tuple FROM row_locks AS r \
    UNION ALL SELECT b.pid, pg_catalog.min(b.database), pg_catalog.min(b.relation), \
    NULL::pg_catalog.int4, NULL::pg_catalog.int2 FROM written_by_both AS b GROUP BY b.pid \
    HAVING pg_catalog.count(*) OPERATOR(pg_catalog.=) 1)";
