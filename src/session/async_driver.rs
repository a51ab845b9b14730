//! The driver of async connections.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel_async::{AsyncConnection, TransactionManager};
use futures_util::TryStreamExt;

use super::action::{Action, Session};
use super::driver::{Driver, build};
use super::statement::END_SESSION;
use crate::error::Result;

/// The number of requests that end a session, of which the first usually ends it.
pub(super) const END_REQUESTS: usize = 5;

/// Drives an async connection.
///
/// The futures of diesel-async are boxed: a flow that awaits several of them would else be
/// several times as large as its closure, and so would each future of the caller.
pub struct AsyncDriver<'c, C>(pub &'c mut C);

impl<C> Driver for AsyncDriver<'_, C>
where
    C: AsyncConnection<Backend = Pg>,
{
    async fn load<Q, ST, R>(&mut self, query: Q) -> QueryResult<Vec<R>>
    where
        Q: Query + QueryFragment<Pg> + QueryId + Send + 'static,
        Pg: QueryMetadata<Q::SqlType>,
        R: FromSqlRow<ST, Pg> + Send + 'static,
        ST: 'static,
    {
        let rows = Box::pin(self.0.load(query)).await?;
        let rows = rows.and_then(|row| std::future::ready(build::<R, ST>(&row)));
        Box::pin(rows.try_collect()).await
    }

    async fn execute<Q>(&mut self, query: Q) -> QueryResult<()>
    where
        Q: QueryFragment<Pg> + QueryId + Send + 'static,
    {
        Box::pin(self.0.execute_returning_count(query))
            .await
            .map(drop)
    }

    async fn begin(&mut self) -> QueryResult<()> {
        if self.is_interrupted() {
            return Err(diesel::result::Error::BrokenTransactionManager);
        }
        Box::pin(C::TransactionManager::begin_transaction(self.0)).await
    }

    /// Commits, and rolls back to a savepoint whose release failed.
    ///
    /// diesel-async considers such a savepoint closed. In an aborted transaction the release
    /// fails, and the transaction stays aborted until a rollback to the savepoint.
    async fn commit(&mut self) -> QueryResult<()> {
        let depth = self.depth()?;
        let committed = Box::pin(C::TransactionManager::commit_transaction(self.0)).await;
        if committed.is_err() && depth > 1 {
            let rollback = format!("ROLLBACK TO SAVEPOINT diesel_savepoint_{}", depth - 1);
            Box::pin(self.0.batch_execute(&rollback)).await?;
        }
        committed
    }

    async fn rollback(&mut self) -> QueryResult<()> {
        Box::pin(C::TransactionManager::rollback_transaction(self.0)).await
    }

    /// Reads the flag of diesel-async for such a future.
    ///
    /// The flag is shown combined with the status, so an empty status takes its place meanwhile.
    fn is_interrupted(&mut self) -> bool {
        let status = std::mem::take(self.status());
        let interrupted = C::TransactionManager::is_broken_transaction_manager(self.0);
        *self.status() = status;
        interrupted
    }

    /// diesel-async counts an open transaction as broken, but for a test transaction.
    fn is_test_transaction(&mut self) -> bool {
        self.depth() == Ok(1) && !C::TransactionManager::is_broken_transaction_manager(self.0)
    }

    fn status(&mut self) -> &mut TransactionManagerStatus {
        C::TransactionManager::transaction_manager_status_mut(self.0)
    }

    async fn batch_execute(&mut self, sql: &str) -> QueryResult<()> {
        Box::pin(self.0.batch_execute(sql)).await
    }

    /// Ends the session as soon as its running statement is done: a request leaves with the
    /// first poll, and does not need a caller that waits for the answer.
    ///
    /// The mark alone would do for bb8 and deadpool. A connection of one's own lives
    /// on with it, and mobc, as diesel-async 0.9 uses it, hands out again what is marked.
    ///
    /// The request is sent several times: a cancel or a timeout ends one of them.
    fn terminate_without_waiting(&mut self) {
        for _ in 0..END_REQUESTS {
            let ending = self.0.batch_execute(END_SESSION);
            let _ = pin!(ending).poll(&mut Context::from_waker(Waker::noop()));
        }
        self.status().set_in_error();
    }

    async fn pause(&mut self, time: Duration) {
        Box::pin(tokio::time::sleep(time)).await;
    }
}

/// The [`Session`] is an async connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Async;

impl<C> Session<Async> for C
where
    C: AsyncConnection<Backend = Pg>,
{
    type Output<'c, T: Send + 'static>
        = Pin<Box<dyn Future<Output = Result<T>> + Send + 'c>>
    where
        C: 'c;

    fn run_action<P: Action>(&mut self, plan: P) -> Self::Output<'_, P::Output> {
        Box::pin(async move { plan.run(&mut AsyncDriver(self)).await })
    }
}
