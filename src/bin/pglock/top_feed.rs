//! What `pglock top` shows, looked up on a thread of its own: a slow server holds no key up.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel_pglock::{SignalKind, WaitGraph};

use crate::connection::Database;
use crate::failure::Failure;
use crate::signalling::Victim;

/// What the view is told.
#[derive(Debug)]
pub enum News {
    Graph(Box<WaitGraph>),
    /// The connection is lost, and why.
    Lost(String),
    /// What came of a signal.
    Said(String),
}

type Request = (Victim, SignalKind);

/// The thread, which ends when this does.
#[derive(Debug)]
pub struct Feed {
    pub news: Receiver<News>,
    requests: Sender<Request>,
}

impl Feed {
    pub fn start(conn: PgConnection, database: Database, interval: Duration) -> Self {
        let (sender, news) = channel();
        let (requests, received) = channel();
        let worker = Worker {
            conn: Some(conn),
            database,
            interval,
            news: sender,
        };
        thread::spawn(move || worker.run(&received));
        Self { news, requests }
    }

    pub fn signal(&self, victim: Victim, kind: SignalKind) {
        // A feed that has ended is noticed where its news are read.
        let _ = self.requests.send((victim, kind));
    }
}

struct Worker {
    /// `None` while it is lost.
    conn: Option<PgConnection>,
    database: Database,
    interval: Duration,
    news: Sender<News>,
}

impl Worker {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let next = Instant::now() + self.interval;
            let news = self.look();
            if self.tell(news).is_err() {
                return;
            }
            loop {
                let left = next.saturating_duration_since(Instant::now());
                match requests.recv_timeout(left) {
                    Ok((victim, kind)) => {
                        let news = self.signal(&victim, kind);
                        let look = self.look();
                        if self.tell(news).and_then(|()| self.tell(look)).is_err() {
                            return;
                        }
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn tell(&self, news: News) -> Result<(), ()> {
        self.news.send(news).map_err(drop)
    }

    fn look(&mut self) -> News {
        match self.ask(|conn| Ok(WaitGraph::load(conn)?)) {
            Ok(graph) => News::Graph(Box::new(graph)),
            Err(failure) => News::Lost(failure.to_string()),
        }
    }

    fn signal(&mut self, victim: &Victim, kind: SignalKind) -> News {
        match self.ask(|conn| victim.signal(conn, kind)) {
            Ok(outcome) => News::Said(format!("{}: {kind} {outcome}", victim.pid)),
            Err(failure) => News::Said(format!("{}: {failure}", victim.pid)),
        }
    }

    /// Asks the server, on a new connection if the last one failed.
    fn ask<T>(
        &mut self,
        f: impl FnOnce(&mut PgConnection) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.database.connect()?,
        };
        let answer = f(&mut conn)?;
        self.conn = Some(conn);
        Ok(answer)
    }
}
