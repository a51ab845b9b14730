//! The statements that cancels hit.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use diesel::connection::InstrumentationEvent;

use super::call::Front;
use crate::soak::journal::print;

/// Counts failed calls by the first statement that failed.
pub struct Hits {
    statements: Arc<Statements>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    made: Mutex<u64>,
}

/// The statements of one call.
struct Statements {
    sent: AtomicU64,
    /// The statement with which the time of the cancel starts.
    chosen: AtomicU64,
    start: Arc<AtomicBool>,
    failed: Mutex<Vec<String>>,
}

impl Hits {
    pub fn new(start: Arc<AtomicBool>) -> Self {
        let statements = Statements {
            sent: AtomicU64::new(0),
            chosen: AtomicU64::new(u64::MAX),
            start,
            failed: Mutex::default(),
        };
        Self {
            statements: Arc::new(statements),
            counts: Mutex::default(),
            made: Mutex::default(),
        }
    }

    /// Observes the statements on a connection.
    pub fn watch<C: Front>(&self, mut conn: C) -> C {
        let statements = self.statements.clone();
        conn.instrument(move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => statements.count_sent(),
            InstrumentationEvent::FinishQuery {
                query,
                error: Some(_),
                ..
            } => statements.failed.lock().unwrap().push(query.to_string()),
            _ => {}
        });
        conn
    }

    /// Forgets the last call, and chooses a statement of the next.
    pub fn choose(&self, statement: u64) {
        self.statements.failed.lock().unwrap().clear();
        self.statements.sent.store(0, SeqCst);
        self.statements.chosen.store(statement, SeqCst);
    }

    /// Starts the time, if the chosen statement was not sent.
    pub fn end(&self) {
        if self.statements() <= self.statements.chosen.swap(u64::MAX, SeqCst) {
            self.statements.start.store(true, SeqCst);
        }
    }

    /// Returns the number of statements since the choice.
    pub fn statements(&self) -> u64 {
        self.statements.sent.load(SeqCst)
    }

    /// Counts a call.
    pub fn count(&self, failed: bool) {
        *self.made.lock().unwrap() += 1;
        let first = self
            .statements
            .failed
            .lock()
            .unwrap()
            .first()
            .map(|it| describe(it));
        let mut counts = self.counts.lock().unwrap();
        match (failed, first) {
            (true, Some(statement)) => *counts.entry(statement).or_default() += 1,
            (true, None) => *counts.entry("query").or_default() += 1,
            (false, Some(_)) => *counts.entry(RECOVERED).or_default() += 1,
            (false, None) => {}
        }
    }

    /// Returns the number of calls that failed.
    pub fn failed(&self) -> u64 {
        let counts = self.counts.lock().unwrap();
        let failed = counts.iter().filter(|(kind, _)| **kind != RECOVERED);
        failed.map(|(_, count)| count).sum()
    }

    pub fn print(&self, kind: &str, name: &str) {
        let failed = self.failed();
        let counts = self.counts.lock().unwrap();
        let counts = counts.iter().map(|(kind, count)| format!("{kind} {count}"));
        let counts = counts.collect::<Vec<_>>().join(", ");
        let made = *self.made.lock().unwrap();
        print(&format!(
            "{kind} {name}: {failed} of {made} failed: {counts}"
        ));
    }
}

impl Statements {
    fn count_sent(&self) {
        if self.sent.fetch_add(1, SeqCst) == self.chosen.load(SeqCst) {
            self.start.store(true, SeqCst);
        }
    }
}

/// Calls that succeed although a statement failed, such as a release that took effect.
const RECOVERED: &str = "(none, in spite of a hit)";

impl fmt::Debug for Hits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(&*self.statements.failed.lock().unwrap())
            .finish()
    }
}

/// Returns a word for a statement; the first that fits counts.
fn describe(statement: &str) -> &'static str {
    let words = [
        // diesel-async does not report a query that fails, but the end of the session after it.
        ("pg_terminate_backend", "query, and the session ended"),
        ("DO $", "wait"),
        ("LOCK TABLE", "wait"),
        ("pg_try_advisory", "try"),
        ("pg_advisory_unlock", "release"),
        ("diesel_pglock.outcome", "outcome"),
        ("pg_locks", "look"),
        ("RELEASE SAVEPOINT", "release savepoint"),
        ("ROLLBACK TO SAVEPOINT", "rollback to savepoint"),
        ("SAVEPOINT", "savepoint"),
        ("BEGIN", "begin"),
        ("COMMIT", "commit"),
        ("ROLLBACK", "rollback"),
        ("SELECT 1", "closure"),
    ];
    let found = words.iter().find(|(part, _)| statement.contains(part));
    found.map_or("other", |(_, word)| word)
}
