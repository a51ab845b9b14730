//! Measures the wait of a blocked, prioritized statement: `cargo xtask bench`.
//!
//! Prints the milliseconds from the start of the wait to its end, over several runs on a
//! throwaway server.

#![allow(clippy::print_stdout)] // prints its results

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, QueryResult};
use diesel_pglock::Prioritizer;
use diesel_pglock::prelude::*;
use pglock_sandbox::Sandbox;

fn main() {
    let server = Sandbox::start().expect("a throwaway server");
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
