//! Statements that do not rely on Diesel's cache of prepared statements.
//!
//! A migration may deallocate the statements in that cache, with `DISCARD ALL` or
//! `DEALLOCATE ALL`; a cached statement fails from then on.

use std::future::Future;
use std::time::Duration;

use diesel::connection::{LoadConnection, TransactionManagerStatus};
use diesel::deserialize::FromSqlRow;
use diesel::expression::QueryMetadata;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::{Connection, QueryResult};

use super::driver::Driver;
use super::sync_driver::SyncDriver;

/// Sends each statement over another driver, and prepares it each time.
pub(crate) struct Uncached<D>(D);

/// Sends statements over a sync connection, and prepares them each time.
pub(crate) fn uncached<C>(conn: &mut C) -> Uncached<SyncDriver<'_, C>>
where
    C: Connection<Backend = Pg> + LoadConnection,
{
    Uncached(SyncDriver(conn))
}

impl<D: Driver> Driver for Uncached<D> {
    fn load<Q, ST, R>(&mut self, query: Q) -> impl Future<Output = QueryResult<Vec<R>>> + Send
    where
        Q: Query + QueryFragment<Pg> + QueryId + Send + 'static,
        Pg: QueryMetadata<Q::SqlType>,
        R: FromSqlRow<ST, Pg> + Send + 'static,
        ST: 'static,
    {
        self.0.load::<Unprepared<Q>, ST, R>(Unprepared(query))
    }

    fn execute<Q>(&mut self, query: Q) -> impl Future<Output = QueryResult<()>> + Send
    where
        Q: QueryFragment<Pg> + QueryId + Send + 'static,
    {
        self.0.execute(Unprepared(query))
    }

    fn begin(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        self.0.begin()
    }

    fn commit(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        self.0.commit()
    }

    fn rollback(&mut self) -> impl Future<Output = QueryResult<()>> + Send {
        self.0.rollback()
    }

    fn status(&mut self) -> &mut TransactionManagerStatus {
        self.0.status()
    }

    fn batch_execute(&mut self, sql: &str) -> impl Future<Output = QueryResult<()>> + Send {
        self.0.batch_execute(sql)
    }

    fn is_test_transaction(&mut self) -> bool {
        self.0.is_test_transaction()
    }

    fn is_interrupted(&mut self) -> bool {
        self.0.is_interrupted()
    }

    fn terminate_without_waiting(&mut self) {
        self.0.terminate_without_waiting();
    }

    fn pause(&mut self, time: Duration) -> impl Future<Output = ()> + Send {
        self.0.pause(time)
    }
}

/// A statement that is kept out of the cache.
struct Unprepared<Q>(Q);

impl<Q> QueryId for Unprepared<Q> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<Q: Query> Query for Unprepared<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for Unprepared<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.unsafe_to_cache_prepared();
        self.0.walk_ast(out)
    }
}
