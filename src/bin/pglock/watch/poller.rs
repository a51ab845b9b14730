//! Loads graphs in a thread of its own, since a server may never answer.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::PgConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Timestamptz;
use diesel_pglock::WaitGraph;

use crate::connect::{Database, Reconnecting, Waits, limited};
use crate::failure::Failure;

/// The pause before another attempt to connect, at least.
const RETRY: Duration = Duration::from_secs(1);

/// A message to the command.
#[derive(Debug)]
pub enum Message {
    /// A graph, and the time of the server's clock, from the poller of this number.
    Graph(u64, Box<WaitGraph>, DateTime<Utc>),
    /// The error that ended the connection.
    Lost(u64, String),
    /// SIGINT or SIGTERM has arrived.
    Interrupted,
}

/// The settings of all pollers.
#[derive(Clone, Debug)]
pub struct PollSettings {
    pub database: Database,
    pub interval: Duration,
    pub limit: Duration,
    pub messages: Sender<Message>,
}

/// The thread; it ends after its statement when this is dropped.
#[derive(Debug)]
pub struct Poller {
    pub number: u64,
    _alive: Sender<()>,
}

impl Poller {
    /// Starts to poll, on a new connection if there is none.
    pub fn start(number: u64, conn: Option<PgConnection>, settings: &PollSettings) -> Self {
        let (alive, dropped) = channel();
        let settings = settings.clone();
        thread::spawn(move || poll(number, conn, &settings, &dropped));
        let _alive = alive;
        Self { number, _alive }
    }
}

fn poll(number: u64, conn: Option<PgConnection>, settings: &PollSettings, dropped: &Receiver<()>) {
    let mut server = Reconnecting::new(conn, settings.database.clone());
    loop {
        let loaded = server.query(|conn| load(conn, settings.limit));
        let (message, pause) = match loaded {
            Ok((graph, now)) => {
                let graph = Box::new(graph);
                (Message::Graph(number, graph, now), settings.interval)
            }
            Err(failure) => {
                let message = Message::Lost(number, failure.to_string());
                (message, settings.interval.max(RETRY))
            }
        };
        let is_over = settings.messages.send(message).is_err();
        if is_over || dropped.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Loads the graph and the time of the server, by whose clock waits begin.
fn load(conn: &mut PgConnection, limit: Duration) -> Result<(WaitGraph, DateTime<Utc>), Failure> {
    limited(conn, limit, |conn| {
        let graph = Waits::load(conn)?.graph;
        let clock = sql::<Timestamptz>("pg_catalog.clock_timestamp()");
        Ok((graph, diesel::select(clock).get_result(conn)?))
    })
}
