//! An r2d2 pool as a source.

use std::sync::Arc;

use diesel::Connection;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection};

use super::watcher_source::{Connector, WatcherSource, shared};
use crate::error::{Error, Result};

impl<M> WatcherSource for Pool<M>
where
    M: ManageConnection,
    PooledConnection<M>: Connection<Backend = Pg> + LoadConnection,
{
    type Connection = PooledConnection<M>;

    fn connect(&self) -> Result<Self::Connection> {
        self.get().map_err(|error| Error::Watcher(Box::new(error)))
    }

    fn connector(self: &Arc<Self>) -> Connector<Self::Connection> {
        shared(self)
    }
}
