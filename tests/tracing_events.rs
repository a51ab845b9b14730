//! The events of the feature `tracing`.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel_migrations::MigrationHarness;
use diesel_pglock::prelude::*;
use diesel_pglock::{MIGRATIONS, PrioritizedHarness, Prioritizer};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

use crate::support::*;

/// Keeps the messages of this crate's events.
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
        }
    }
}

#[test]
fn waits_signals_and_migrations_are_told_also_from_the_watchers_thread() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), db.connect());
    let listener = Listener::default();
    // While there is one alone, `tracing` asks the thread that comes by an event first
    // whether anybody listens: with other tests beside this, a thread where nobody does.
    let _another = Dispatch::new(Listener::default());
    let ours = Dispatch::new(listener.clone());
    tracing::dispatcher::with_default(&ours, || {
        holder.batch_execute("SELECT pg_advisory_lock(1)").unwrap();
        let prioritizer = Prioritizer::new(db.url.clone())
            .interval(Duration::from_millis(10))
            .grace(Duration::ZERO);
        let lock = |conn: &mut diesel::PgConnection| conn.advisory(1).acquire().map(drop);
        conn.prioritize(&prioritizer, lock).unwrap();
        let mut harness = PrioritizedHarness::new(&mut conn, prioritizer);
        harness.run_pending_migrations(MIGRATIONS).unwrap();
    });
    let told = listener.0.lock().unwrap();
    for message in [
        "waiting for a lock",
        "somebody is in the way",
        "signalled a session",
        "running a migration",
        "a migration has ended",
    ] {
        assert!(
            told.iter().any(|said| said == message),
            "{message}: {told:?}"
        );
    }
}
