//! A mobc pool as a source.

use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::mobc::{Pool, PooledConnection};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};
use mobc::Manager;

use super::async_watcher_source::{AsyncWatcherSource, watcher_error};
use crate::error::Result;

impl<C> AsyncWatcherSource for Pool<C>
where
    C: AsyncConnection<Backend = Pg> + 'static,
    AsyncDieselConnectionManager<C>: Manager<Connection = C, Error = PoolError>,
{
    type Connection = PooledConnection<C>;

    async fn connect(&self) -> Result<Self::Connection> {
        self.get().await.map_err(watcher_error)
    }
}
