//! The operations on a session that flows need, so that a flow exists once for sync and async.
//!
//! A flow is an `async fn` over a [`Driver`]. On a sync connection each of its
//! futures is ready at once, so [`run_ready`](super::sync_driver::run_ready) runs the flow in a single poll.

use std::future::Future;
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};

use super::statement::{END_SESSION, Statement};
use crate::error::{Error, Result};

/// One session, over a sync or an async connection.
pub trait Driver: Send {
    /// Sends a query and reads all of its rows.
    ///
    /// `ST` is the SQL type the row is built from; for a `SelectBy` that of its columns.
    fn load<Q, ST, R>(&mut self, query: Q) -> impl Future<Output = QueryResult<Vec<R>>> + Send
    where
        Q: Query + QueryFragment<Pg> + QueryId + Send + 'static,
        Pg: QueryMetadata<Q::SqlType>,
        R: FromSqlRow<ST, Pg> + Send + 'static,
        ST: 'static;

    /// Sends a statement that has one row, and reads it.
    fn ask<Q>(&mut self, query: Q) -> impl Future<Output = Result<Q::Row>> + Send
    where
        Q: Statement,
        Q::SqlType: 'static,
        Q::Row: FromSqlRow<Q::SqlType, Pg>,
        Pg: QueryMetadata<Q::SqlType>,
    {
        async move {
            let rows = self.load::<Q, Q::SqlType, Q::Row>(query).await?;
            let first = rows.into_iter().next();
            Ok(first.ok_or(diesel::result::Error::NotFound)?)
        }
    }

    /// As [`load`](Self::load), behind a savepoint and with a new snapshot of the sessions: a
    /// failure leaves an open transaction usable.
    ///
    /// The savepoint is not Diesel's, so one that a dropped future leaves behind does no harm.
    fn load_in_savepoint<Q, ST, R>(
        &mut self,
        query: Q,
    ) -> impl Future<Output = Result<QueryResult<Vec<R>>>> + Send
    where
        Q: Query + QueryFragment<Pg> + QueryId + Send + 'static,
        Pg: QueryMetadata<Q::SqlType>,
        R: FromSqlRow<ST, Pg> + Send + 'static,
        ST: 'static,
    {
        async move {
            if self.depth()? == 0 {
                return Ok(self.load::<Q, ST, R>(query).await);
            }
            let begin = "SELECT pg_catalog.pg_stat_clear_snapshot(); SAVEPOINT diesel_pglock";
            self.batch_execute(begin).await?;
            let rows = self.load::<Q, ST, R>(query).await;
            self.batch_execute(match rows {
                Ok(_) => "RELEASE SAVEPOINT diesel_pglock",
                Err(_) => "ROLLBACK TO SAVEPOINT diesel_pglock; RELEASE SAVEPOINT diesel_pglock",
            })
            .await?;
            Ok(rows)
        }
    }

    /// Makes the next read of `pg_stat_activity` show the present.
    ///
    /// Within a transaction it would show again what the first read showed.
    fn clear_stat_snapshot(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        async move {
            if self.depth()? > 0 {
                let clear = "SELECT pg_catalog.pg_stat_clear_snapshot()";
                self.batch_execute(clear).await?;
            }
            Ok(())
        }
    }

    /// Sends a statement that has no rows.
    fn execute<Q>(&mut self, query: Q) -> impl Future<Output = QueryResult<()>> + Send
    where
        Q: QueryFragment<Pg> + QueryId + Send + 'static;

    /// Opens a transaction, or a savepoint in an open one.
    fn begin(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Commits the innermost transaction or releases the innermost savepoint.
    fn commit(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Rolls the innermost transaction or savepoint back.
    fn rollback(&mut self) -> impl Future<Output = QueryResult<()>> + Send;

    /// Returns Diesel's record of the session's transaction.
    fn status(&mut self) -> &mut TransactionManagerStatus;

    /// Returns `true` if a future was dropped during a `BEGIN`, `COMMIT` or `ROLLBACK`: the
    /// number of levels that the server has open is then unknown.
    fn is_interrupted(&mut self) -> bool {
        false
    }

    /// Returns the number of open transactions and savepoints.
    fn depth(&mut self) -> QueryResult<u32> {
        let depth = self.status().transaction_depth()?;
        Ok(depth.map_or(0, |depth| depth.get()))
    }

    /// Refuses to go on outside a transaction.
    fn require_transaction(&mut self) -> Result<()> {
        match self.depth()? {
            0 => Err(Error::NotInTransaction),
            _ => Ok(()),
        }
    }

    /// Returns `true` directly inside Diesel's `begin_test_transaction`.
    fn is_test_transaction(&mut self) -> bool;

    /// Returns the depth at which a call may open a transaction of its own: outside a transaction,
    /// or directly inside a test transaction, where a savepoint stands for it.
    fn depth_of_own_transaction(&mut self) -> Result<u32> {
        match self.depth()? {
            0 => Ok(0),
            1 if self.is_test_transaction() => Ok(1),
            _ => Err(Error::InTransaction),
        }
    }

    /// Refuses to go on inside a transaction.
    fn refuse_transaction(&mut self) -> Result<()> {
        match self.depth()? {
            0 => Ok(()),
            _ => Err(Error::InTransaction),
        }
    }

    /// Rolls back until no more than `depth` transactions and savepoints are open.
    ///
    /// If the rollback to a savepoint fails, the rollback of the level around it decides. The
    /// session ends if the levels are unknown.
    fn unwind(&mut self, depth: u32) -> impl Future<Output = Result<()>> + Send {
        async move {
            if self.is_interrupted() {
                self.end_session().await;
                return Err(diesel::result::Error::BrokenTransactionManager.into());
            }
            let mut rolled_back = Ok(());
            let mut open = self.depth()?;
            while open > depth {
                rolled_back = self.rollback().await;
                match self.depth() {
                    Ok(left) if left < open => open = left,
                    _ => break,
                }
            }
            Ok(rolled_back?)
        }
    }

    /// Ends the transaction or savepoint that was opened at `depth`: commits it after success,
    /// else rolls it back.
    ///
    /// Levels above it were abandoned by a dropped future or a caught panic. Their work is half
    /// done, and always rolled back.
    fn close(&mut self, depth: u32, succeeded: bool) -> impl Future<Output = Result<()>> + Send {
        async move {
            let closed = if succeeded {
                self.commit_level(depth + 1).await
            } else {
                Ok(())
            };
            self.unwind(depth).await?;
            closed
        }
    }

    /// Rolls back the levels above `level`, then commits it.
    fn commit_level(&mut self, level: u32) -> impl Future<Output = Result<()>> + Send {
        async move {
            self.unwind(level).await?;
            if self.depth()? == level {
                self.commit().await?;
            }
            Ok(())
        }
    }

    /// Sends a text without parameters.
    fn batch_execute(&mut self, sql: &str) -> impl Future<Output = QueryResult<()>> + Send;

    /// Ends the session without waiting for an answer, and marks the connection broken.
    fn terminate_without_waiting(&mut self);

    /// Lets time pass.
    fn pause(&mut self, time: Duration) -> impl Future<Output = ()> + Send;

    /// Ends the session, because what it holds is unknown, and marks the connection broken.
    ///
    /// The mark alone is not enough: `PgConnection` removes it when a later statement finds the
    /// session idle.
    fn end_session(&mut self) -> impl Future<Output = ()> + Send {
        async move {
            for round in 0..END_ROUNDS {
                let ended = self.batch_execute(END_SESSION).await;
                if ended.is_err_and(|error| is_lost(&error)) {
                    break;
                }
                // It may have been cancelled, or this role may not end a session: then the
                // server does so once nothing was sent for a while.
                if round > 0 {
                    self.pause(END_PAUSE).await;
                }
            }
            self.status().set_in_error();
        }
    }
}

/// The number of attempts to end a session whose statements are cancelled.
const END_ROUNDS: u32 = 20;

/// The pause in which the server ends a session that is idle in its transaction.
const END_PAUSE: Duration = Duration::from_millis(20);

/// Returns `true` if the error came from the connection, not from the server.
fn is_lost(error: &diesel::result::Error) -> bool {
    use diesel::result::{DatabaseErrorKind::*, Error::DatabaseError};
    matches!(
        error,
        DatabaseError(ClosedConnection | UnableToSendCommand, _)
    )
}

pub(crate) fn build<'r, R, ST>(row: &impl diesel::row::Row<'r, Pg>) -> QueryResult<R>
where
    R: FromSqlRow<ST, Pg>,
{
    R::build_from_row(row).map_err(diesel::result::Error::DeserializationError)
}

/// The SQL type of a row that a query selects `as_select`, for [`Driver::load`].
pub(crate) type ColumnsOf<T> =
    diesel::dsl::SqlTypeOf<<T as diesel::expression::Selectable<Pg>>::SelectExpression>;
