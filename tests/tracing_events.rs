//! The events of the feature `tracing`.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel_migrations::MigrationHarness;
use diesel_pglock::prelude::*;
use diesel_pglock::{EpisodeTracker, WaitGraph};
use diesel_pglock::{Error, LockMonitor, MIGRATIONS, PrioritizedHarness, Prioritizer};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::support::*;

/// Keeps the messages of this crate's events, and the fields of PostgreSQL.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<String>>>);

impl Subscriber for Listener {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("diesel_pglock")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        event.record(&mut Message(&self.0));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

struct Message<'l>(&'l Mutex<Vec<String>>);

impl Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.0.lock().unwrap().push(format!("{value:?}"));
        } else if field.name().starts_with("postgresql.") {
            let text = format!("{}={value:?}", field.name());
            self.0.lock().unwrap().push(text);
        }
    }
}

fn lose_a_lock(db: &Database) {
    let monitor = LockMonitor::new(db.url.clone()).interval(Duration::from_millis(10));
    let mut conn = db.connect();
    let lock = conn.advisory(2).monitored(&monitor);
    let ran = lock.run(|conn, held| {
        conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
        wait_until("the lock is lost", || held.is_lost());
        Ok::<_, Error>(())
    });
    assert!(ran.is_err());
}

#[test]
fn waits_signals_and_migrations_are_events_even_from_the_watchers_thread() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), db.connect());
    let listener = Listener::default();
    // With a single subscriber `tracing` caches the interest of the thread that first reaches an
    // event. With other tests beside this one, that is a thread without a subscriber.
    let _another = Dispatch::new(Listener::default());
    let dispatch = Dispatch::new(listener.clone());
    tracing::dispatcher::with_default(&dispatch, || {
        holder.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
        let prioritizer = Prioritizer::new(db.url.clone())
            .interval(Duration::from_millis(10))
            .grace(Duration::ZERO);
        let lock = |conn: &mut diesel::PgConnection| conn.advisory(1).acquire().map(drop);
        conn.prioritize(&prioritizer, lock).unwrap();
        let mut harness = PrioritizedHarness::new(&mut conn, prioritizer);
        harness.run_pending_migrations(MIGRATIONS).unwrap();
        lose_a_lock(&db);
    });
    let messages = listener.0.lock().unwrap();
    for message in [
        "waiting for a lock",
        "a session blocks the run",
        "signalled a session",
        "running a migration",
        "a migration has ended",
        "lost a lock",
    ] {
        assert!(
            messages.iter().any(|it| it == message),
            "{message}: {messages:?}"
        );
    }
}

#[test]
fn an_episode_is_an_event_with_the_names_of_open_telemetry() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; LOCK TABLE users");
    let holder_pid = pid(&mut holder);
    let waiter = Waiting::on(&db, "SELECT FROM users");
    let all = WaitGraph::load(&mut db.connect()).unwrap();
    let graph = all.related_to(|node| node.pid == Some(waiter.pid));
    let listener = Listener::default();
    let _another = Dispatch::new(Listener::default());
    let dispatch = Dispatch::new(listener.clone());
    tracing::dispatcher::with_default(&dispatch, || {
        EpisodeTracker::new().observe(&graph, chrono::Utc::now())
    });
    let fields = listener.0.lock().unwrap();
    for field in [
        "sessions are blocked",
        &format!("postgresql.pid={}", waiter.pid),
        &format!("postgresql.blocking.pids=\"{{{holder_pid}}}\""),
        "postgresql.blocking.lock.mode=\"AccessShareLock\"",
        "postgresql.blocking.lock.type=\"relation\"",
        "postgresql.blocking.lock.relation=\"public.users\"",
    ] {
        assert!(fields.iter().any(|it| it == field), "{field}: {fields:?}");
    }
    drop(holder);
    waiter.finish().unwrap();
}
