//! The statement behind [`WaitGraph`](crate::WaitGraph).

use diesel::expression::Selectable;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, QueryFragment};
use diesel::result::Error::QueryBuilderError;
use diesel::sql_types::{Array, Integer, Nullable};

use crate::session::ColumnsOf;
use crate::session::{query, render};
use crate::views::{
    LockedRelationIsHere, NAMELESS_ACTIVITY, NAMELESS_LOCK, NAMELESS_PREPARED, PgLock,
    PreparedTransaction, ROW_WAITS,
};

/// The views as Diesel writes them.
const PG_LOCKS: &str = r#""pg_catalog"."pg_locks""#;
const PG_STAT_ACTIVITY: &str = r#""pg_catalog"."pg_stat_activity""#;

/// Reads all locks on objects for which a session waits, in one snapshot.
///
/// `pg_locks` is copied once, and in any case: `pg_stat_activity` has no row for a session
/// that still connects, and hides waits from roles without privileges.
#[derive(Clone, Copy, Debug)]
pub struct WaitGraphRows;

/// A lock with its session, its blockers, and its prepared transaction.
///
/// An awaited lock on a transaction has the relation and the row of the wait, if known.
/// The session of a process of a parallel query is its leader.
#[derive(Debug, Queryable)]
pub struct WaitGraphRow {
    pub lock: PgLock,
    /// The result of `pg_blocking_pids`; `None` for a held lock.
    pub blocking_pids: Option<Vec<i32>>,
    /// The prepared transaction that holds the lock.
    pub prepared: Option<PreparedTransaction>,
}

/// The SQL types of a [`WaitGraphRow`].
pub type Columns = (
    ColumnsOf<PgLock>,
    Nullable<Array<Integer>>,
    Nullable<ColumnsOf<PreparedTransaction>>,
);

query!(WaitGraphRows => Columns, WaitGraphRow);

/// Reads each view once, as `sessions`, `locks` and `prepared`; `row_waits` follow.
const SNAPSHOTS: &str = "WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_locks), \
    sessions AS MATERIALIZED (SELECT * FROM pg_catalog.pg_stat_activity), \
    prepared AS MATERIALIZED (SELECT virtualtransaction, transactionid FROM locks \
    WHERE pid IS NULL AND locktype = 'transactionid' AND granted), ";

/// Joins the locks with their databases and, on a condition to follow, their relations.
const FROM_LOCKS: &str = "FROM locks AS l LEFT JOIN row_waits ON row_waits.pid = l.pid \
    AND NOT l.granted AND l.locktype = 'transactionid' \
    LEFT JOIN pg_catalog.pg_database ON pg_database.oid = COALESCE(l.database, row_waits.database) \
    LEFT JOIN pg_catalog.pg_class ON ";

/// Joins the schemas, the sessions (of a parallel worker: its leader), and the prepared
/// transactions.
const JOINS: &str = " LEFT JOIN pg_catalog.pg_namespace ON pg_namespace.oid = pg_class.relnamespace \
    LEFT JOIN sessions AS process ON process.pid = l.pid \
    LEFT JOIN sessions ON sessions.pid = CASE process.backend_type \
    WHEN 'parallel worker' THEN process.leader_pid ELSE l.pid END \
    LEFT JOIN (prepared JOIN pg_catalog.pg_prepared_xacts ON pg_prepared_xacts.transaction = prepared.transactionid) \
    ON l.pid IS NULL AND prepared.virtualtransaction = l.virtualtransaction ";

/// The columns that identify the locked object.
///
/// A 0 or an empty text instead of NULL makes tags comparable. It cannot confuse two objects,
/// since locks of one type use the same columns.
const LOCK_TAG: &str = "l.locktype, COALESCE(l.database, 0), COALESCE(l.relation, 0), \
    COALESCE(l.page, 0), COALESCE(l.tuple, 0), COALESCE(l.virtualxid, ''), \
    COALESCE(l.transactionid::pg_catalog.text, ''), COALESCE(l.classid, 0), \
    COALESCE(l.objid, 0), COALESCE(l.objsubid, 0)";

impl QueryFragment<Pg> for WaitGraphRows {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(SNAPSHOTS);
        out.push_sql(ROW_WAITS);
        out.push_sql(" SELECT ");
        out.push_sql(&lock_columns()?);
        out.push_sql(", ");
        out.push_sql(BLOCKING_PIDS);
        out.push_sql(", ");
        out.push_sql(&render(
            &<PreparedTransaction as Selectable<Pg>>::construct_selection(),
        )?);
        out.push_sql(" ");
        out.push_sql(FROM_LOCKS);
        let is_here = render(&LockedRelationIsHere)?;
        out.push_sql(&with_rows(&read_from("l", PG_LOCKS, &is_here)?));
        out.push_sql(JOINS);
        out.push_sql("WHERE ");
        walk_is_awaited(out)
    }
}

/// Reads the same without a catalog, and so without the names of relations and objects.
///
/// It works while a session locks a catalog. A wait for a row has no relation then.
#[derive(Clone, Copy, Debug)]
pub struct NamelessGraphRows;

query!(NamelessGraphRows => Columns, WaitGraphRow);

const NAMELESS_SNAPSHOTS: &str = "WITH locks AS MATERIALIZED (SELECT * FROM pg_catalog.pg_lock_status()), \
    sessions AS MATERIALIZED (SELECT * FROM pg_catalog.pg_stat_get_activity(NULL)) SELECT ";

const NAMELESS_JOINS: &str = " FROM locks AS l LEFT JOIN sessions AS process ON process.pid = l.pid \
    LEFT JOIN sessions AS a ON a.pid = CASE process.backend_type \
    WHEN 'parallel worker' THEN process.leader_pid ELSE l.pid END \
    LEFT JOIN (locks AS own JOIN pg_catalog.pg_prepared_xact() AS x ON x.transaction = own.transactionid \
    AND own.pid IS NULL AND own.granted AND own.locktype = 'transactionid') \
    ON l.pid IS NULL AND own.virtualtransaction = l.virtualtransaction WHERE ";

impl QueryFragment<Pg> for NamelessGraphRows {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(NAMELESS_SNAPSHOTS);
        for columns in [NAMELESS_LOCK, NAMELESS_ACTIVITY, BLOCKING_PIDS] {
            out.push_sql(columns);
            out.push_sql(", ");
        }
        out.push_sql(NAMELESS_PREPARED);
        out.push_sql(NAMELESS_JOINS);
        walk_is_awaited(out)
    }
}

/// The blockers of the lock `l`; NULL for a held lock.
const BLOCKING_PIDS: &str = "CASE WHEN NOT l.granted THEN pg_catalog.pg_blocking_pids(l.pid) END";

/// Writes the condition that a session waits for the object of the lock `l`.
///
/// As a value the set is hashed. As a join of ten columns it would be expected to have one row,
/// and looped over.
fn walk_is_awaited(mut out: AstPass<'_, '_, Pg>) -> QueryResult<()> {
    out.push_sql("(");
    out.push_sql(LOCK_TAG);
    out.push_sql(") IN (SELECT ");
    out.push_sql(LOCK_TAG);
    out.push_sql(" FROM locks AS l WHERE NOT l.granted) IS TRUE");
    Ok(())
}

/// Renders the columns of a [`PgLock`], from the snapshots instead of the views.
///
/// A CTE has no qualified name, so an alias cannot replace the name of a view.
fn lock_columns() -> QueryResult<String> {
    let columns = render(&PgLock::construct_selection())?;
    let columns = read_from("l", PG_LOCKS, &columns)?;
    read_from("sessions", PG_STAT_ACTIVITY, &with_rows(&columns))
}

/// Adds the row for which a session waits to its lock on a transaction, which names none.
fn with_rows(sql: &str) -> String {
    let columns = ["relation", "page", "tuple"];
    columns.iter().fold(sql.to_owned(), |sql, column| {
        let own = format!("l.\"{column}\"");
        let completed = format!("COALESCE({own}, row_waits.{column})");
        sql.replace(&own, &completed)
    })
}

/// Replaces a view by its snapshot; an error if the SQL does not mention the view.
fn read_from(snapshot: &str, view: &str, sql: &str) -> QueryResult<String> {
    if !sql.contains(view) {
        let message = format!("{view} is not mentioned in {sql}");
        return Err(QueryBuilderError(message.into()));
    }
    Ok(sql.replace(view, snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_of_a_lock_and_its_session_is_read_from_the_snapshots() {
        let columns = lock_columns().unwrap();
        assert!(columns.contains(r#"l."pid""#), "{columns}");
        assert!(columns.contains(r#"sessions."pid""#), "{columns}");
        assert!(!columns.contains("pg_locks"), "{columns}");
        assert!(!columns.contains("pg_stat_activity"), "{columns}");
    }

    #[test]
    fn sql_that_does_not_mention_a_view_is_refused() {
        let unquoted = "pg_locks.pid, pg_stat_activity.pid";
        assert!(read_from("l", PG_LOCKS, unquoted).is_err());
    }
}
