//! The return of a run: bounded, and no session is signalled after it.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use diesel_migrations::MigrationHarness;
use diesel_pglock::MIGRATIONS;

use super::*;

/// A stopped server process, which continues when this value is dropped.
pub struct Stopped(i32);

impl Stopped {
    pub fn new(pid: i32) -> Self {
        send(pid, "-STOP");
        Self(pid)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        send(self.0, "-CONT");
    }
}

fn send(pid: i32, signal: &str) {
    let sent = Command::new("kill")
        .args([signal, &pid.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// Returns the process of the watcher of this database.
pub fn watcher_pid(observer: &mut PgConnection) -> i32 {
    let watcher = "SELECT max(pid)::bigint FROM pg_stat_activity
        WHERE application_name LIKE 'pglock watcher for %' AND datname = current_database()";
    i32::try_from(count(observer, watcher)).unwrap()
}

pub fn is_left_behind(report: &PrioritizerReport) -> bool {
    report
        .errors
        .iter()
        .any(|error| error.contains("was left behind"))
}

#[test]
fn a_locked_signal_log_delays_neither_the_signal_nor_the_return() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let mut holder = idle_holder(&db);
    // The log stays locked until the run has returned.
    let mut locker = db.running("BEGIN; LOCK TABLE pglock.signal_log IN SHARE MODE");
    let prioritizer = at_once(&db).audit(true);
    conn.prioritize(&prioritizer, alter).unwrap();
    let report = prioritizer.report();
    assert_eq!(report.victims().count(), 1);
    assert_eq!(report.unlogged.len(), 1, "{report}");
    assert!(
        !report.errors.is_empty() && !is_left_behind(&report),
        "{report}"
    );
    assert!(
        report
            .to_string()
            .contains("not in the signal log: terminate of pid")
    );
    locker.batch_execute("COMMIT").unwrap();
    assert!(holder.batch_execute("SELECT 1").is_err());
}

#[test]
fn an_entry_that_cannot_be_written_is_written_later() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let _holder = idle_holder(&db);
    let mut locker = db.running("BEGIN; LOCK TABLE pglock.signal_log IN SHARE MODE");
    let prioritizer = at_once(&db).audit(true);
    conn.prioritize(&prioritizer, |conn| {
        alter(conn)?;
        wait_until("the entry has failed", || {
            !prioritizer.report().errors.is_empty()
        });
        locker.batch_execute("COMMIT")?;
        wait_until("the entry is written", || {
            count(&mut observer, "SELECT count(*) FROM pglock.signal_log") == 1
        });
        Ok::<_, Error>(())
    })
    .unwrap();
    assert!(prioritizer.report().unlogged.is_empty());
}

#[test]
fn a_log_that_the_run_itself_has_locked_is_written_at_its_end() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let _holder = idle_holder(&db);
    let prioritizer = at_once(&db).audit(true);
    conn.prioritize(&prioritizer, |conn| {
        conn.transaction(|conn| {
            conn.batch_execute("LOCK TABLE pglock.signal_log")?;
            alter(conn)
        })
    })
    .unwrap();
    let report = prioritizer.report();
    assert!(report.unlogged.is_empty(), "{report}");
    assert_eq!(
        count(&mut conn, "SELECT count(*) FROM pglock.signal_log"),
        1
    );
}

#[test]
fn an_entry_of_the_log_does_not_wait_for_a_synchronous_standby() {
    let server = pglock_sandbox::Sandbox::start().unwrap();
    let db = Database::on(&server);
    let mut conn = db.running("SET synchronous_commit = local");
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    let _holder = idle_holder(&db);
    require_standby(&mut conn, "nobody");
    let prioritizer = at_once(&db).audit(true);
    conn.prioritize(&prioritizer, alter).unwrap();
    let report = prioritizer.report();
    assert!(
        report.errors.is_empty() && report.unlogged.is_empty(),
        "{report}"
    );
    assert_eq!(
        count(&mut conn, "SELECT count(*) FROM pglock.signal_log"),
        1
    );
}

#[test]
fn a_pool_gets_the_watchers_session_back_as_it_was() {
    let db = Database::new();
    let manager = diesel::r2d2::ConnectionManager::<PgConnection>::new(&db.url);
    let pool = diesel::r2d2::Pool::builder()
        .max_size(1)
        .build(manager)
        .unwrap();
    let names = [
        "application_name",
        "statement_timeout",
        "lock_timeout",
        "synchronous_commit",
    ];
    let settings = || {
        let mut conn = pool.get().unwrap();
        (pid(&mut conn), names.map(|name| setting(&mut conn, name)))
    };
    let before = settings();
    let prioritizer = Prioritizer::new(pool.clone());
    let ran = db
        .connect()
        .prioritize(&prioritizer, |_| Ok::<_, Error>(()));
    ran.unwrap();
    assert_eq!(settings(), before);
}

#[test]
fn a_signal_stays_in_the_report_although_its_entry_hangs() {
    let db = Database::new();
    let mut conn = db.connect();
    conn.run_pending_migrations(MIGRATIONS).unwrap();
    db.running(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$;
         CREATE TRIGGER slow BEFORE INSERT ON pglock.signal_log
             FOR EACH ROW EXECUTE FUNCTION slow()",
    );
    let _holder = idle_holder(&db);
    let prioritizer = at_once(&db).audit(true);
    conn.prioritize(&prioritizer, alter).unwrap();
    let report = prioritizer.report();
    assert!(is_left_behind(&report), "{report}");
    assert_eq!(report.victims().count(), 1, "{report}");
    assert_eq!(report.unlogged.len(), 1, "{report}");
}

#[test]
fn a_watcher_whose_server_process_is_stopped_is_left_behind() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let prioritizer = at_once(&db);
    let stopped = conn.prioritize(&prioritizer, |_| {
        let stopped = Stopped::new(watcher_pid(&mut observer));
        let polls = prioritizer.report().polls;
        wait_until("a poll may be under way", || {
            prioritizer.report().polls <= polls + 1
        });
        Ok::<_, Error>(stopped)
    });
    // It returned although the process is still stopped.
    let report = prioritizer.report();
    assert!(is_left_behind(&report), "{report}");
    assert_eq!(report.succeeded, Some(true));
    drop(stopped);
    wait_until("the mark ends with the watcher's session", || {
        marks(&mut observer) == 0
    });
    assert_eq!(
        prioritizer.report().errors,
        report.errors,
        "it changes no more"
    );
}

#[test]
fn a_signal_that_waits_in_a_stopped_process_expires() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let stopped = Arc::new(Mutex::new(None));
    let (stopping, url) = (Arc::clone(&stopped), db.url.clone());
    // The blocker is known, and the next statement of the watcher is the signal.
    let prioritizer = at_once(&db).on_event(move |event| {
        if let PrioritizerEvent::Blocked(_) = event {
            let mut observer = PgConnection::establish(&url).unwrap();
            let stopped = Stopped::new(watcher_pid(&mut observer));
            *stopping.lock().unwrap() = Some(stopped);
        }
    });
    let ran = conn.prioritize(&prioritizer, |conn| {
        let timeout = Duration::from_millis(500);
        conn.with_lock_timeout(timeout, |conn| alter(conn).map_err(Error::from))
    });
    assert!(ran.is_err(), "the blocker lives");
    let report = prioritizer.report();
    assert!(is_left_behind(&report), "{report}");
    assert_eq!(report.blockers.len(), 1, "{report}");
    assert!(
        report.errors[0].contains("was signalled is unknown"),
        "{report}"
    );
    stopped.lock().unwrap().take().expect("it was stopped");
    let mut observer = db.connect();
    wait_until("the watcher's session is gone", || {
        marks(&mut observer) == 0
    });
    holder
        .batch_execute("COMMIT")
        .expect("no signal came later");
}

#[test]
fn a_watcher_that_never_connects_again_is_left_behind() {
    let db = Database::new();
    let (mut conn, mut observer) = (db.connect(), db.connect());
    let (url, is_first) = (db.url.clone(), AtomicBool::new(true));
    let connecting = Arc::new(AtomicBool::new(false));
    let connects = Arc::clone(&connecting);
    let prioritizer = Prioritizer::new(move || {
        if !is_first.swap(false, Ordering::SeqCst) {
            connects.store(true, Ordering::SeqCst);
            thread::park_timeout(LONG);
        }
        PgConnection::establish(&url)
    });
    conn.prioritize(&prioritizer.interval(TICK), |_| {
        let kill = format!(
            "SELECT pg_terminate_backend({})",
            watcher_pid(&mut observer)
        );
        observer.batch_execute(&kill)?;
        wait_until("it connects again", || connecting.load(Ordering::SeqCst));
        Ok::<_, Error>(())
    })
    .unwrap();
    assert!(Instant::now().elapsed() < LONG);
}

#[test]
fn a_url_that_the_caller_only_borrows_is_a_source() {
    let db = Database::new();
    let (mut conn, url) = (db.connect(), db.url.clone());
    let prioritizer = Prioritizer::new(url.as_str());
    conn.prioritize(&prioritizer, |_| Ok::<_, Error>(()))
        .unwrap();
    assert_eq!(prioritizer.report().succeeded, Some(true));
}

#[test]
fn a_report_can_be_read_while_the_run_goes_on() {
    let db = Database::new();
    let (mut conn, mut holder) = (db.connect(), idle_holder(&db));
    let prioritizer = Prioritizer::new(db.url.clone()).interval(TICK).grace(LONG);
    thread::scope(|scope| {
        let running = scope.spawn(|| conn.prioritize(&prioritizer, alter));
        wait_until("the blocker is known", || {
            prioritizer.report().blockers.len() == 1
        });
        assert_eq!(prioritizer.report().succeeded, None);
        holder.batch_execute("COMMIT").unwrap();
        running.join().unwrap().unwrap();
    });
    assert_eq!(prioritizer.report().succeeded, Some(true));
}
