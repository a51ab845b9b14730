//! Sessions that are spared, and decisions that are only observed.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel_pglock::{BlockedPgLock, PgActivity};

use super::*;

/// Runs a statement that a blocker never lets through, and returns the report.
fn run_into(db: &Database, prioritizer: Prioritizer<String>) -> PrioritizerReport {
    let prioritizer = prioritizer.lock_timeout(Duration::from_millis(600));
    assert!(db.connect().prioritize(&prioritizer, alter).is_err());
    prioritizer.report()
}

fn holder_named(db: &Database, name: &str) -> PgConnection {
    let mut holder = db.running(&format!("SET application_name = '{name}'"));
    holder
        .batch_execute("BEGIN; UPDATE users SET name = 'held' WHERE id = 1")
        .unwrap();
    holder
}

#[test]
fn a_session_that_the_caller_spares_is_not_signalled() {
    let db = Database::new();
    let mut holder = holder_named(&db, "billing");
    let is_billing = |it: &PgActivity| it.application_name.as_deref() == Some("billing");
    let report = run_into(&db, at_once(&db).spare(is_billing));
    assert_eq!(report.blockers[0].protection, Some(Protection::Chosen));
    assert!(report.blockers[0].signals.is_empty());
    holder.batch_execute("COMMIT").unwrap();

    let _holder = holder_named(&db, "another");
    let prioritizer = at_once(&db).spare(is_billing);
    db.connect().prioritize(&prioritizer, alter).unwrap();
}

#[test]
fn pg_dump_is_spared_unless_the_caller_decides_otherwise() {
    let db = Database::new();
    let mut dump = holder_named(&db, "pg_dump");
    let report = run_into(&db, at_once(&db));
    assert_eq!(report.blockers[0].protection, Some(Protection::PgDump));
    dump.batch_execute("SELECT 1").unwrap();
    let prioritizer = at_once(&db).spare_pg_dump(false);
    db.connect().prioritize(&prioritizer, alter).unwrap();
    assert!(dump.batch_execute("COMMIT").is_err(), "it was terminated");
}

/// Builds an index concurrently, which waits for a transaction, and runs `check` meanwhile.
fn while_an_index_is_built(db: &Database, check: impl FnOnce()) {
    let mut writer = db.running("SET application_name = 'writer'");
    writer
        .batch_execute("BEGIN; UPDATE posts SET title = 'x'")
        .unwrap();
    let mut builder = db.connect();
    let building = pid(&mut builder);
    let mut observer = db.connect();
    thread::scope(|scope| {
        let building_index = scope
            .spawn(move || builder.batch_execute("CREATE INDEX CONCURRENTLY ON posts (title)"));
        wait_until_blocked(&mut observer, building);
        check();
        writer.batch_execute("COMMIT").unwrap();
        building_index.join().unwrap().expect("it was spared");
    });
}

#[test]
fn a_session_that_builds_an_index_concurrently_is_spared() {
    let db = Database::new();
    while_an_index_is_built(&db, || {
        let prioritizer = at_once(&db)
            .victims(Victims::All)
            .spare(|it| it.application_name.as_deref() == Some("writer"))
            .lock_timeout(Duration::from_millis(600));
        let ran = db.connect().prioritize(&prioritizer, |conn| {
            conn.batch_execute("ALTER TABLE posts ADD COLUMN age int")
        });
        assert!(ran.is_err(), "the index is being built");
        let report = prioritizer.report();
        let protections: Vec<_> = report
            .blockers
            .iter()
            .filter_map(|it| it.protection)
            .collect();
        assert!(
            protections.contains(&Protection::ConcurrentIndex),
            "{report}"
        );
    });
}

#[test]
fn an_observer_lists_what_a_run_would_terminate() {
    let scene = |db: &Database| {
        let holders = ["one", "two", "pg_dump"].map(|name| {
            let mut holder = db.running(&format!("SET application_name = '{name}'"));
            holder.batch_execute("BEGIN; SELECT * FROM users").unwrap();
            holder
        });
        let mut queued = db.connect();
        let pid = pid(&mut queued);
        let waiting = thread::spawn(move || queued.batch_execute("BEGIN; LOCK TABLE users"));
        wait_until_blocked(&mut db.connect(), pid);
        (holders, waiting)
    };
    let names = |report: &PrioritizerReport, outcome: SignalOutcome| -> Vec<String> {
        let is_meant = |it: &&Blocker| it.signals.iter().any(|signal| signal.outcome == outcome);
        let activities = report
            .blockers
            .iter()
            .filter(is_meant)
            .filter_map(|it| it.activity.as_ref());
        let mut names: Vec<_> = activities
            .filter_map(|it| it.application_name.clone())
            .collect();
        names.sort();
        names
    };
    let db = Database::new();
    let (mut holders, waiting) = scene(&db);
    let observed = run_into(&db, at_once(&db).observe());
    assert_eq!(
        names(&observed, SignalOutcome::Observed),
        ["one", "two"],
        "{observed}"
    );
    for holder in &mut holders {
        holder.batch_execute("COMMIT").expect("it lives");
    }
    waiting.join().unwrap().unwrap();

    let db = Database::new();
    let (_holders, _waiting) = scene(&db);
    let real = run_into(&db, at_once(&db));
    assert_eq!(names(&real, SignalOutcome::Sent), ["one", "two"], "{real}");
    assert_eq!(observed.blockers.len(), real.blockers.len());
}

#[test]
fn an_observer_reports_the_denial_that_a_signal_would_meet() {
    let db = Database::new();
    let mut holder = idle_holder(&db);
    let prioritizer = Prioritizer::new(db.role_url())
        .interval(TICK)
        .grace(Duration::ZERO)
        .observe();
    let report = run_into(&db, prioritizer);
    let outcome = &report.blockers[0].signals[0].outcome;
    assert!(matches!(outcome, SignalOutcome::Denied(_)), "{report}");
    holder.batch_execute("COMMIT").unwrap();
}

#[test]
fn a_custom_policy_needs_no_type_annotation() {
    let db = Database::new();
    let _holder = holder_named(&db, "worker");
    let policy = Policy::custom(|blocked, _| match &blocked.blocking_activity {
        Some(activity) if activity.application_name.as_deref() == Some("worker") => {
            Decision::Terminate
        }
        _ => Decision::Wait,
    });
    let prioritizer = at_once(&db).policy(policy);
    db.connect().prioritize(&prioritizer, alter).unwrap();
}

#[test]
fn a_policy_can_be_tested_without_a_server() {
    let mut row = BlockedPgLock::default();
    row.blocking_pid = 7;
    let mut activity = PgActivity::default();
    activity.application_name = Some("worker".to_owned());
    row.blocking_activity = Some(activity);
    let policy = |row: &BlockedPgLock, _: Duration| match row.blocking_pid {
        7 => Decision::Cancel,
        _ => Decision::Wait,
    };
    assert_eq!(policy(&row, Duration::ZERO), Decision::Cancel);
}

#[test]
fn a_session_whose_hidden_worker_waits_is_not_a_root() {
    let db = Database::new();
    let mut waiting = WaitingWorker::new(&db);
    let role = format!("signaller_{}", db.name);
    db.running(&format!(
        "CREATE ROLE {role} LOGIN IN ROLE pg_signal_backend"
    ));
    let url = db.url.replacen("postgres@", &format!("{role}@"), 1);
    let prioritizer = Prioritizer::new(url)
        .interval(TICK)
        .grace(Duration::ZERO)
        .lock_timeout(Duration::from_millis(600));
    let ran = db.connect().prioritize(&prioritizer, |conn| {
        conn.batch_execute("ALTER TABLE users ADD COLUMN age int")
    });
    assert!(
        ran.is_err(),
        "the role may not signal a superuser's session"
    );
    let report = prioritizer.report();
    let pids: Vec<_> = report.blockers.iter().map(|it| it.pid).collect();
    assert_eq!(pids, [Some(waiting.root)], "{report}");
    waiting.holder.batch_execute("COMMIT").unwrap();
    waiting.query.join().unwrap().expect("it was let live");
}

#[test]
fn a_session_that_begins_to_wait_just_before_its_signal_is_no_root_any_more() {
    let db = Database::new();
    let mut holder = db.running("BEGIN; LOCK TABLE users");
    let mut other = db.running("BEGIN; LOCK TABLE posts");
    let holding = pid(&mut holder);
    let begin = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&begin);
    let decide = {
        let observer = Mutex::new(db.connect());
        move |_: &BlockedPgLock, _| {
            begins.store(true, Ordering::SeqCst);
            wait_until_blocked(&mut observer.lock().unwrap(), holding);
            Decision::Terminate
        }
    };
    let prioritizer = at_once(&db).policy(decide);
    let mut conn = db.connect();
    thread::scope(|scope| {
        let held = scope.spawn(|| {
            wait_until("it is about to be signalled", || {
                begin.load(Ordering::SeqCst)
            });
            holder.batch_execute("LOCK TABLE posts; COMMIT")
        });
        let running = scope.spawn(|| {
            conn.prioritize(&prioritizer, |conn| {
                conn.batch_execute("ALTER TABLE users ADD COLUMN age int")
            })
        });
        // The other session is the root now.
        let is_gone = |it: &Blocker| {
            it.pid == Some(holding)
                && it
                    .signals
                    .iter()
                    .all(|it| it.outcome == SignalOutcome::Gone)
        };
        wait_until("the signal was refused", || {
            let report = prioritizer.report();
            report
                .blockers
                .iter()
                .any(|it| is_gone(it) && !it.signals.is_empty())
        });
        running.join().unwrap().unwrap();
        held.join().unwrap().expect("it was let live");
    });
    assert!(other.batch_execute("SELECT 1").is_err(), "it was the root");
}
