//! Database URLs and `keyword=value` strings as sources, sync and async.

#[cfg(feature = "postgres")]
use std::sync::Arc;

#[cfg(feature = "async")]
use diesel_async::{AsyncConnection, AsyncPgConnection};

#[cfg(feature = "async")]
use super::async_watcher_source::AsyncWatcherSource;
use super::conninfo::with_defaults;
use super::redact::redact_error;
use super::tcp_limits;
#[cfg(feature = "postgres")]
use super::watcher_source::{Connector, WatcherSource, shared};
use crate::error::Result;

#[cfg(feature = "postgres")]
impl WatcherSource for String {
    type Connection = diesel::PgConnection;

    fn connect(&self) -> Result<diesel::PgConnection> {
        WatcherSource::connect(&self.as_str())
    }

    fn connector(self: &Arc<Self>) -> Connector<diesel::PgConnection> {
        shared(self)
    }
}

#[cfg(feature = "postgres")]
impl WatcherSource for &str {
    type Connection = diesel::PgConnection;

    fn connect(&self) -> Result<diesel::PgConnection> {
        let limited = with_defaults(self, &tcp_limits::LIBPQ);
        let connected = <diesel::PgConnection as diesel::Connection>::establish(&limited);
        connected.map_err(|error| redact_error(error, self))
    }

    fn connector(self: &Arc<Self>) -> Connector<diesel::PgConnection> {
        shared(&Arc::new(String::from(**self)))
    }
}

#[cfg(feature = "async")]
impl AsyncWatcherSource for String {
    type Connection = AsyncPgConnection;

    async fn connect(&self) -> Result<AsyncPgConnection> {
        AsyncWatcherSource::connect(&self.as_str()).await
    }
}

#[cfg(feature = "async")]
impl AsyncWatcherSource for &str {
    type Connection = AsyncPgConnection;

    async fn connect(&self) -> Result<AsyncPgConnection> {
        let limited = with_defaults(self, &tcp_limits::TOKIO_POSTGRES);
        let connected = AsyncPgConnection::establish(&limited).await;
        connected.map_err(|error| redact_error(error, self))
    }
}
