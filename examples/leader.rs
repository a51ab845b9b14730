//! Runs two candidates for one leadership: the leader stops itself when its lock is lost, and a
//! late write of it changes nothing.
//!
//! `cargo run --example leader` runs this program on a throwaway server.

#![allow(clippy::print_stdout)] // prints its progress

use std::error::Error;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::{FencingToken, LockMonitor, PgLock};
use pglock_sandbox::Sandbox;

use self::schema::counters;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

mod schema {
    diesel::table! {
        counters { id -> Integer, value -> Integer, epoch -> Text, }
    }
}

/// The time limit for each step.
const LIMIT: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let server = Sandbox::start()?;
    let url = server.url();
    let mut admin = PgConnection::establish(&url)?;
    admin.batch_execute(
        "CREATE TABLE counters (id int PRIMARY KEY, value int NOT NULL, epoch text NOT NULL);
         INSERT INTO counters VALUES (1, 0, '')",
    )?;

    let (led, leading) = channel();
    let candidates = ["first", "second"].map(|name| {
        let (url, led) = (url.clone(), led.clone());
        let candidate = thread::spawn(move || candidate(name, &url, &led));
        // The first candidate leads before the second one asks.
        let term = (name == "first").then(|| leading.recv_timeout(LIMIT));
        (candidate, term)
    });
    let [(first, term), (second, _)] = candidates;
    let (_, former) = term.expect("the first term")?;

    println!("an administrator terminates the leader's session");
    PgLock::query()
        .advisory("leader")
        .granted()
        .terminate_activity(&mut admin)?;
    first.join().expect("no panic")?;
    let (name, token) = leading.recv_timeout(LIMIT)?;
    println!("{name} leads with a higher token: {}", former < token);

    let written = increment(&mut admin, former)?;
    println!("a late write with the token of the former leader changed {written} rows");
    assert!(former < token);
    assert_eq!(written, 0);

    PgLock::query()
        .advisory("leader")
        .granted()
        .terminate_activity(&mut admin)?;
    second.join().expect("no panic")
}

/// Waits for the leadership, and leads until it is lost.
fn candidate(
    name: &'static str,
    url: &str,
    led: &Sender<(&'static str, FencingToken)>,
) -> Result<()> {
    let mut conn = PgConnection::establish(url)?;
    let monitor = LockMonitor::new(url.to_owned())
        .interval(Duration::from_millis(50))
        .patience(Duration::from_secs(2));
    let lock = conn.advisory("leader").monitored(&monitor);
    let term = lock.run(|_, held| {
        // The session of the lock may be gone at any time: the work has its own.
        let mut work = PgConnection::establish(url)?;
        increment(&mut work, held.token())?;
        println!("{name} leads with token {}", held.token());
        led.send((name, held.token()))?;
        while !held.is_lost() {
            increment(&mut work, held.token())?;
            thread::sleep(Duration::from_millis(20));
        }
        println!("{name} lost the lock and stops");
        Ok::<_, Box<dyn Error + Send + Sync>>(())
    });
    // The session was terminated, so the release fails.
    assert!(term.is_err());
    Ok(())
}

/// Increments the counter unless a later leader has written to it; returns the number of rows.
fn increment(conn: &mut PgConnection, token: FencingToken) -> Result<usize> {
    let counter = counters::table.find(1).filter(counters::epoch.le(token));
    let values = (
        counters::value.eq(counters::value + 1),
        counters::epoch.eq(token),
    );
    Ok(diesel::update(counter).set(values).execute(conn)?)
}
