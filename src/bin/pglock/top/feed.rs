//! Snapshots for `pglock top`, from a thread of their own.
//!
//! The view answers keys even if the server is slow.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SendError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use diesel::PgConnection;

use crate::connect::{Database, LimitArgs, Reconnecting, Waits, limited};
use crate::signal::{SignalRequest, VERIFY};

/// The time between two checks whether a paused view goes on.
const PAUSE: Duration = Duration::from_secs(3600);

/// A message to the view.
#[derive(Debug)]
pub enum Update {
    Graph(Box<Waits>),
    /// The error that ended the connection.
    Lost(String),
    /// The outcome of a signal.
    Message(String),
}

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub struct Feed {
    pub updates: Receiver<Update>,
    requests: Sender<Request>,
}

/// A request of the view.
#[derive(Debug)]
enum Request {
    Signal(SignalRequest),
    /// Polls at this interval; `None` pauses.
    Poll(Option<Duration>),
}

impl Feed {
    pub fn start(
        conn: PgConnection,
        database: Database,
        interval: Duration,
        timeout: LimitArgs,
    ) -> Self {
        let (sender, updates) = channel();
        let (requests, received) = channel();
        let worker = Worker {
            server: Reconnecting::new(Some(conn), database),
            interval: Some(interval),
            timeout,
            updates: sender,
        };
        thread::spawn(move || worker.run(&received));
        Self { updates, requests }
    }

    pub fn signal(&self, request: SignalRequest) {
        // The view notices a feed that has ended when it receives updates.
        let _ = self.requests.send(Request::Signal(request));
    }

    pub fn poll(&self, interval: Option<Duration>) {
        let _ = self.requests.send(Request::Poll(interval));
    }
}

struct Worker {
    server: Reconnecting,
    /// `None` while the view is paused.
    interval: Option<Duration>,
    timeout: LimitArgs,
    updates: Sender<Update>,
}

impl Worker {
    /// Polls until the view is closed.
    fn run(mut self, requests: &Receiver<Request>) {
        while let Ok(true) = self.poll(requests) {}
    }

    /// Sends a graph, and signals until the next poll is due; returns false at the end.
    fn poll(&mut self, requests: &Receiver<Request>) -> Result<bool, SendError<Update>> {
        let started = Instant::now();
        self.send_graph()?;
        loop {
            let next = started + self.interval.unwrap_or(PAUSE);
            let left = next.saturating_duration_since(Instant::now());
            match requests.recv_timeout(left) {
                Ok(Request::Signal(request)) => self.signal(&request)?,
                Ok(Request::Poll(interval)) => self.interval = interval,
                Err(RecvTimeoutError::Timeout) if self.interval.is_none() => {}
                Err(RecvTimeoutError::Timeout) => return Ok(true),
                Err(RecvTimeoutError::Disconnected) => return Ok(false),
            }
        }
    }

    fn send_graph(&mut self) -> Result<(), SendError<Update>> {
        let limit = self.timeout.limit();
        let waits = self.server.query(|conn| limited(conn, limit, Waits::load));
        self.updates.send(match waits {
            Ok(waits) => Update::Graph(Box::new(waits)),
            Err(failure) => Update::Lost(failure.to_string()),
        })
    }

    fn signal(&mut self, request: &SignalRequest) -> Result<(), SendError<Update>> {
        let timeout = self.timeout;
        let message = match self
            .server
            .query(|conn| request.send(conn, timeout, VERIFY))
        {
            Ok(results) => join(results.iter()),
            Err(failure) => format!("{}: {failure}", join(request.pids())),
        };
        self.updates.send(Update::Message(message))?;
        self.send_graph()
    }
}

fn join(parts: impl Iterator<Item = impl ToString>) -> String {
    let parts: Vec<String> = parts.map(|part| part.to_string()).collect();
    parts.join(", ")
}
