//! The trait of this crate's statements, and statements that several folders send.

use diesel::QueryResult;
use diesel::pg::{Pg, PgQueryBuilder};
use diesel::query_builder::{AstPass, Query, QueryBuilder, QueryFragment, QueryId};
use diesel::sql_types::{Integer, Nullable, Text};

/// A query of this crate, which knows what its row is read into.
pub trait Statement: Query + QueryFragment<Pg> + QueryId + Send + 'static {
    /// The type that a row is read into.
    type Row: Send + 'static;
}

/// Makes a struct that implements `QueryFragment<Pg>` a query with rows of `$sql`, read into `$row`.
///
/// The statement cache distinguishes it by its text, never by its type: the text depends on
/// its value.
macro_rules! query {
    ($name:ty => $sql:ty, $row:ty) => {
        impl $crate::session::Statement for $name {
            type Row = $row;
        }
        impl ::diesel::query_builder::Query for $name {
            type SqlType = $sql;
        }
        $crate::session::command!($name);
    };
}

/// The same for a statement without rows.
macro_rules! command {
    ($name:ty) => {
        impl ::diesel::query_builder::QueryId for $name {
            type QueryId = ();
            const HAS_STATIC_QUERY_ID: bool = false;
        }
    };
}

pub(crate) use {command, query};

/// Returns the text of a part of a statement, which must have no parameters.
pub(crate) fn render(fragment: &impl QueryFragment<Pg>) -> QueryResult<String> {
    let mut sql = PgQueryBuilder::new();
    fragment.to_sql(&mut sql, &Pg)?;
    Ok(sql.finish())
}

/// The custom setting in which a `DO` block, which has no rows, leaves its outcome.
pub(crate) const OUTCOME: &str = "diesel_pglock.outcome";

/// The outcome of a block that got its lock.
pub(crate) const ACQUIRED: &str = "acquired";

/// The outcome of a block that did not get its lock.
pub(crate) const BUSY: &str = "busy";

/// Reads the outcome that a `DO` block left, and clears it.
#[derive(Debug)]
pub(crate) struct TakeOutcome {
    /// `true` if the block ran inside a transaction, and the setting ends with it.
    pub(crate) local: bool,
}

// The outcome, and the backend that has the lock.
query!(TakeOutcome => (Nullable<Text>, Integer), (Option<String>, i32));

impl QueryFragment<Pg> for TakeOutcome {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // OFFSET 0 keeps the subquery apart, so that the value is read before it is cleared.
        out.push_sql("SELECT o.outcome, pg_catalog.pg_backend_pid(), pg_catalog.set_config('");
        out.push_sql(OUTCOME);
        out.push_sql("', '', ");
        out.push_sql(if self.local { "true" } else { "false" });
        out.push_sql(") FROM (SELECT pg_catalog.current_setting('");
        out.push_sql(OUTCOME);
        out.push_sql("', true) AS outcome OFFSET 0) AS o");
        Ok(())
    }
}

/// The process id of the session's backend.
#[derive(Debug)]
pub(crate) struct BackendPid;

query!(BackendPid => Integer, i32);

impl QueryFragment<Pg> for BackendPid {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_backend_pid()");
        Ok(())
    }
}

/// Ends the session that sends it, as one simple query.
///
/// The rollback comes first because an aborted transaction accepts no other statement. Only the
/// role that logged in may end the session.
///
/// If that role lacks the privilege too, or the statement is cancelled, the transaction is
/// aborted and can do no work. The server then ends the session a millisecond later. The limit
/// is committed before, or the failure would undo it. The session's own `statement_timeout` would
/// end these statements as well.
pub(crate) const END_SESSION: &str = "ROLLBACK; BEGIN; SET statement_timeout = 0; \
    SET SESSION AUTHORIZATION DEFAULT; SET ROLE NONE; \
    SET idle_in_transaction_session_timeout = 1; COMMIT; BEGIN; \
    SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())";
