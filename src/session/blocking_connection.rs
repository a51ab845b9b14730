//! A sync connection over an async one, for code that has to block, on a thread of its own.
//!
//! Diesel runs a migration on a sync connection. The async connection is shared with the future
//! that waits for the thread. If that future is dropped, it ends the session at once, even
//! while the thread is busy with something else, and each further statement fails.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;
use std::{fmt, vec};

use diesel::connection::{
    AnsiTransactionManager, CacheSize, Connection, ConnectionSealed, Instrumentation,
    InstrumentationEvent, LoadConnection, SimpleConnection, TransactionManager,
};
use diesel::expression::QueryMetadata;
use diesel::migration::{CREATE_MIGRATIONS_TABLE, MigrationConnection};
use diesel::pg::Pg;
use diesel::query_builder::{Query, QueryFragment, QueryId};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel::{ConnectionResult, QueryResult};
use diesel_async::{
    AsyncConnection, AsyncConnectionCore, AsyncPgConnection, SimpleAsyncConnection,
};
use futures_util::StreamExt;
use futures_util::future::{Either, select};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::async_driver::{AsyncDriver, END_REQUESTS};
use super::driver::Driver;
use super::statement::END_SESSION;

/// An owned async connection to PostgreSQL: an `AsyncPgConnection`, or a handle of a bb8, deadpool
/// or mobc pool of them.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot run migrations",
    note = "an owned connection is an `AsyncPgConnection`, or a handle of a bb8, deadpool or mobc pool (features `bb8`, `deadpool`, `mobc`)"
)]
pub trait OwnedAsyncConnection: AsyncConnection<Backend = Pg> + Sync + 'static {
    #[doc(hidden)]
    fn shared(&self) -> &AsyncPgConnection;
}

impl OwnedAsyncConnection for AsyncPgConnection {
    fn shared(&self) -> &AsyncPgConnection {
        self
    }
}

/// Implements the trait for the handles of a pool.
#[cfg(any(feature = "bb8", feature = "deadpool", feature = "mobc"))]
macro_rules! owned_handle {
    ($handle:ty) => {
        impl OwnedAsyncConnection for $handle {
            fn shared(&self) -> &AsyncPgConnection {
                self
            }
        }
    };
}

#[cfg(feature = "bb8")]
owned_handle!(diesel_async::pooled_connection::bb8::PooledConnection<'static, AsyncPgConnection>);
#[cfg(feature = "deadpool")]
owned_handle!(diesel_async::pooled_connection::deadpool::Object<AsyncPgConnection>);
#[cfg(feature = "mobc")]
owned_handle!(diesel_async::pooled_connection::mobc::PooledConnection<AsyncPgConnection>);

/// The pause between two cancels of a session that is to end.
const CANCEL_PAUSE: Duration = Duration::from_millis(100);

/// The limit of the cancels.
const CANCELS: usize = 50;

/// An async connection that a thread and a future share.
pub(crate) struct SharedConnection<C: OwnedAsyncConnection> {
    /// Taken only by `into_inner`.
    conn: Option<C>,
    is_cancelled: watch::Sender<bool>,
}

impl<C: OwnedAsyncConnection> SharedConnection<C> {
    pub(crate) fn new(conn: C) -> Arc<Self> {
        Arc::new(Self {
            conn: Some(conn),
            is_cancelled: watch::Sender::new(false),
        })
    }

    /// Returns the connection, once nothing else shares it.
    pub(crate) fn into_inner(self: Arc<Self>) -> Option<C> {
        Arc::into_inner(self)?.conn.take()
    }

    fn conn(&self) -> QueryResult<&AsyncPgConnection> {
        self.conn.as_ref().map(C::shared).ok_or_else(cancelled)
    }

    /// Ends the session, and lets the statements of the thread fail.
    ///
    /// The requests leave with the first poll, behind a running statement, which a cancel ends.
    /// The cancel may arrive before the statement, or hit a request, so both are repeated.
    pub(crate) fn cancel(self: Arc<Self>, runtime: &Handle) {
        self.is_cancelled.send_replace(true);
        let Ok(mut conn) = self.conn() else { return };
        for _ in 0..END_REQUESTS {
            let ending = SimpleAsyncConnection::batch_execute(&mut conn, END_SESSION);
            let _ = pin!(ending).poll(&mut Context::from_waker(Waker::noop()));
        }
        runtime.spawn(self.cancel_until_closed());
    }

    async fn cancel_until_closed(self: Arc<Self>) {
        let Ok(mut conn) = self.conn() else { return };
        let token = conn.cancel_token();
        for _ in 0..CANCELS {
            let cancel = token.cancel_query(tokio_postgres::NoTls);
            // Without the cancel, the server ends the statement once the connection is closed.
            let is_sent = tokio::time::timeout(CANCEL_PAUSE, cancel).await;
            let answer = SimpleAsyncConnection::batch_execute(&mut conn, END_SESSION);
            let answer = tokio::time::timeout(CANCEL_PAUSE, answer).await;
            let is_closed = answer.is_ok_and(|answer| answer.is_err_and(|it| is_closed(&it)));
            if is_closed || matches!(is_sent, Ok(Err(_))) {
                return;
            }
        }
    }
}

fn is_closed(error: &DieselError) -> bool {
    use DatabaseErrorKind::{ClosedConnection, UnableToSendCommand};
    matches!(
        error,
        DieselError::DatabaseError(ClosedConnection | UnableToSendCommand, _)
    )
}

/// Keeps a pool from handing out a connection whose session was to end.
impl<C: OwnedAsyncConnection> Drop for SharedConnection<C> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.as_mut().filter(|_| *self.is_cancelled.borrow()) {
            AsyncDriver(conn).status().set_in_error();
        }
    }
}

/// Cancels the session when it is dropped, unless the run has ended.
pub(crate) struct CancelOnDrop<C: OwnedAsyncConnection> {
    shared: Option<Arc<SharedConnection<C>>>,
    runtime: Handle,
}

impl<C: OwnedAsyncConnection> CancelOnDrop<C> {
    pub(crate) fn new(shared: &Arc<SharedConnection<C>>, runtime: &Handle) -> Self {
        Self {
            shared: Some(Arc::clone(shared)),
            runtime: runtime.clone(),
        }
    }

    /// Returns the connection of a run that has ended.
    pub(crate) fn into_inner(mut self) -> Option<C> {
        self.shared.take()?.into_inner()
    }
}

impl<C: OwnedAsyncConnection> Drop for CancelOnDrop<C> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.cancel(&self.runtime);
        }
    }
}

/// A sync connection over a shared async one.
///
/// It has a record of the transaction of its own; that of the async connection needs `&mut`.
pub(crate) struct BlockingConnection<C: OwnedAsyncConnection> {
    shared: Arc<SharedConnection<C>>,
    runtime: Handle,
    transaction: AnsiTransactionManager,
    instrumentation: Box<dyn Instrumentation>,
    /// True while the record is brought to the state of the async connection.
    is_muted: bool,
}

impl<C: OwnedAsyncConnection> BlockingConnection<C> {
    /// Creates a connection in which `depth` transactions and savepoints are open.
    pub(crate) fn new(
        shared: Arc<SharedConnection<C>>,
        runtime: Handle,
        depth: u32,
    ) -> QueryResult<Self> {
        let mut conn = Self {
            shared,
            runtime,
            transaction: AnsiTransactionManager::default(),
            instrumentation: Box::new(|_: InstrumentationEvent<'_>| {}),
            is_muted: true,
        };
        for _ in 0..depth {
            AnsiTransactionManager::begin_transaction(&mut conn)?;
        }
        conn.is_muted = false;
        Ok(conn)
    }

    /// Waits for a statement, unless the session is to end.
    fn wait<'s, T>(&self, statement: impl Future<Output = QueryResult<T>> + 's) -> QueryResult<T> {
        let mut is_cancelled = self.shared.is_cancelled.subscribe();
        self.runtime.block_on(async {
            let cancelled_first = pin!(is_cancelled.wait_for(|is_cancelled| *is_cancelled));
            match select(cancelled_first, pin!(statement)).await {
                Either::Left(_) => Err(cancelled()),
                Either::Right((result, _)) => result,
            }
        })
    }
}

/// Returns the error of a statement of a run whose future was dropped.
fn cancelled() -> DieselError {
    let text = "the run was cancelled: its future was dropped".to_owned();
    DieselError::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(text))
}

impl<C: OwnedAsyncConnection> fmt::Debug for BlockingConnection<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockingConnection").finish_non_exhaustive()
    }
}

impl<C: OwnedAsyncConnection> SimpleConnection for BlockingConnection<C> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        if self.is_muted {
            return Ok(());
        }
        let mut conn = self.shared.conn()?;
        self.wait(SimpleAsyncConnection::batch_execute(&mut conn, query))
    }
}

impl<C: OwnedAsyncConnection> ConnectionSealed for BlockingConnection<C> {}

impl<C: OwnedAsyncConnection> Connection for BlockingConnection<C> {
    type Backend = Pg;
    type TransactionManager = AnsiTransactionManager;

    fn establish(_: &str) -> ConnectionResult<Self> {
        let text = "a connection of a migration harness cannot be opened".to_owned();
        Err(diesel::ConnectionError::BadConnection(text))
    }

    fn execute_returning_count<T>(&mut self, source: &T) -> QueryResult<usize>
    where
        T: QueryFragment<Pg> + QueryId,
    {
        let mut conn = self.shared.conn()?;
        self.wait(AsyncConnectionCore::execute_returning_count(
            &mut conn, source,
        ))
    }

    fn transaction_state(&mut self) -> &mut AnsiTransactionManager {
        &mut self.transaction
    }

    fn instrumentation(&mut self) -> &mut dyn Instrumentation {
        &mut *self.instrumentation
    }

    fn set_instrumentation(&mut self, instrumentation: impl Instrumentation) {
        self.instrumentation = Box::new(instrumentation);
    }

    /// Leaves the cache as it is, which the async connection owns.
    fn set_prepared_statement_cache_size(&mut self, _: CacheSize) {}
}

type PgRow = <AsyncPgConnection as AsyncConnectionCore>::Row<'static, 'static>;

impl<C: OwnedAsyncConnection> LoadConnection for BlockingConnection<C> {
    type Cursor<'conn, 'query> = vec::IntoIter<QueryResult<PgRow>>;
    type Row<'conn, 'query> = PgRow;

    fn load<'conn, 'query, T>(
        &'conn mut self,
        source: T,
    ) -> QueryResult<Self::Cursor<'conn, 'query>>
    where
        T: Query + QueryFragment<Pg> + QueryId + 'query,
        Pg: QueryMetadata<T::SqlType>,
    {
        let mut conn = self.shared.conn()?;
        let rows = AsyncConnectionCore::load(&mut conn, source);
        let rows = self.wait(async { Ok(rows.await?.collect::<Vec<_>>().await) })?;
        Ok(rows.into_iter())
    }
}

impl<C: OwnedAsyncConnection> MigrationConnection for BlockingConnection<C> {
    fn setup(&mut self) -> QueryResult<usize> {
        self.batch_execute(CREATE_MIGRATIONS_TABLE).map(|()| 0)
    }
}
