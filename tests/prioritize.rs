//! Prioritized code on a sync connection.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_pglock::prelude::*;
use diesel_pglock::{
    BlockedPgLock, Blocker, Decision, Error, Policy, Prioritizer, PrioritizerEvent,
    PrioritizerReport, Protection, SignalKind, SignalOutcome, Victims, WaitGraph,
};

use crate::support::*;

pub mod bounded;
mod catalog;
mod duel;
mod faults;
mod spared;
mod world;

const TICK: Duration = Duration::from_millis(10);
const LONG: Duration = Duration::from_secs(60);

/// Acts at its first look.
fn at_once(db: &Database) -> Prioritizer<String> {
    Prioritizer::new(db.url.clone())
        .interval(TICK)
        .grace(Duration::ZERO)
}

/// Holds a lock on `users`, idle in its transaction.
fn idle_holder(db: &Database) -> PgConnection {
    let mut conn = db.connect();
    conn.batch_execute("BEGIN; UPDATE users SET name = 'held' WHERE id = 1")
        .unwrap();
    conn
}

/// A statement that waits for any holder.
fn alter(conn: &mut PgConnection) -> QueryResult<()> {
    conn.batch_execute("ALTER TABLE users ADD COLUMN IF NOT EXISTS age int")
}

#[test]
fn an_idle_transaction_is_terminated_and_the_code_goes_on() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let victim = pid(&mut holder);
    let prioritizer = at_once(&db);
    conn.prioritize(&prioritizer, alter).unwrap();
    let report = prioritizer.report();
    let [blocker] = &report.blockers[..] else {
        panic!("{report:?}")
    };
    assert_eq!(blocker.pid, Some(victim));
    assert_eq!(blocker.signals[0].kind, SignalKind::Terminate);
    assert_eq!(blocker.signals[0].outcome, SignalOutcome::Sent);
    assert_eq!(blocker.lock.relation.as_ref().unwrap().name, "users");
    assert!(report.errors.is_empty(), "{report}");
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn no_session_is_signalled_while_nothing_waits() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let prioritizer = at_once(&db);
    conn.prioritize(&prioritizer, |conn| {
        conn.batch_execute("SELECT pg_sleep(0.1)")
    })
    .unwrap();
    assert!(prioritizer.report().blockers.is_empty());
    assert!(prioritizer.report().polls > 0);
    holder.batch_execute("COMMIT").unwrap();
}

#[test]
fn a_session_that_only_queues_survives_by_default() {
    // A session that is to be terminated goes on blocking, even after the root has ended.
    for (victims, survives, stays) in [(Victims::Roots, true, 0), (Victims::All, false, 30)] {
        let db = Database::new();
        let (mut conn, mut holder, mut queued) = (db.connect(), idle_holder(&db), db.connect());
        let mut observer = db.connect();
        let (root, waiter) = (pid(&mut holder), pid(&mut queued));
        thread::scope(|scope| {
            let waiting = scope.spawn(move || {
                queued.batch_execute("BEGIN; LOCK TABLE users IN SHARE MODE")?;
                queued.batch_execute(&format!("SELECT pg_sleep({stays}); COMMIT"))
            });
            wait_until_blocked(&mut observer, waiter);
            let mut prioritizer = at_once(&db).victims(victims);
            if survives {
                // Once the root has gone, the next in the queue is the root for a moment.
                prioritizer = prioritizer.max_victims(1);
            }
            conn.prioritize(&prioritizer, alter).unwrap();
            assert!(prioritizer.report().victims().any(|b| b.pid == Some(root)));
            assert_eq!(waiting.join().unwrap().is_ok(), survives, "{victims:?}");
        });
    }
}

#[test]
fn every_kind_of_blocker_is_found() {
    type Step = fn(&mut PgConnection) -> QueryResult<()>;
    let cases: [(&str, &str, Step); 4] = [
        ("advisory", "SELECT pg_advisory_lock(1)", |c| {
            c.batch_execute("SELECT pg_advisory_lock(1)")
        }),
        (
            "row",
            "BEGIN; UPDATE users SET name = 'a' WHERE id = 1",
            |c| c.batch_execute("UPDATE users SET name = 'b' WHERE id = 1"),
        ),
        ("running query", "BEGIN; LOCK TABLE users", |c| {
            c.batch_execute("SELECT * FROM users")
        }),
        (
            "transaction",
            "BEGIN; INSERT INTO users VALUES (77, 'a')",
            |c| c.batch_execute("INSERT INTO users VALUES (77, 'b')"),
        ),
    ];
    for (what, hold, step) in cases {
        let db = Database::new();
        let (mut conn, mut holder) = (db.connect(), db.connect());
        holder.batch_execute(hold).unwrap();
        let prioritizer = at_once(&db);
        conn.prioritize(&prioritizer, step)
            .unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_eq!(prioritizer.report().victims().count(), 1, "{what}");
    }
}

#[test]
fn a_blocker_is_found_two_levels_away() {
    let db = Database::new();
    let (mut conn, mut root, mut middle) = (db.connect(), db.connect(), db.connect());
    let mut observer = db.connect();
    root.batch_execute("BEGIN; LOCK TABLE posts").unwrap();
    middle.batch_execute("BEGIN; LOCK TABLE users").unwrap();
    let (root_pid, middle_pid) = (pid(&mut root), pid(&mut middle));
    thread::scope(|scope| {
        let waiting = scope.spawn(move || middle.batch_execute("LOCK TABLE posts; COMMIT"));
        wait_until_blocked(&mut observer, middle_pid);
        let prioritizer = at_once(&db).max_victims(1); // then the middle is the root for a moment
        conn.prioritize(&prioritizer, alter).unwrap();
        let victims: Vec<_> = prioritizer
            .report()
            .victims()
            .map(|b| b.pid.unwrap())
            .collect();
        assert_eq!(victims, [root_pid]);
        waiting.join().unwrap().unwrap();
    });
}

#[test]
fn a_blocker_that_comes_back_is_moved_again() {
    let db = Database::new();
    let mut conn = db.connect();
    let prioritizer = at_once(&db);
    conn.prioritize(&prioritizer, |conn| {
        for _ in 0..3 {
            let _holder = idle_holder(&db);
            alter(conn)?;
        }
        QueryResult::Ok(())
    })
    .unwrap();
    assert_eq!(prioritizer.report().victims().count(), 3);
}

#[test]
fn the_grace_period_is_kept() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let (holding, mut observer) = (pid(&mut holder), db.connect());
    let (tells, told) = std::sync::mpsc::channel();
    let prioritizer = at_once(&db).grace(LONG).on_event(move |_| {
        let _ = tells.send(());
    });
    thread::scope(|scope| {
        let running = scope.spawn(|| conn.prioritize(&prioritizer, alter));
        told.recv_timeout(LONG).expect("the watcher has looked");
        holder.batch_execute("COMMIT").unwrap();
        running.join().unwrap().unwrap();
    });
    assert!(is_alive(&mut observer, holding));
    assert_eq!(prioritizer.report().victims().count(), 0);
}

#[test]
fn cancel_stops_a_query_and_leaves_an_idle_session_for_terminate() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let policy = Policy::CancelThenTerminate { after: TICK };
    let prioritizer = at_once(&db).policy(policy);
    conn.prioritize(&prioritizer, alter).unwrap();
    let kinds: Vec<_> = prioritizer.report().blockers[0]
        .signals
        .iter()
        .map(|s| s.kind)
        .collect();
    assert_eq!(kinds, [SignalKind::Cancel, SignalKind::Terminate]);
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn a_cancelled_query_keeps_its_session() {
    let db = Database::new();
    let (mut conn, mut holder, mut observer) = (db.connect(), db.connect(), db.connect());
    let holding = pid(&mut holder);
    thread::scope(|scope| {
        let query = "WITH l AS (SELECT * FROM users FOR UPDATE) SELECT pg_sleep(60) FROM l";
        let running = scope.spawn(move || {
            (
                holder.batch_execute(query),
                holder.batch_execute("SELECT 1"),
            )
        });
        wait_until("the query runs", || {
            count(
                &mut observer,
                &format!(
                    "SELECT count(*) FROM pg_stat_activity WHERE pid = {holding} AND wait_event = 'PgSleep'"
                ),
            ) == 1
        });
        conn.prioritize(&at_once(&db).policy(Policy::Cancel), alter)
            .unwrap();
        let (cancelled, after) = running.join().unwrap();
        assert!(cancelled.is_err());
        after.unwrap();
    });
}

#[test]
fn observe_signals_no_session_and_reports_the_blockers() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let holding = pid(&mut holder);
    let prioritizer = at_once(&db)
        .policy(Policy::Observe)
        .lock_timeout(Duration::from_secs(2));
    assert!(
        conn.prioritize(&prioritizer, alter).is_err(),
        "the lock timeout ends the wait"
    );
    let report = prioritizer.report();
    assert_eq!(report.blockers[0].pid, Some(holding));
    let outcomes: Vec<_> = report.blockers[0]
        .signals
        .iter()
        .map(|it| &it.outcome)
        .collect();
    assert_eq!(outcomes, [&SignalOutcome::Observed]);
    assert_eq!(report.victims().count(), 0);
    holder.batch_execute("COMMIT").unwrap();
}

#[test]
fn a_lock_timeout_shorter_than_the_interval_ends_the_wait() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let prioritizer = Prioritizer::new(db.url.clone())
        .interval(LONG)
        .lock_timeout(Duration::from_millis(50));
    assert!(conn.prioritize(&prioritizer, alter).is_err());
    assert_eq!(setting(&mut conn, "lock_timeout"), "0");
    holder.batch_execute("COMMIT").unwrap();
}

#[test]
fn a_closure_decides_for_each_blocker() {
    let db = Database::new();
    let (mut conn, mut spared) = (db.connect(), idle_holder(&db));
    spared
        .batch_execute("SET application_name = 'spared'")
        .unwrap();
    let _other = idle_holder_of_row_2(&db);
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let prioritizer = at_once(&db).lock_timeout(Duration::from_secs(2)).policy(
        move |blocked: &diesel_pglock::BlockedPgLock, _: Duration| {
            let name = blocked
                .blocking_activity
                .as_ref()
                .unwrap()
                .application_name
                .clone()
                .unwrap();
            seen.lock().unwrap().push(name.clone());
            if name == "spared" {
                Decision::Wait
            } else {
                Decision::Terminate
            }
        },
    );
    assert!(
        conn.prioritize(&prioritizer, alter).is_err(),
        "one goes on blocking"
    );
    assert_eq!(prioritizer.report().victims().count(), 1);
    assert!(asked.lock().unwrap().iter().any(|name| name == "spared"));
    spared.batch_execute("COMMIT").unwrap();
}

fn idle_holder_of_row_2(db: &Database) -> PgConnection {
    let mut conn = db.connect();
    conn.batch_execute("BEGIN; UPDATE users SET name = 'held' WHERE id = 2")
        .unwrap();
    conn
}

#[test]
fn no_more_are_signalled_than_allowed() {
    let db = Database::new();
    let mut conn = db.connect();
    let holders = [idle_holder(&db), idle_holder_of_row_2(&db)];
    let prioritizer = at_once(&db)
        .max_victims(1)
        .lock_timeout(Duration::from_secs(2));
    assert!(conn.prioritize(&prioritizer, alter).is_err());
    assert_eq!(prioritizer.report().blockers.len(), 2);
    assert_eq!(prioritizer.report().victims().count(), 1);
    drop(holders);
}

#[test]
fn once_acts_at_one_look_only() {
    let db = Database::new();
    let mut conn = db.connect();
    let prioritizer = at_once(&db).once().lock_timeout(Duration::from_secs(2));
    let second = conn.prioritize(&prioritizer, |conn| {
        let _first = idle_holder(&db);
        alter(conn)?;
        let _second = idle_holder(&db);
        alter(conn)
    });
    assert!(second.is_err());
    assert_eq!(prioritizer.report().victims().count(), 1);
}

#[test]
fn prepared_transactions_are_reported_by_their_names_and_not_signalled() {
    let db = Database::new();
    let mut conn = db.connect();
    let gids = [
        format!("{}'s first", db.name),
        format!("{} second", db.name),
    ];
    for gid in &gids {
        let gid = gid.replace('\'', "''");
        db.running(&format!(
            "BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE; PREPARE TRANSACTION '{gid}'"
        ));
    }
    let prioritizer = at_once(&db).lock_timeout(Duration::from_secs(2));
    assert!(conn.prioritize(&prioritizer, alter).is_err());
    let report = prioritizer.report();
    assert!(report.errors.is_empty(), "{report}");
    let prepared = |it: &Blocker| it.prepared.clone().expect("a prepared transaction");
    let mut found: Vec<_> = report.blockers.iter().map(prepared).collect();
    found.sort_by_key(|it| it.transaction_id);
    assert!(found.iter().map(|it| &it.gid).eq(&gids), "{report}");
    for blocker in &report.blockers {
        assert_eq!((blocker.pid, blocker.signals.len()), (None, 0));
        assert_eq!(blocker.lock.relation.as_ref().unwrap().name, "users");
        let (line, rollback) = (blocker.to_string(), prepared(blocker).rollback_statement());
        assert!(line.starts_with("prepared transaction '"), "{line}");
        assert!(
            line.ends_with(&format!("type in its database: {rollback}")),
            "{line}"
        );
        let json = serde_json::to_value(blocker).unwrap();
        assert_eq!(json["prepared"]["gid"], prepared(blocker).gid);
        conn.batch_execute(&rollback).unwrap();
    }
}

#[test]
fn a_role_that_may_not_signal_reports_it_and_goes_on() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let role = format!("nobody_{}", db.name);
    conn.batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .unwrap();
    let url = db.url.replacen("postgres@", &format!("{role}@"), 1);
    assert_ne!(url, db.url);
    let prioritizer = Prioritizer::new(url)
        .interval(TICK)
        .grace(Duration::ZERO)
        .lock_timeout(Duration::from_secs(2));
    assert!(conn.prioritize(&prioritizer, alter).is_err());
    let report = prioritizer.report();
    assert!(
        matches!(
            report.blockers[0].signals[0].outcome,
            SignalOutcome::Denied(_)
        ),
        "{report}"
    );
    assert!(report.errors.is_empty(), "{report}");
    holder.batch_execute("COMMIT").unwrap();
}

#[test]
fn a_watcher_that_is_killed_comes_back() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let prioritizer = Prioritizer::new(db.url.clone())
        .interval(TICK)
        .grace(Duration::ZERO);
    conn.prioritize(&prioritizer, |conn| {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                    WHERE application_name LIKE 'pglock watcher for %' AND datname = current_database()";
        assert_eq!(count(&mut observer, kill), 1);
        wait_until("the next watcher marks us", || marks(&mut observer) == 1);
        let _holder = idle_holder(&db);
        alter(conn)
    })
    .unwrap();
    assert_eq!(prioritizer.report().errors.len(), 1);
    assert_eq!(prioritizer.report().victims().count(), 1);
}

#[test]
fn without_a_watcher_nothing_is_run() {
    let db = Database::new();
    let mut conn = db.connect();
    let url = db.tcp_url_with_password("sup3rsecret");
    let refused = conn.prioritize(&Prioritizer::new(url), |_| -> Result<(), Error> {
        panic!("run")
    });
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::Watcher(_)));
    let text = format!("{error:?} {}", std::error::Error::source(&error).unwrap());
    assert!(!text.contains("sup3rsecret"), "{text}");
    assert!(text.contains("authentication"), "{text}");
}

#[test]
fn a_watcher_of_another_server_is_refused() {
    let (db, other) = (Database::new(), pglock_sandbox::Sandbox::start().unwrap());
    let refused = db
        .connect()
        .prioritize(&Prioritizer::new(other.url()), |_| Ok::<_, Error>(()));
    assert!(matches!(refused, Err(Error::OtherServer(_))));
}

#[test]
fn the_watcher_is_gone_when_the_run_is_over() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                    AND backend_type = 'client backend'";
    let before = count(&mut observer, sessions);
    let prioritizer = at_once(&db);
    let failed = conn.prioritize(&prioritizer, |_| Err::<(), _>(Error::NotHeld(1.into())));
    assert!(matches!(failed, Err(Error::NotHeld(_))));
    let panics = || {
        conn.prioritize(&prioritizer, |_| -> Result<(), Error> {
            panic!("in the closure")
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    wait_until("the watchers have gone", || {
        count(&mut observer, sessions) == before
    });
    let _holder = idle_holder(&db);
    let us = pid(&mut conn);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| conn.with_lock_timeout(Duration::from_secs(3), alter));
        wait_until_blocked(&mut observer, us);
        assert!(
            waiting.join().unwrap().is_err(),
            "the prioritized session has ended"
        );
    });
}

#[test]
fn a_policy_that_panics_is_reported_and_does_not_fail_the_run() {
    let db = Database::new();
    let (mut conn, mut holder, mut observer) = (db.connect(), idle_holder(&db), db.connect());
    let us = pid(&mut conn);
    let (failed, fails) = std::sync::mpsc::channel();
    let prioritizer = at_once(&db)
        .policy(|_: &diesel_pglock::BlockedPgLock, _: Duration| -> Decision { panic!("a policy") })
        .on_event(move |event| {
            if let PrioritizerEvent::WatcherFailed(_) = event {
                failed.send(()).unwrap();
            }
        });
    thread::scope(|scope| {
        let running = scope.spawn(|| conn.prioritize(&prioritizer, alter));
        wait_until_blocked(&mut observer, us);
        fails.recv().unwrap();
        holder.batch_execute("COMMIT").unwrap();
        running.join().unwrap().unwrap();
    });
    assert_eq!(prioritizer.report().errors.len(), 1);
}

#[test]
fn a_pool_is_a_source() {
    use diesel::r2d2::{ConnectionManager, Pool};
    let db = Database::new();
    let pool = Pool::builder()
        .max_size(2)
        .build(ConnectionManager::<PgConnection>::new(&db.url))
        .unwrap();
    let _holder = idle_holder(&db);
    let prioritizer = Prioritizer::new(pool.clone())
        .interval(TICK)
        .grace(Duration::ZERO);
    pool.get()
        .unwrap()
        .prioritize(&prioritizer, |conn| alter(conn))
        .unwrap();
    assert_eq!(prioritizer.report().victims().count(), 1);
}

#[test]
fn events_tell_what_happens() {
    let db = Database::new();
    let (mut conn, _holder) = (db.connect(), idle_holder(&db));
    let events = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&events);
    let prioritizer = at_once(&db).on_event(move |event| {
        heard.lock().unwrap().push(match event {
            PrioritizerEvent::Blocked(_) => "blocked",
            PrioritizerEvent::Signalled { .. } => "signalled",
            _ => "other",
        })
    });
    conn.prioritize(&prioritizer, alter).unwrap();
    assert_eq!(*events.lock().unwrap(), ["blocked", "signalled"]);
}

#[test]
fn a_blocker_that_gives_way_at_the_last_moment_is_spared() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let mut holder = idle_holder(&db);
    let holding = pid(&mut holder);
    let holder = Mutex::new(holder);
    // The policy is asked after the look and before the signal.
    let policy = move |_: &diesel_pglock::BlockedPgLock, _: Duration| {
        let _ = holder.lock().unwrap().batch_execute("COMMIT");
        Decision::Terminate
    };
    let (outcomes, told) = outcomes();
    let prioritizer = at_once(&db).policy(policy).on_event(outcomes);
    conn.prioritize(&prioritizer, |conn| {
        alter(conn)?;
        // No signal is sent once the code has ended.
        assert_eq!(told.recv_timeout(LONG), Ok(SignalOutcome::Gone));
        QueryResult::Ok(())
    })
    .unwrap();
    assert_eq!(prioritizer.report().victims().count(), 0);
    assert!(is_alive(&mut observer, holding));
}

/// Returns an event handler that sends on the outcome of each signal.
fn outcomes() -> (
    impl Fn(&PrioritizerEvent) + Send + Sync + 'static,
    std::sync::mpsc::Receiver<SignalOutcome>,
) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let handler = move |event: &PrioritizerEvent| {
        if let PrioritizerEvent::Signalled { signal, .. } = event {
            let _ = sender.send(signal.outcome.clone());
        }
    };
    (handler, receiver)
}

#[test]
fn a_blocker_that_gave_way_and_comes_back_is_terminated() {
    let db = Database::new();
    let (mut conn, holder) = (db.connect(), Mutex::new(idle_holder(&db)));
    let (outcomes, told) = outcomes();
    // Gives way between look and signal, and then holds something else.
    let policy = move |blocked: &diesel_pglock::BlockedPgLock, _: Duration| {
        if blocked
            .lock
            .relation
            .as_ref()
            .is_none_or(|relation| relation.name == "users")
        {
            let elsewhere = "COMMIT; BEGIN; LOCK TABLE posts";
            holder.lock().unwrap().batch_execute(elsewhere).unwrap();
        }
        Decision::Terminate
    };
    let prioritizer = at_once(&db).policy(policy).on_event(outcomes);
    conn.prioritize(&prioritizer, |conn| {
        alter(conn)?;
        assert_eq!(told.recv_timeout(LONG), Ok(SignalOutcome::Gone));
        conn.batch_execute("BEGIN; LOCK TABLE posts; COMMIT")
    })
    .unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok(SignalOutcome::Sent));
}

#[test]
fn the_report_shows_the_activity_of_a_session_when_it_was_signalled() {
    let db = Database::new();
    let (mut conn, holder) = (db.connect(), Mutex::new(idle_holder(&db)));
    let policy = move |blocked: &BlockedPgLock, _: Duration| {
        let query = blocked.blocking_activity.as_ref().unwrap().query.as_deref();
        if query == Some("SELECT 'later'") {
            return Decision::Terminate;
        }
        let later = "SELECT 'later'";
        holder.lock().unwrap().batch_execute(later).unwrap();
        Decision::Wait
    };
    let prioritizer = at_once(&db).policy(policy);
    conn.prioritize(&prioritizer, alter).unwrap();
    let report = prioritizer.report();
    let activity = report.blockers[0].activity.as_ref().unwrap();
    assert_eq!(activity.query.as_deref(), Some("SELECT 'later'"));
    assert!(report.blockers[0].blocked_for > Duration::ZERO);
}

#[test]
fn an_event_handler_that_panics_is_reported_and_does_not_fail_the_run() {
    let db = Database::new();
    let (mut conn, _holder) = (db.connect(), idle_holder(&db));
    let prioritizer = at_once(&db).on_event(|_| panic!("a handler"));
    let altered = conn.prioritize(&prioritizer, |conn| alter(conn).map(|()| 5));
    assert_eq!(altered, Ok(5));
    assert_eq!(prioritizer.report().victims().count(), 1);
    assert_eq!(prioritizer.report().errors.len(), 1);
}

#[test]
fn a_server_that_restarts_fails_the_code_and_not_the_watcher() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    let prioritizer = Prioritizer::new(server.url())
        .interval(TICK)
        .grace(Duration::ZERO);
    let failed = conn.prioritize(&prioritizer, |conn| {
        server.restart().unwrap();
        conn.batch_execute("SELECT 1")
    });
    assert!(failed.is_err(), "the session has gone");
    let mut conn = PgConnection::establish(&server.url()).unwrap();
    conn.prioritize(&prioritizer, |conn| conn.batch_execute("SELECT 1"))
        .unwrap();
    assert!(prioritizer.report().errors.is_empty());
}

#[test]
fn a_walsender_is_spared_also_by_a_watcher_that_may_not_see_what_it_is() {
    let db = Database::new();
    let mut conn = db.connect();
    let (sender, watcher) = (
        format!("sender_{}", db.name),
        format!("watcher_{}", db.name),
    );
    conn.batch_execute(&format!(
        "CREATE ROLE {sender} LOGIN REPLICATION; GRANT SELECT ON users TO {sender};
         CREATE ROLE {watcher} LOGIN; GRANT pg_signal_backend TO {watcher}"
    ))
    .unwrap();
    let url_of = |role: &str| db.url.replacen("postgres@", &format!("{role}@"), 1);
    let joint = if db.url.contains('?') { '&' } else { '?' };
    let replicating = format!("{}{joint}replication=database", url_of(&sender));
    // As a logical replication's copy of a table does. Diesel cannot: a walsender
    // knows no prepared statements.
    let started = std::process::Command::new("psql")
        .arg(replicating)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn();
    let Ok(mut walsender) = started else {
        skipped("the test of a walsender", "`psql`");
        return;
    };
    let mut input = walsender.stdin.take().unwrap();
    input
        .write_all(b"BEGIN;\nSELECT count(*) FROM users;\n")
        .unwrap();
    let reading = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
                   WHERE backend_type = 'walsender' AND relation = 'users'::regclass
                   AND datname = current_database() AND state = 'idle in transaction'";
    wait_until("the walsender reads", || count(&mut conn, reading) == 1);
    for source in [db.url.clone(), url_of(&watcher)] {
        let prioritizer = Prioritizer::new(source)
            .interval(TICK)
            .grace(Duration::ZERO)
            .lock_timeout(Duration::from_secs(1));
        assert!(conn.prioritize(&prioritizer, alter).is_err());
        assert!(!prioritizer.report().blockers.is_empty());
        assert_eq!(prioritizer.report().victims().count(), 0);
        let signals = &prioritizer.report().blockers[0].signals;
        assert!(signals.len() <= 1, "reported once: {signals:?}");
    }
    drop(input);
    assert!(walsender.wait().unwrap().success(), "it was not disturbed");
}

#[test]
fn an_autovacuum_that_prevents_a_wraparound_is_spared() {
    spares_a_vacuum("on");
}

#[test]
fn an_autovacuum_that_does_not_tell_what_it_does_is_spared() {
    spares_a_vacuum("off");
}

/// On a server of its own, where sessions can hide their activity.
fn spares_a_vacuum(track_activities: &str) {
    let server = pglock_sandbox::Sandbox::builder()
        .setting("autovacuum_naptime", "1s")
        .setting("track_activities", track_activities)
        .start()
        .unwrap();
    let db = Database::on(&server);
    let mut conn = db.connect();
    // Old as soon as it can be, vacuumed as slowly, and not before it must.
    conn.batch_execute(
        "ALTER TABLE users SET (autovacuum_enabled = false, autovacuum_freeze_max_age = 100000,
             autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1);
         INSERT INTO users (name) SELECT repeat('x', 1000) FROM generate_series(1, 5000)",
    )
    .unwrap();
    conn.batch_execute(
        "DO $$ BEGIN FOR i IN 1..100001 LOOP PERFORM txid_current(); COMMIT; END LOOP; END $$",
    )
    .unwrap();
    let vacuuming = "SELECT count(*) FROM pg_stat_activity JOIN pg_locks USING (pid)
                     WHERE backend_type = 'autovacuum worker' AND granted
                     AND relation = 'users'::regclass";
    wait_until("the table is vacuumed", || count(&mut conn, vacuuming) == 1);
    let hardly_sees = db.role_url();
    let role = format!("{}_role", db.name);
    conn.batch_execute(&format!("GRANT pg_signal_backend TO {role}"))
        .unwrap();
    for source in [db.url.clone(), hardly_sees] {
        let prioritizer = Prioritizer::new(source)
            .interval(TICK)
            .grace(Duration::ZERO)
            .lock_timeout(Duration::from_secs(1));
        assert!(conn.prioritize(&prioritizer, alter).is_err());
        let report = prioritizer.report();
        let protection = report.blockers[0].protection;
        let expected = [Protection::Wraparound, Protection::UnknownProcess];
        assert!(
            protection.is_some_and(|it| expected.contains(&it)),
            "{report}"
        );
        assert!(report.blockers[0].protected, "{report}");
        assert!(report.blockers[0].signals.is_empty(), "{report}");
        assert_eq!(count(&mut conn, vacuuming), 1);
    }
}

/// A function that takes a lock of its own in each worker of a parallel query.
const COUNT_POSTS: &str = "CREATE FUNCTION count_posts() RETURNS bigint LANGUAGE plpgsql \
    STABLE PARALLEL SAFE AS 'BEGIN RETURN (SELECT count(*) FROM posts); END'";

/// Lets a session run the next query in a worker, by whichever name this server has for that.
const FORCE_WORKER: &str = "SELECT set_config(name, 'on', false) FROM pg_settings \
    WHERE name IN ('force_parallel_mode', 'debug_parallel_query')";

#[test]
fn a_worker_that_waits_is_its_leader() {
    let db = Database::new();
    db.running(COUNT_POSTS);
    let mut holder = db.running("BEGIN; LOCK TABLE posts IN ACCESS EXCLUSIVE MODE");
    let mut conn = db.running(FORCE_WORKER);
    let prioritizer = at_once(&db);
    conn.prioritize(&prioritizer, |conn| {
        conn.batch_execute("SELECT count_posts()")
    })
    .unwrap();
    assert!(holder.batch_execute("SELECT 1").is_err(), "it was ended");
    assert_eq!(prioritizer.report().victims().count(), 1);
}

/// A session that holds rows of `users`, and whose parallel worker waits for `holder`.
struct WaitingWorker {
    holder: PgConnection,
    root: i32,
    leader: i32,
    query: thread::JoinHandle<QueryResult<()>>,
}

impl WaitingWorker {
    fn new(db: &Database) -> Self {
        db.running(COUNT_POSTS);
        let mut holder = db.running("BEGIN; LOCK TABLE posts IN ACCESS EXCLUSIVE MODE");
        let mut queued = db.running(FORCE_WORKER);
        queued
            .batch_execute("BEGIN; UPDATE users SET name = 'x'")
            .unwrap();
        let (root, leader) = (pid(&mut holder), pid(&mut queued));
        let query = thread::spawn(move || queued.batch_execute("SELECT count_posts(); COMMIT"));
        let blocking = format!("SELECT cardinality(pg_blocking_pids({leader}))");
        let mut observer = db.connect();
        wait_until("a worker waits", || count(&mut observer, &blocking) > 0);
        Self {
            holder,
            root,
            leader,
            query,
        }
    }
}

#[test]
fn a_session_whose_worker_waits_is_not_a_root() {
    let db = Database::new();
    let waiting = WaitingWorker::new(&db);
    let (root, between) = (waiting.root, waiting.leader);
    let graph = WaitGraph::load(&mut db.connect()).unwrap();
    let node = graph.node(between).expect("the leader waits");
    assert_eq!(node.wait.as_ref().unwrap().blockers[0].pid, Some(root));
    assert_eq!(node.activity.as_ref().unwrap().pid, between);
    let roots: Vec<_> = graph.roots().map(|root| root.pid).collect();
    assert!(roots.contains(&Some(root)) && !roots.contains(&Some(between)));

    let prioritizer = at_once(&db);
    db.connect()
        .prioritize(&prioritizer, |conn| {
            conn.batch_execute("ALTER TABLE users ADD COLUMN age int")
        })
        .unwrap();
    let report = prioritizer.report();
    let victims: Vec<_> = report.victims().map(|victim| victim.pid).collect();
    assert_eq!(victims, [Some(root)]);
    waiting.query.join().unwrap().expect("it was let live");
}

#[test]
fn the_grace_period_runs_for_a_worker_that_waits() {
    let db = Database::new();
    db.running(COUNT_POSTS);
    let mut holder = db.running("BEGIN; LOCK TABLE posts IN ACCESS EXCLUSIVE MODE");
    let mut conn = db.running(FORCE_WORKER);
    let prioritizer = at_once(&db).grace(GRACE);
    conn.prioritize(&prioritizer, |conn| {
        conn.batch_execute("SELECT count_posts()")
    })
    .unwrap();
    assert!(holder.batch_execute("SELECT 1").is_err(), "it was ended");
    let report = prioritizer.report();
    assert!(report.blockers[0].blocked_for >= GRACE, "{report}");
}

/// Shorter than sessions that block often and for a moment go on, longer than each moment.
const GRACE: Duration = Duration::from_millis(300);

/// A session's work of 40 ms, the lock that it holds meanwhile, and the prioritized work.
const BRIEF_BLOCKS: [(&str, &str); 4] = [
    (
        "BEGIN; UPDATE users SET name = 'x' WHERE id = 1; SELECT pg_sleep(0.04); COMMIT",
        "UPDATE users SET name = 'y' WHERE id = 1",
    ),
    (
        "BEGIN; LOCK TABLE users; SELECT pg_sleep(0.04); COMMIT",
        "BEGIN; LOCK TABLE users; COMMIT",
    ),
    (
        "SELECT pg_advisory_lock(1); SELECT pg_sleep(0.04); SELECT pg_advisory_unlock(1)",
        "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)",
    ),
    (
        "BEGIN; SELECT pg_advisory_xact_lock(1); SELECT pg_sleep(0.04); COMMIT",
        "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT",
    ),
];

/// Runs `ours` again and again, prioritized, while `sessions` run `theirs` 40 times each.
fn share(
    db: &Database,
    sessions: usize,
    (theirs, ours): (&str, &str),
    prioritizer: &Prioritizer<String>,
) -> Vec<QueryResult<()>> {
    let mut conn = db.connect();
    thread::scope(|scope| {
        let again_and_again = || {
            let mut conn = db.connect();
            let repeated = || conn.batch_execute(theirs);
            std::iter::repeat_with(repeated).take(40).collect()
        };
        let others: Vec<_> = (0..sessions)
            .map(|_| scope.spawn(again_and_again))
            .collect();
        conn.prioritize(prioritizer, |conn| {
            while others.iter().any(|other| !other.is_finished()) {
                conn.batch_execute(ours)?;
            }
            QueryResult::Ok(())
        })
        .unwrap();
        others
            .into_iter()
            .map(|other| other.join().unwrap())
            .collect()
    })
}

#[test]
fn a_session_that_blocks_often_and_never_for_long_is_left_alone() {
    for case in BRIEF_BLOCKS {
        let db = Database::new();
        let prioritizer = at_once(&db).interval(GRACE / 6).grace(GRACE);
        for ended in share(&db, 1, case, &prioritizer) {
            ended.unwrap_or_else(|error| panic!("{case:?}: {error}"));
        }
        let report = prioritizer.report();
        assert_eq!(report.blockers.len(), 1, "{report}");
        assert!(report.waited > GRACE, "it blocked, in all: {report:?}");
    }
}

#[test]
fn the_report_has_an_entry_per_session_however_often_it_blocks() {
    let db = Database::new();
    let prioritizer = at_once(&db).policy(Policy::Observe);
    share(&db, 3, BRIEF_BLOCKS[0], &prioritizer);
    let report = prioritizer.report();
    let pids: std::collections::HashSet<_> = report.blockers.iter().map(|it| it.pid).collect();
    assert_eq!(pids.len(), report.blockers.len(), "{report}");
    assert!(report.blockers.len() <= 3, "{report}");
    for blocker in &report.blockers {
        assert!(blocker.blocked_for < report.waited, "{report:?}");
    }
}

#[test]
fn a_lock_that_outlives_its_holders_transactions_is_one_block() {
    // PostgreSQL 13 does not show when a wait began, so each transaction is another block there.
    if server().version() < 14 {
        return;
    }
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), db.running("SELECT pg_advisory_lock(1)"));
    let prioritizer = at_once(&db).grace(GRACE);
    thread::scope(|scope| {
        let busy = scope.spawn(move || {
            let transaction = || holder.batch_execute("BEGIN; SELECT pg_sleep(0.02); COMMIT");
            std::iter::repeat_with(transaction)
                .take(1000)
                .any(|ended| ended.is_err())
        });
        conn.prioritize(&prioritizer, |conn| {
            conn.batch_execute("SET lock_timeout = '30s'; SELECT pg_advisory_lock(1)")
        })
        .expect("it is let through");
        assert!(busy.join().unwrap());
    });
    assert_eq!(prioritizer.report().victims().count(), 1);
}

#[test]
fn a_session_that_waits_for_its_synchronous_standby_is_spared() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let db = Database::on(&server);
    let hardly_sees = db.role_url();
    let (mut conn, mut admin) = (db.connect(), db.connect());
    conn.batch_execute("SET synchronous_commit = local")
        .unwrap();
    admin
        .batch_execute(&format!(
            "SET synchronous_commit = local; GRANT pg_signal_backend TO {}_role",
            db.name
        ))
        .unwrap();
    require_standby(&mut admin, "nobody");
    let mut committer = db.connect();
    let committing = pid(&mut committer);
    thread::scope(|scope| {
        let commit = scope.spawn(move || {
            committer.batch_execute("UPDATE users SET name = 'committed'")?;
            committer.batch_execute("SELECT 'it lives'")
        });
        let waiting = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid = {committing} AND wait_event = 'SyncRep'"
        );
        wait_until("the commit waits", || count(&mut admin, &waiting) == 1);
        let sees = (db.url.clone(), Protection::SynchronousStandby);
        let hardly_sees = (hardly_sees, Protection::MaybeSynchronousStandby);
        for (source, protection) in [sees, hardly_sees] {
            let prioritizer = Prioritizer::new(source)
                .interval(TICK)
                .grace(Duration::ZERO)
                .lock_timeout(Duration::from_millis(500));
            assert!(conn.prioritize(&prioritizer, alter).is_err());
            let report = prioritizer.report();
            let [blocker] = &report.blockers[..] else {
                panic!("{report}")
            };
            assert_eq!(blocker.protection, Some(protection));
            assert!(blocker.protected && blocker.signals.is_empty(), "{report}");
            let line = blocker.to_string();
            assert!(line.contains(&format!("spared, {protection}")), "{line}");
        }
        assert_eq!(count(&mut admin, &waiting), 1, "the commit still waits");
        require_standby(&mut admin, "");
        commit.join().unwrap().unwrap();
    });
}

/// Lets commits wait for a standby of this name, or for none.
fn require_standby(admin: &mut PgConnection, name: &str) {
    let set = format!("ALTER SYSTEM SET synchronous_standby_names = '{name}'");
    admin.batch_execute(&set).unwrap();
    admin.batch_execute("SELECT pg_reload_conf()").unwrap();
    wait_until("the setting is read", || {
        setting(admin, "synchronous_standby_names") == name
    });
}

#[test]
fn a_session_that_commits_at_the_last_moment_and_waits_for_its_standby_is_spared() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let db = Database::on(&server);
    let mut conn = db.running("SET synchronous_commit = local");
    let mut admin = db.running("SET synchronous_commit = local");
    require_standby(&mut admin, "nobody");
    let mut holder = idle_holder(&db);
    let (commits, committing) = std::sync::mpsc::channel();
    let commit = thread::spawn(move || {
        committing.recv().unwrap();
        holder.batch_execute("COMMIT")
    });
    let observer = Mutex::new(db.connect());
    // The policy is asked after the look and before the signal.
    let policy = move |_: &BlockedPgLock, _: Duration| {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        let _ = commits.send(());
        let observer = &mut *observer.lock().unwrap();
        wait_until("the commit waits", || count(observer, waiting) == 1);
        Decision::Terminate
    };
    let prioritizer = at_once(&db).lock_timeout(Duration::from_secs(1));
    assert!(
        conn.prioritize(&prioritizer.clone().policy(policy), alter)
            .is_err()
    );
    assert_eq!(prioritizer.report().victims().count(), 0);
    require_standby(&mut admin, "");
    commit.join().unwrap().unwrap();
}

#[test]
fn prioritized_sessions_take_turns_and_spare_each_other() {
    let db = Database::new();
    let take_turns = || {
        let mut conn = db.connect();
        let prioritizer = at_once(&db);
        let rounds = || {
            conn.prioritize(&prioritizer, |conn| {
                conn.batch_execute("BEGIN; LOCK TABLE users; SELECT pg_sleep(0.05); COMMIT")
            })?;
            QueryResult::Ok(prioritizer.report())
        };
        let reports = std::iter::repeat_with(rounds).take(20);
        reports.collect::<QueryResult<Vec<_>>>().expect("it lives")
    };
    thread::scope(|scope| {
        let sessions = [scope.spawn(take_turns), scope.spawn(take_turns)];
        let reports = sessions.map(|session| session.join().unwrap()).concat();
        let blockers: Vec<_> = reports.iter().flat_map(|it| &it.blockers).collect();
        assert!(!blockers.is_empty(), "they blocked each other");
        for blocker in blockers {
            assert!(!blocker.is_victim(), "{blocker}");
        }
    });
}

#[test]
fn a_role_without_any_privilege_knows_another_prioritized_session() {
    let db = Database::new();
    let (mut conn, mut other) = (db.connect(), db.connect());
    let hardly_sees = Prioritizer::new(db.role_url())
        .interval(TICK)
        .grace(Duration::ZERO)
        .lock_timeout(Duration::from_millis(500));
    // The database of the other's watcher means nothing.
    let elsewhere = Prioritizer::new(server().url());
    other
        .prioritize(&elsewhere, |other| {
            other.batch_execute("BEGIN; LOCK TABLE users")?;
            assert!(conn.prioritize(&hardly_sees, alter).is_err());
            other.batch_execute("COMMIT")
        })
        .unwrap();
    let report = hardly_sees.report();
    let [blocker] = &report.blockers[..] else {
        panic!("{report}")
    };
    assert_eq!(blocker.protection, Some(Protection::Prioritized));
    assert!(blocker.signals.is_empty(), "{report}");
    let line = blocker.to_string();
    assert!(line.contains("another prioritized session"), "{line}");
}

#[test]
fn a_session_is_marked_while_it_is_prioritized_and_no_longer() {
    use diesel::r2d2::{ConnectionManager, Pool};
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let pool = Pool::builder()
        .max_size(1)
        .build(ConnectionManager::<PgConnection>::new(&db.url))
        .unwrap();
    let prioritizer = Prioritizer::new(pool.clone()).interval(TICK);
    conn.prioritize(&prioritizer, |_| {
        assert_eq!(marks(&mut observer), 1);
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(marks(&mut observer), 0);
    let failed = conn.prioritize(&prioritizer, |_| Err::<(), _>(Error::NotHeld(1.into())));
    assert!(failed.is_err() && marks(&mut observer) == 0);
    let panics = || conn.prioritize(&prioritizer, |_| -> Result<(), Error> { panic!("in it") });
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    assert_eq!(marks(&mut observer), 0);
    let unlogged = conn.prioritize(&prioritizer.audit(true), |_| Ok::<_, Error>(()));
    assert!(matches!(unlogged, Err(Error::NoSignalLog)));
    assert_eq!(marks(&mut observer), 0);
    let watcher = pid(&mut pool.get().unwrap());
    assert!(is_alive(&mut observer, watcher));
}

#[test]
fn a_watcher_whose_poll_is_cancelled_does_not_leave_its_mark_in_a_pool() {
    use diesel::r2d2::{ConnectionManager, Pool};
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let pool = Pool::builder()
        .max_size(1)
        .build(ConnectionManager::<PgConnection>::new(&db.url))
        .unwrap();
    let watcher = pid(&mut pool.get().unwrap());
    let (tells, told) = std::sync::mpsc::channel();
    let prioritizer = Prioritizer::new(pool.clone())
        .interval(Duration::from_millis(1))
        .on_event(move |event| {
            if let PrioritizerEvent::WatcherFailed(_) = event {
                let _ = tells.send(());
            }
        });
    conn.prioritize(&prioritizer, |_| {
        let cancel = format!("SELECT count(*) FROM (SELECT pg_cancel_backend({watcher})) AS sent");
        wait_until("a look is cancelled", || {
            count(&mut observer, &cancel);
            told.try_recv().is_ok()
        });
        wait_until("the next session marks us", || marks(&mut observer) == 1);
        Ok::<_, Error>(())
    })
    .unwrap();
    assert_eq!(marks(&mut observer), 0);
    assert!(!is_alive(&mut observer, watcher), "it had the mark");
}

/// Runs code that holds `users` and waits for `posts`, whose holder then waits for `users`.
///
/// Returns the result of the code, and of the other session.
fn run_into_a_cycle(
    db: &Database,
    prioritizer: &Prioritizer<String>,
) -> (QueryResult<()>, QueryResult<()>) {
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let prioritized = pid(&mut conn);
    let mut other = db.running("BEGIN; LOCK TABLE posts");
    thread::scope(|scope| {
        let running = scope.spawn(move || {
            conn.prioritize(prioritizer, |conn| {
                conn.batch_execute("BEGIN; LOCK TABLE users; LOCK TABLE posts; COMMIT")
            })
        });
        wait_until_blocked(&mut observer, prioritized);
        let closed = other.batch_execute("LOCK TABLE users; COMMIT");
        (running.join().unwrap(), closed)
    })
}

#[test]
fn a_cycle_ends_for_the_other_session_before_the_grace_period() {
    for _ in 0..5 {
        let db = Database::new();
        let prioritizer = Prioritizer::new(db.url.clone()).grace(LONG);
        let (prioritized, other) = run_into_a_cycle(&db, &prioritizer);
        prioritized.expect("the prioritized session acquires both locks");
        assert!(other.is_err(), "it was terminated");
        let report = prioritizer.report();
        assert_eq!(report.victims().count(), 1, "{report}");
        let signals = &report.blockers[0].signals;
        assert_eq!(signals[0].kind, SignalKind::Terminate, "{report}");
        assert!(report.blockers[0].blocked_for < LONG, "{report}");
    }
}

#[test]
fn the_other_session_of_a_cycle_is_spared_if_it_is_prioritized_too() {
    let db = Database::new();
    let (mut conn, mut other, mut observer) = (db.connect(), db.connect(), db.connect());
    let prioritized = pid(&mut conn);
    let (ours, theirs) = (at_once(&db), at_once(&db));
    thread::scope(|scope| {
        let (locks, locked) = std::sync::mpsc::channel();
        let (blocks, blocked) = std::sync::mpsc::channel::<()>();
        let second = scope.spawn({
            let theirs = &theirs;
            move || {
                other.prioritize(theirs, |other| {
                    other.batch_execute("BEGIN; LOCK TABLE posts")?;
                    locks.send(()).unwrap();
                    blocked.recv().unwrap();
                    other.batch_execute("LOCK TABLE users; COMMIT")
                })
            }
        });
        locked.recv().unwrap();
        let first = scope.spawn(|| {
            conn.prioritize(&ours, |conn| {
                conn.batch_execute("BEGIN; LOCK TABLE users; LOCK TABLE posts; COMMIT")
            })
        });
        wait_until_blocked(&mut observer, prioritized);
        blocks.send(()).unwrap();
        let ended = [first.join().unwrap(), second.join().unwrap()];
        assert_eq!(ended.iter().filter(|it| it.is_ok()).count(), 1, "{ended:?}");
    });
    for report in [ours.report(), theirs.report()] {
        assert_eq!(report.victims().count(), 0, "{report}");
    }
}

#[test]
fn a_session_that_only_queues_in_a_cycle_is_left_to_the_server() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; LOCK TABLE users IN ROW EXCLUSIVE MODE");
    let mut conn = db.running("BEGIN; LOCK TABLE posts");
    let (holding, own) = (pid(&mut holder), pid(&mut conn));
    let mut queued = db.connect();
    let queuing = pid(&mut queued);
    let mut observer = db.connect();
    thread::scope(|scope| {
        // It waits for the holder, and is ahead of the prioritized session in the queue.
        let queued = scope
            .spawn(move || queued.batch_execute("BEGIN; LOCK TABLE users IN SHARE MODE; COMMIT"));
        wait_until_blocked(&mut observer, queuing);
        let prioritizer = at_once(&db).grace(LONG);
        let running = scope.spawn(move || {
            conn.prioritize(&prioritizer, |conn| {
                conn.batch_execute("LOCK TABLE users IN ROW EXCLUSIVE MODE; COMMIT")
            })
            .unwrap();
            prioritizer.report()
        });
        wait_until_blocked(&mut observer, own);
        let held = scope.spawn(move || holder.batch_execute("LOCK TABLE posts; COMMIT"));
        wait_until_blocked(&mut observer, holding);
        let report = running.join().unwrap();
        assert_eq!(report.victims().count(), 0, "{report}");
        held.join().unwrap().unwrap();
        queued.join().unwrap().unwrap();
    });
}

#[test]
fn an_interval_of_zero_is_raised_to_a_millisecond() {
    let db = Database::new();
    let prioritizer = Prioritizer::new(db.url.clone()).interval(Duration::ZERO);
    let started = std::time::Instant::now();
    db.connect()
        .prioritize(&prioritizer, |conn| {
            conn.batch_execute("SELECT pg_sleep(0.3)")
        })
        .unwrap();
    let polls = u128::from(prioritizer.report().polls);
    assert!(
        (1..=started.elapsed().as_millis()).contains(&polls),
        "{polls}"
    );
}

#[test]
fn a_watcher_that_cannot_connect_tries_less_and_less_often() {
    let db = Database::new();
    let (mut observer, url) = (db.connect(), db.url.clone());
    let is_first = std::sync::atomic::AtomicBool::new(true);
    let source = move || {
        if is_first.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return PgConnection::establish(&url);
        }
        Err(diesel::ConnectionError::BadConnection("refused".to_owned()))
    };
    let failures = Arc::new(Mutex::new(Vec::new()));
    let failed = Arc::clone(&failures);
    let prioritizer = Prioritizer::new(source)
        .interval(TICK)
        .on_event(move |event| {
            if let PrioritizerEvent::WatcherFailed(_) = event {
                failed.lock().unwrap().push(std::time::Instant::now());
            }
        });
    db.connect()
        .prioritize(&prioritizer, |_| {
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                        WHERE application_name LIKE 'pglock watcher for %' AND datname = current_database()";
            assert_eq!(count(&mut observer, kill), 1);
            wait_until("it has failed six times", || {
                failures.lock().unwrap().len() >= 6
            });
            Ok::<_, Error>(())
        })
        .unwrap();
    let failures = failures.lock().unwrap();
    for (tries, pair) in failures.windows(2).enumerate() {
        let least = TICK * 2_u32.pow(1 + u32::try_from(tries).unwrap());
        assert!(
            pair[1] - pair[0] >= least,
            "{tries}: {:?}",
            pair[1] - pair[0]
        );
    }
}
