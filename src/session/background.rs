//! A thread beside a sync run, which outlives the run if its connection hangs.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::Builder;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::trace;

/// A thread that stops once this value is dropped.
///
/// It owns all that it uses, because a read that does not return keeps it alive.
#[derive(Debug)]
pub(crate) struct BackgroundThread<T> {
    requests: Option<Sender<T>>,
    finished: Receiver<()>,
}

impl<T: Send + 'static> BackgroundThread<T> {
    /// Starts a thread. Its work ends when the channel of its requests is closed.
    pub(crate) fn start(
        name: &str,
        work: impl FnOnce(&Receiver<T>) + Send + 'static,
    ) -> Result<Self> {
        let (send, requests) = channel();
        let (finish, finished) = channel();
        let thread = trace::in_this_context(move || {
            let _finish: Sender<()> = finish; // dropped last, after all that the work owns
            work(&requests);
        });
        let started = Builder::new().name(name.to_owned()).spawn(thread);
        started.map_err(|error| Error::Watcher(Box::new(error)))?;
        Ok(Self {
            requests: Some(send),
            finished,
        })
    }

    /// Sends a request, which a thread that has ended ignores.
    #[cfg(feature = "migrations")]
    pub(crate) fn request(&self, request: T) {
        if let Some(requests) = &self.requests {
            let _ = requests.send(request);
        }
    }

    /// Stops the thread. Returns `false` if it has not ended within the limit.
    pub(crate) fn stop(&mut self, limit: Duration) -> bool {
        self.requests = None;
        // Nothing is ever sent; the channel closes with the thread.
        self.finished.recv_timeout(limit) != Err(RecvTimeoutError::Timeout)
    }
}
