use std::future::Future;

use diesel::pg::Pg;
use diesel::{ConnectionError, ConnectionResult};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::error::{Error, Result};

/// Where a [`Prioritizer`](crate::Prioritizer) of an async run gets its watcher's
/// connection from: a database URL, a bb8, deadpool or mobc pool, or a closure that
/// returns a future of a connection. That is `move || { let url = url.clone(); async move { … } }`:
/// an `async` closure that captures something could not be called more than once.
///
/// What holds for [`WatcherSource`](crate::WatcherSource) holds here. A URL is
/// connected to without TLS; for more use a closure or a pool.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no source of async watcher connections",
    note = "a source is a database URL, a pool (features `bb8`, `deadpool`, `mobc`), or a closure that returns a future of `ConnectionResult<C>`"
)]
pub trait AsyncWatcherSource: Send + Sync {
    /// What it gives.
    type Connection: AsyncConnection<Backend = Pg>;

    /// Opens a connection, or takes one from the pool.
    ///
    /// # Errors
    ///
    /// [`Error::Watcher`] when there is none.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection>> + Send;
}

impl AsyncWatcherSource for String {
    type Connection = AsyncPgConnection;

    async fn connect(&self) -> Result<AsyncPgConnection> {
        AsyncWatcherSource::connect(&self.as_str()).await
    }
}

impl AsyncWatcherSource for &str {
    type Connection = AsyncPgConnection;

    async fn connect(&self) -> Result<AsyncPgConnection> {
        let connected = AsyncPgConnection::establish(self).await;
        connected.map_err(|error| super::redact::conceal(error, self))
    }
}

impl<F, Fut, C> AsyncWatcherSource for F
where
    F: Fn() -> Fut + Send + Sync,
    Fut: Future<Output = ConnectionResult<C>> + Send,
    C: AsyncConnection<Backend = Pg>,
{
    type Connection = C;

    async fn connect(&self) -> Result<C> {
        self().await.map_err(no_connection::<ConnectionError>)
    }
}

fn no_connection<E: std::error::Error + Send + Sync + 'static>(error: E) -> Error {
    Error::Watcher(Box::new(error))
}

#[cfg(feature = "bb8")]
impl<C> AsyncWatcherSource for diesel_async::pooled_connection::bb8::Pool<C>
where
    C: AsyncConnection<Backend = Pg>
        + diesel_async::pooled_connection::PoolableConnection
        + 'static,
    diesel_async::pooled_connection::AsyncDieselConnectionManager<C>:
        bb8::ManageConnection<Connection = C, Error = diesel_async::pooled_connection::PoolError>,
{
    type Connection = bb8::PooledConnection<
        'static,
        diesel_async::pooled_connection::AsyncDieselConnectionManager<C>,
    >;

    async fn connect(&self) -> Result<Self::Connection> {
        self.get_owned().await.map_err(no_connection)
    }
}

#[cfg(feature = "deadpool")]
impl<C> AsyncWatcherSource for diesel_async::pooled_connection::deadpool::Pool<C>
where
    C: AsyncConnection<Backend = Pg> + 'static,
    diesel_async::pooled_connection::AsyncDieselConnectionManager<C>:
        deadpool::managed::Manager<Type = C, Error = diesel_async::pooled_connection::PoolError>,
{
    type Connection = diesel_async::pooled_connection::deadpool::Object<C>;

    async fn connect(&self) -> Result<Self::Connection> {
        self.get().await.map_err(no_connection)
    }
}

#[cfg(feature = "mobc")]
impl<C> AsyncWatcherSource for diesel_async::pooled_connection::mobc::Pool<C>
where
    C: AsyncConnection<Backend = Pg> + 'static,
    diesel_async::pooled_connection::AsyncDieselConnectionManager<C>:
        mobc::Manager<Connection = C, Error = diesel_async::pooled_connection::PoolError>,
{
    type Connection = diesel_async::pooled_connection::mobc::PooledConnection<C>;

    async fn connect(&self) -> Result<Self::Connection> {
        self.get().await.map_err(no_connection)
    }
}
