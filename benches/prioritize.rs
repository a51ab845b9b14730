//! Measures the wait of a blocked, prioritized statement, and the cost of a poll:
//! `cargo xtask bench`.
//!
//! Prints the milliseconds from the start of the wait to its end, over several runs on a
//! throwaway server, and the polls of a watcher beside waiters of strangers.

#![allow(clippy::print_stdout)] // prints its results

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryResult};
use diesel_pglock::Prioritizer;
use diesel_pglock::prelude::*;
use pglock_sandbox::Sandbox;

fn main() {
    let server = Sandbox::builder().setting("max_connections", "700");
    let server = server.start().expect("a throwaway server");
    let url = server.url();
    connect(&url)
        .batch_execute("CREATE TABLE users (id int)")
        .expect("a table");

    let hasty = Prioritizer::new(url.clone())
        .interval(Duration::from_millis(10))
        .grace(Duration::ZERO);
    report("interval 10 ms, grace 0", waits(&url, &hasty, 100));
    report(
        "interval 100 ms, grace 1 s",
        waits(&url, &Prioritizer::new(url.clone()), 10),
    );
    compare_polls(&url);
}

/// The sessions that wait for a lock that has nothing to do with the prioritized one.
const STRANGERS: usize = 600;

/// Compares the polls in two seconds without and with waiters of strangers.
fn compare_polls(url: &str) {
    let alone = polls(url);
    let mut holder = connect(url);
    holder
        .batch_execute("SELECT pg_advisory_lock(1)")
        .expect("the lock");
    let wait = || {
        let mut conn = connect(url);
        conn.batch_execute("SELECT pg_advisory_lock_shared(1)")
            .expect("the lock");
    };
    let crowded = std::thread::scope(|scope| {
        for _ in 0..STRANGERS {
            scope.spawn(wait);
        }
        while waiters(&mut holder) < STRANGERS as i64 {
            std::thread::sleep(Duration::from_millis(50));
        }
        let crowded = polls(url);
        holder
            .batch_execute("SELECT pg_advisory_unlock(1)")
            .expect("the release");
        crowded
    });
    println!(
        "polls of a blocked session in 2 s: {alone} alone, {crowded} beside {STRANGERS} waiters of strangers"
    );
}

fn waiters(conn: &mut PgConnection) -> i64 {
    let waiting = diesel::dsl::sql::<diesel::sql_types::BigInt>(
        "SELECT count(*) FROM pg_locks WHERE NOT granted",
    );
    diesel::RunQueryDsl::get_result(waiting, conn).expect("the number of waiters")
}

/// Returns the number of polls in two seconds in which the prioritized session is blocked.
fn polls(url: &str) -> u64 {
    let mut holder = connect(url);
    holder
        .batch_execute("BEGIN; LOCK TABLE users")
        .expect("the lock");
    let prioritizer = Prioritizer::new(url.to_owned())
        .interval(Duration::from_millis(1))
        .grace(Duration::from_secs(60))
        .lock_timeout(Duration::from_secs(2));
    let waited = connect(url).prioritize(&prioritizer, wait);
    assert!(waited.is_err(), "the holder goes on");
    prioritizer.report().polls
}

/// Measures `runs` times how long a statement waits for an idle transaction.
fn waits(url: &str, prioritizer: &Prioritizer<String>, runs: usize) -> Vec<Duration> {
    let mut conn = connect(url);
    let once = |_| {
        let mut holder = connect(url);
        holder
            .batch_execute("BEGIN; LOCK TABLE users")
            .expect("the lock");
        conn.prioritize(prioritizer, wait)
            .expect("the prioritized lock")
    };
    (0..runs).map(once).collect()
}

fn wait(conn: &mut PgConnection) -> QueryResult<Duration> {
    let started = Instant::now();
    conn.batch_execute("BEGIN; LOCK TABLE users; COMMIT")?;
    Ok(started.elapsed())
}

fn connect(url: &str) -> PgConnection {
    PgConnection::establish(url).expect("a session")
}

fn report(what: &str, mut waits: Vec<Duration>) {
    waits.sort_unstable();
    let at = |percent: usize| waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1000.0;
    println!(
        "{what}: least {:.1} ms, median {:.1} ms, most {:.1} ms",
        at(0),
        at(50),
        at(100)
    );
}
