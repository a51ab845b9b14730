//! A bb8 pool as a source.

use bb8::ManageConnection;
use diesel::pg::Pg;
use diesel_async::AsyncConnection;
use diesel_async::pooled_connection::bb8::Pool;
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, PoolError, PoolableConnection,
};

use super::async_watcher_source::{AsyncWatcherSource, watcher_error};
use crate::error::Result;

impl<C> AsyncWatcherSource for Pool<C>
where
    C: AsyncConnection<Backend = Pg> + PoolableConnection + 'static,
    AsyncDieselConnectionManager<C>: ManageConnection<Connection = C, Error = PoolError>,
{
    type Connection = bb8::PooledConnection<'static, AsyncDieselConnectionManager<C>>;

    async fn connect(&self) -> Result<Self::Connection> {
        self.get_owned().await.map_err(watcher_error)
    }
}
