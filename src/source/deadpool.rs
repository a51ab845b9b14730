//! A deadpool pool as a source.

use deadpool::managed::Manager;
use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::deadpool::{Object, Pool};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, PoolError};

use super::async_watcher_source::{AsyncWatcherSource, watcher_error};
use crate::error::Result;

impl<C> AsyncWatcherSource for Pool<C>
where
    C: AsyncConnection<Backend = Pg> + 'static,
    AsyncDieselConnectionManager<C>: Manager<Type = C, Error = PoolError>,
{
    type Connection = Object<C>;

    async fn connect(&self) -> Result<Self::Connection> {
        self.get().await.map_err(watcher_error)
    }
}
