//! An async source as a sync one, for the watcher of a run on a thread of its own.

use std::sync::Arc;

use diesel_async::async_connection_wrapper::{AsyncConnectionWrapper, BlockOn};
use tokio::runtime::Handle;

use super::async_watcher_source::AsyncWatcherSource;
use super::watcher_source::{Connector, WatcherSource, shared};
use crate::error::Result;

/// An async source, whose connections block the threads that use them.
pub(crate) struct BlockingSource<S> {
    pub(crate) source: Arc<S>,
    pub(crate) runtime: Handle,
}

impl<S> WatcherSource for BlockingSource<S>
where
    S: AsyncWatcherSource<Connection: 'static> + 'static,
{
    type Connection = AsyncConnectionWrapper<S::Connection, OnRuntime>;

    fn connect(&self) -> Result<Self::Connection> {
        let _context = self.runtime.enter();
        let connection = self.runtime.block_on(self.source.connect())?;
        Ok(connection.into())
    }

    fn connector(self: &Arc<Self>) -> Connector<Self::Connection> {
        shared(self)
    }
}

/// Blocks a thread, which is not one of the runtime's.
pub(crate) struct OnRuntime(Handle);

impl BlockOn for OnRuntime {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.0.block_on(future)
    }

    /// Returns the runtime in whose context a connection is wrapped.
    fn get_runtime() -> Self {
        Self(Handle::current())
    }
}
