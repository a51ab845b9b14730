//! Monitored locks on sync connections: lost locks, and fencing tokens.

use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use diesel::PgConnection;
use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::{Error, FencingToken, Held, LockMonitor};
use pglock_sandbox::Sandbox;

use crate::support::*;

const TICK: Duration = Duration::from_millis(10);
/// Longer than a condition is waited for: what is lost sooner was found by a poll.
const LONG: Duration = Duration::from_secs(600);

/// The URL of sessions that tests recognise as a monitor's.
pub fn monitor_url(db: &Database) -> String {
    format!("{}?application_name=monitor", db.url)
}

/// A monitor that reports a lock as lost only if a poll found that.
fn polling_monitor(db: &Database) -> LockMonitor<String> {
    LockMonitor::new(monitor_url(db))
        .interval(TICK)
        .patience(LONG)
}

/// The number of monitors' sessions in a database.
pub fn monitors(observer: &mut PgConnection) -> i64 {
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'monitor'
         AND datname = current_database()";
    count(observer, sessions)
}

/// The backend of the only monitor in a database.
pub fn monitor_backend(observer: &mut PgConnection) -> i64 {
    let pid = "SELECT pid FROM pg_stat_activity WHERE application_name = 'monitor'
         AND datname = current_database()";
    wait_until("the monitor is there", || monitors(observer) == 1);
    count(observer, pid)
}

/// Waits until one session of a monitor in this database has polled for a while.
pub fn until_polled(db: &Database) {
    let mut observer = PgConnection::establish(&server().url()).unwrap();
    let polls = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'monitor'
         AND datname = '{}' AND query_start > backend_start + '200 ms'",
        db.name
    );
    wait_until("some polls", || count(&mut observer, &polls) == 1);
}

/// A process that is stopped until this value is dropped.
pub struct Stopped(i64);

impl Stopped {
    pub fn new(pid: i64) -> Self {
        signal("-STOP", pid);
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        signal("-CONT", self.0);
    }
}

fn signal(name: &str, pid: i64) {
    let sent = Command::new("kill").args([name, &pid.to_string()]).status();
    assert!(sent.unwrap().success());
}

fn until_lost(held: &Held) {
    wait_until("the lock is lost", || held.is_lost());
}

/// Takes and releases the lock, and returns its token.
fn token(conn: &mut PgConnection, monitor: &LockMonitor<String>) -> FencingToken {
    let lock = conn.advisory("leader").monitored(monitor);
    lock.run(|_, held| Ok::<_, Error>(held.token())).unwrap()
}

#[test]
fn a_lock_that_is_held_is_not_lost_for_30_polls() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let last_poll = "SELECT extract(epoch FROM max(query_start)) * 1000000
         FROM pg_stat_activity WHERE application_name = 'monitor'
         AND datname = current_database()";
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(|_, held| {
        let (mut polls, mut last) = (0, 0);
        wait_until("30 polls", || {
            let poll = count(&mut observer, last_poll);
            polls += i32::from(poll != last);
            last = poll;
            assert!(!held.is_lost());
            polls > 30
        });
        Ok::<_, Error>("led")
    });
    assert_eq!(ran.unwrap(), "led");
    assert_eq!(advisory_locks(&mut observer), 0);
}

#[test]
fn a_shared_lock_on_a_pair_is_found_by_its_key_and_mode() {
    let db = Database::new();
    let mut conn = db.connect();
    let lock = conn.advisory((1, -2)).shared();
    let ran = lock.monitored(&polling_monitor(&db)).run(|_, held| {
        until_polled(&db);
        assert!(!held.is_lost());
        Ok::<_, Error>(())
    });
    ran.unwrap();
}

#[test]
fn a_lock_that_the_closure_releases_is_lost() {
    let db = Database::new();
    let mut conn = db.connect();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(|conn, held| {
        conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
        until_lost(held);
        // Once lost, it stays lost.
        let _guard = conn.advisory("leader").acquire()?;
        thread::sleep(5 * TICK);
        assert!(held.is_lost());
        Ok::<_, Error>(())
    });
    assert!(matches!(ran, Err(Error::NotHeld(_))), "{ran:?}");
}

#[test]
fn a_lock_of_a_terminated_session_is_lost_even_if_another_session_acquires_it() {
    let db = Database::new();
    let (mut conn, mut other) = (db.connect(), db.connect());
    let holder = pid(&mut conn);
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(|_, held| {
        let terminate = format!("SELECT pg_terminate_backend({holder})");
        other.batch_execute(&terminate)?;
        let _guard = other.advisory("leader").acquire()?;
        until_lost(held);
        Ok::<_, Error>(())
    });
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
}

#[test]
fn a_lock_is_lost_when_the_server_restarts() {
    let server = Sandbox::start().unwrap();
    let db = Database::on(&server);
    let mut conn = db.connect();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(|_, held| {
        server.restart().unwrap();
        until_lost(held);
        Ok::<_, Error>(())
    });
    assert!(ran.is_err());
}

#[test]
fn a_monitor_whose_session_is_terminated_opens_another_one() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(|conn, held| {
        let first = monitor_backend(&mut observer);
        observer.batch_execute(&format!("SELECT pg_terminate_backend({first})"))?;
        wait_until("another session", || {
            monitors(&mut observer) == 1 && monitor_backend(&mut observer) != first
        });
        assert!(!held.is_lost());
        conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
        until_lost(held);
        Ok::<_, Error>(())
    });
    assert!(matches!(ran, Err(Error::NotHeld(_))), "{ran:?}");
}

#[test]
fn a_silent_monitor_loses_the_lock_and_does_not_delay_the_return() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let monitor = LockMonitor::new(monitor_url(&db))
        .interval(TICK)
        .patience(Duration::from_millis(500));
    let lock = conn.advisory("leader").monitored(&monitor);
    let ran = lock.run(|_, held| {
        let stopped = Stopped::new(monitor_backend(&mut observer));
        assert!(!held.is_lost());
        until_lost(held);
        Ok::<_, Error>((stopped, Instant::now()))
    });
    let (_stopped, returned) = ran.unwrap();
    let delay = returned.elapsed();
    assert!(delay < Duration::from_secs(3), "{delay:?}");
    assert_eq!(advisory_locks(&mut observer), 0);
}

#[test]
fn a_monitor_ends_with_the_run_however_it_ends() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    // A monitor between two polls must not wait for the second one.
    let monitor = LockMonitor::new(monitor_url(&db)).interval(LONG);
    let started = Instant::now();
    let lock = conn.advisory("leader").monitored(&monitor);
    let held = lock.run(|_, held| Ok::<_, Error>(held.clone())).unwrap();
    assert!(held.is_lost(), "the run is over");

    let lock = conn.advisory("leader").monitored(&monitor);
    let failed = lock.run(|conn, _| Ok::<_, Error>(conn.batch_execute("SELECT 1/0")?));
    assert!(matches!(failed, Err(Error::Query(_))), "{failed:?}");

    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let lock = conn.advisory("leader").monitored(&monitor);
        lock.run(|_, _| -> Result<(), Error> { panic!("in the closure") })
    }));
    assert!(panicked.is_err());
    assert!(started.elapsed() < LONG / 10);
    wait_until("no monitor is left", || monitors(&mut observer) == 0);
    assert_eq!(advisory_locks(&mut observer), 0);
}

#[test]
fn without_a_connection_for_the_monitor_nothing_runs() {
    let db = Database::new();
    let mut conn = db.connect();
    let monitor = LockMonitor::new(format!("{}_missing", db.url));
    let lock = conn.advisory("leader").monitored(&monitor);
    let ran = lock.run(|_, _| -> Result<(), Error> { unreachable!() });
    assert!(matches!(ran, Err(Error::Watcher(_))), "{ran:?}");
    assert_eq!(advisory_locks(&mut conn), 0);
}

#[test]
fn a_monitor_of_another_server_is_refused() {
    let db = Database::new();
    let elsewhere = Sandbox::start().unwrap();
    let mut conn = db.connect();
    let monitor = LockMonitor::new(elsewhere.url());
    let lock = conn.advisory("leader").monitored(&monitor);
    let ran = lock.run(|_, _| -> Result<(), Error> { unreachable!() });
    assert!(matches!(ran, Err(Error::OtherServer(_))), "{ran:?}");
    assert_eq!(advisory_locks(&mut conn), 0);
}

#[test]
fn a_monitor_in_another_database_finds_the_lock() {
    let (db, elsewhere) = (Database::new(), Database::new());
    let mut conn = db.connect();
    let monitor = polling_monitor(&elsewhere);
    let lock = conn.advisory("leader").monitored(&monitor);
    let ran = lock.run(|conn, held| {
        until_polled(&elsewhere);
        assert!(!held.is_lost());
        conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
        until_lost(held);
        Ok::<_, Error>(())
    });
    assert!(matches!(ran, Err(Error::NotHeld(_))), "{ran:?}");
}

#[test]
fn a_monitored_lock_is_refused_inside_a_transaction() {
    let db = Database::new();
    let mut conn = db.connect();
    let monitor = polling_monitor(&db);
    let ran = conn.transaction(|conn| {
        let lock = conn.advisory("leader").monitored(&monitor);
        lock.run(|_, _| -> Result<(), Error> { unreachable!() })
    });
    assert!(matches!(ran, Err(Error::InTransaction)), "{ran:?}");
    assert_eq!(advisory_locks(&mut conn), 0);
}

#[test]
fn a_monitored_lock_is_refused_in_recovery() {
    let server = Sandbox::start().unwrap();
    std::fs::write(server.socket_dir().join("data/standby.signal"), "").unwrap();
    server.restart().unwrap();
    let connect = || PgConnection::establish(&server.url());
    wait_until("the standby accepts sessions", || connect().is_ok());
    let mut conn = connect().unwrap();
    let monitor = LockMonitor::new(server.url());
    let lock = conn.advisory("leader").on_standby().monitored(&monitor);
    let ran = lock.run(|_, _| -> Result<(), Error> { unreachable!() });
    assert!(matches!(ran, Err(Error::InRecovery)), "{ran:?}");
    assert_eq!(advisory_locks(&mut conn), 0);
}

#[test]
fn a_try_is_refused_while_the_lock_is_busy_and_its_monitor_ends() {
    let db = Database::new();
    let (mut conn, mut other) = (db.connect(), db.connect());
    let guard = other.advisory("leader").acquire().unwrap();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.try_run(|_, _| Ok::<_, Error>(()));
    assert_eq!(ran.unwrap(), None);
    guard.release().unwrap();
    wait_until("no monitor is left", || monitors(&mut other) == 0);
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.try_run(|_, _| Ok::<_, Error>(()));
    assert_eq!(ran.unwrap(), Some(()));
}

#[test]
fn a_token_that_cannot_be_taken_releases_the_lock() {
    let server = Sandbox::start().unwrap();
    let db = Database::on(&server);
    let role_url = db.role_url();
    // Its arguments depend on the version.
    let mut admin = db.running(
        "DO $$ DECLARE f regprocedure; BEGIN
             FOR f IN SELECT oid FROM pg_proc WHERE proname = 'pg_logical_emit_message' LOOP
                 EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', f);
             END LOOP;
         END $$",
    );
    let mut conn = PgConnection::establish(&role_url).unwrap();
    let lock = conn.advisory("leader").monitored(&polling_monitor(&db));
    let ran = lock.run(|_, _| -> Result<(), Error> { unreachable!() });
    assert!(matches!(ran, Err(Error::Query(_))), "{ran:?}");
    assert_eq!(advisory_locks(&mut admin), 0);
    conn.batch_execute("SELECT 1").unwrap();
}

#[test]
fn a_role_without_privileges_can_hold_and_monitor_a_lock() {
    let db = Database::new();
    let role_url = db.role_url();
    let mut conn = PgConnection::establish(&role_url).unwrap();
    let monitor = format!("{role_url}?application_name=monitor");
    let monitor = LockMonitor::new(monitor).interval(TICK).patience(LONG);
    assert!(token(&mut conn, &monitor) < token(&mut conn, &monitor));
    // A monitor's role need not be the holder's, and then sees no start of the holder's session.
    let mut conn = db.connect();
    let lock = conn.advisory("leader").monitored(&monitor);
    let ran = lock.run(|conn, held| {
        until_polled(&db);
        assert!(!held.is_lost());
        conn.batch_execute("SELECT pg_advisory_unlock_all()")?;
        until_lost(held);
        Ok::<_, Error>(())
    });
    assert!(matches!(ran, Err(Error::NotHeld(_))), "{ran:?}");
}

#[test]
fn a_token_can_be_taken_in_any_session_and_changes_no_setting() {
    let db = Database::new();
    let mut conn = db.running(
        "SET default_transaction_read_only = on; SET synchronous_commit = off;
         SET default_transaction_isolation = 'serializable';
         SET default_transaction_deferrable = on; SET search_path = nowhere",
    );
    let monitor = polling_monitor(&db);
    assert!(token(&mut conn, &monitor) < token(&mut conn, &monitor));
    assert_eq!(setting(&mut conn, "synchronous_commit"), "off");
}

#[test]
fn a_write_with_the_token_of_a_former_holder_changes_nothing() {
    let db = Database::new();
    let mut conn = db.running(
        "CREATE TABLE ledgers (id int PRIMARY KEY, total int NOT NULL, epoch text NOT NULL);
         INSERT INTO ledgers VALUES (1, 0, '')",
    );
    diesel::table! { ledgers { id -> Integer, total -> Integer, epoch -> Text, } }
    let monitor = polling_monitor(&db);
    let tokens = [token(&mut conn, &monitor), token(&mut conn, &monitor)];
    let mut write = |token: FencingToken| {
        let ledger = ledgers::table.find(1).filter(ledgers::epoch.le(token));
        let values = (ledgers::total.eq(1), ledgers::epoch.eq(token));
        diesel::update(ledger)
            .set(values)
            .execute(&mut conn)
            .unwrap()
    };
    assert_eq!(write(tokens[0]), 1);
    assert_eq!(write(tokens[1]), 1);
    assert_eq!(write(tokens[0]), 0);
    assert_eq!(write(tokens[1]), 1);
}

#[cfg(feature = "serde")]
#[test]
fn a_token_serializes_as_its_text() {
    let db = Database::new();
    let token = token(&mut db.connect(), &polling_monitor(&db));
    let json = serde_json::to_value(token).unwrap();
    assert_eq!(json, token.to_string());
}

/// A server that loses what it did not write to disk, and writes commits there late by default.
fn durable_server() -> Sandbox {
    let server = Sandbox::builder()
        .setting("fsync", "on")
        .setting("full_page_writes", "on")
        .setting("synchronous_commit", "off")
        .setting("wal_writer_delay", "10s")
        .setting("autovacuum", "off");
    server.start().unwrap()
}

/// Each stop comes right after an acquisition, by a session whose own commits are not durable.
#[test]
fn tokens_rise_across_immediate_stops() {
    let server = durable_server();
    let monitor = LockMonitor::new(server.url());
    let mut tokens = Vec::new();
    for _ in 0..50 {
        let mut conn = PgConnection::establish(&server.url()).unwrap();
        let lock = conn.advisory("leader").monitored(&monitor);
        // The server stops in the closure, before anything else is committed.
        let ran = lock.run(|_, held| {
            tokens.push(held.token());
            server.restart().unwrap();
            Ok::<_, Error>(())
        });
        assert!(ran.is_err());
    }
    assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
}

#[test]
fn tokens_rise_across_a_promotion() {
    let server = Sandbox::start().unwrap();
    let monitor = LockMonitor::new(server.url());
    let connect = || PgConnection::establish(&server.url());
    let before = token(&mut connect().unwrap(), &monitor);
    // A standby that is promoted starts a timeline, as its own primary does here.
    std::fs::write(server.socket_dir().join("data/standby.signal"), "").unwrap();
    server.restart().unwrap();
    wait_until("the standby accepts sessions", || connect().is_ok());
    let promote = "SELECT pg_promote()";
    connect().unwrap().batch_execute(promote).unwrap();
    let after = token(&mut connect().unwrap(), &monitor);
    assert!(before < after, "{before} {after}");
    assert!(before.timeline() < after.timeline());
}

#[test]
fn waiting_for_the_lock_keeps_its_limit_and_the_token_follows_the_lock() {
    let db = Database::new();
    let (mut first, mut second) = (db.connect(), db.connect());
    let (monitor, waiter) = (polling_monitor(&db), pid(&mut second));
    let mut observer = db.connect();
    let (send, tokens) = channel();
    thread::scope(|scope| {
        let lock = first.advisory("leader").monitored(&monitor);
        let ran = lock.run(|_, held| {
            let (send, monitor) = (send.clone(), &monitor);
            scope.spawn(move || send.send(token(&mut second, monitor)).unwrap());
            wait_until_blocked(&mut observer, waiter);
            Ok::<_, Error>(held.token())
        });
        assert!(ran.unwrap() < tokens.recv().unwrap());
    });
    let _guard = observer.advisory("leader").acquire().unwrap();
    let lock = first
        .advisory("leader")
        .timeout(5 * TICK)
        .monitored(&monitor);
    let refused = lock.run(|_, _| Ok::<_, Error>(())).unwrap_err();
    assert!(refused.is_not_acquired(), "{refused}");
}
