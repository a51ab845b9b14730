//! The driver of sync connections, whose futures are always ready.

use std::future::{Future, ready as done};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use diesel::connection::{
    DefaultLoadingMode, LoadConnection, TransactionManager, TransactionManagerStatus,
};
use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::{Connection, QueryResult};

use super::action::{Action, Session};
use super::driver::{Driver, build};
use crate::error::Result;

/// Drives a sync connection; its futures are always ready.
pub struct SyncDriver<'c, C>(pub &'c mut C);

impl<C> Driver for SyncDriver<'_, C>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    fn load<Q, ST, R>(&mut self, query: Q) -> impl Future<Output = QueryResult<Vec<R>>> + Send
    where
        Q: Query + QueryFragment<Pg> + QueryId + Send + 'static,
        Pg: QueryMetadata<Q::SqlType>,
        R: FromSqlRow<ST, Pg> + Send + 'static,
        ST: 'static,
    {
        let rows = LoadConnection::<DefaultLoadingMode>::load(self.0, query);
        done(rows.and_then(|rows| rows.map(|row| build(&row?)).collect()))
    }

    fn execute<Q>(&mut self, query: Q) -> impl Future<Output = QueryResult<()>> + Send
    where
        Q: QueryFragment<Pg> + QueryId + Send + 'static,
    {
        done(self.0.execute_returning_count(&query).map(drop))
    }

    fn begin(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        done(C::TransactionManager::begin_transaction(self.0))
    }

    fn commit(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        done(C::TransactionManager::commit_transaction(self.0))
    }

    fn rollback(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        done(C::TransactionManager::rollback_transaction(self.0))
    }

    fn status(&mut self) -> &mut TransactionManagerStatus {
        C::TransactionManager::transaction_manager_status_mut(self.0)
    }

    /// Diesel counts an open transaction as broken, but for a test transaction.
    fn is_test_transaction(&mut self) -> bool {
        self.depth() == Ok(1) && !C::TransactionManager::is_broken_transaction_manager(self.0)
    }

    fn batch_execute(&mut self, sql: &str) -> impl Future<Output = QueryResult<()>> + Send {
        done(self.0.batch_execute(sql))
    }

    fn terminate_without_waiting(&mut self) {
        run_ready(self.end_session());
    }

    fn pause(&mut self, time: Duration) -> impl Future<Output = ()> + Send {
        std::thread::sleep(time);
        done(())
    }
}

/// Runs a flow over a [`SyncDriver`].
pub(crate) fn run_ready<T>(flow: impl Future<Output = T>) -> T {
    match pin!(flow).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("a sync connection answers before it returns"),
    }
}

/// The [`Session`] is a sync connection.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sync;

impl<C> Session<Sync> for C
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    type Output<'c, T: Send + 'static>
        = Result<T>
    where
        C: 'c;

    fn run_action<P: Action>(&mut self, plan: P) -> Result<P::Output> {
        run_ready(plan.run(&mut SyncDriver(self)))
    }
}
